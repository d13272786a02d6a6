"""Nearest neighbors of short texts by their character sequences: no model, robust to typos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Neighbors:
    """For each query, cosine similarity of the nearest text of the pool and its position; shape (n,)."""

    similarity: NDArray[np.float64]
    position: NDArray[np.intp]


class CharacterSpace:
    """Texts as TF-IDF vectors of character 2- to 4-grams inside words, lower case, sublinear counts, unit length.

    Args:
        texts: what the document frequencies are counted on.
    """

    def __init__(self, texts: Sequence[pl.Series]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=(2, 4),
            min_df=2,
            sublinear_tf=True,
            dtype=np.float32,  # pyright: ignore[reportArgumentType]
        )
        self._vectorizer.fit(pl.concat(texts).to_list())

    def nearest(self, queries: pl.Series, pool: pl.Series) -> Neighbors:
        """The nearest text of `pool` for each query; memory is a block of queries by the pool."""
        ours, theirs = self._vectors(queries), self._vectors(pool).T.tocsc()
        similarity, position = np.empty(len(queries)), np.empty(len(queries), dtype=np.intp)
        for start in range(0, len(queries), _BLOCK):
            block = (ours[start : start + _BLOCK] @ theirs).toarray()
            here = slice(start, start + len(block))
            position[here] = block.argmax(axis=1)
            similarity[here] = block.max(axis=1)
        return Neighbors(similarity, position)

    def _vectors(self, texts: pl.Series) -> Any:
        return self._vectorizer.transform(texts.to_list())
