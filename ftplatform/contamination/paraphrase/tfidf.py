"""Candidates without a model: TF-IDF over the eval items' words, and the most similar training texts of each item.

Features are words, pairs of neighboring words, and pairs of numbers that stand in one text: a rephrased exercise keeps its numbers,
and two numbers together tell exercises apart where each alone does not. Counts enter by 1 + log, rows have length one (Salton and
Buckley 1988). The features are those of the eval items. Of what else a training text says, only the words lengthen it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform import progress
from ftplatform.contamination.paraphrase.texts import Words, is_number, words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Texts with more different numbers than this (tables, logs) get no pairs of numbers, of which there would be n^2 / 2.
_MAX_NUMBERS = 24
#: More than there are words; two word numbers make one 64-bit key.
_BASE = 1 << 31
#: Scores (items x texts) held at a time; at most 100 MiB with their positions.
_SCORES = 1 << 22


@dataclass(frozen=True)
class Tfidf:
    """TF-IDF over the words of the eval items.

    Attributes:
        codes: number of each known word.
        keys: of the known features, ascending, in three kinds: words (their codes), neighboring words, numbers of one text.
        weights: inverse document frequency of each feature, kind after kind. Shape (features,).
        single: whether a feature is a pair that only one family of items has, shape (features,).
    """

    codes: dict[str, int]
    keys: tuple[NDArray[np.int64], ...]
    weights: NDArray[np.float32]
    single: NDArray[np.bool_]

    @classmethod
    def fit(cls, items: pl.Series, background: pl.Series, families: pl.Series | None = None) -> Tfidf:
        """Learn features from `items`, and how common they are from `items` and `background` (training texts).

        Args:
            families: of each item, never null; None makes each a family of its own.
        """
        said = words(items)
        codes = {word: code for code, word in enumerate(said.vocabulary)}
        keys = tuple(np.unique(found) for _, found in _features(said, codes))
        width = sum(map(len, keys))
        blank = cls(codes, keys, np.ones(width, np.float32), np.zeros(width, bool))
        holders, held = blank._counts(said)[:2]
        family = families.rank("dense").to_numpy() if families is not None else np.arange(len(items))
        first, last = np.full(width, np.iinfo(np.int64).max), np.full(width, -1)
        np.minimum.at(first, held, family[holders])
        np.maximum.at(last, held, family[holders])
        documents = len(items) + len(background)
        seen = np.bincount(np.concatenate([held, blank._counts(words(background))[1]]), minlength=width)
        # Add-one smoothing, and 1 so that a word in every text is not worth nothing.
        weights = np.log((1 + documents) / (1 + seen)) + 1
        single = (first == last) & (np.arange(width) >= len(keys[0]))
        return cls(codes, keys, weights.astype(np.float32), single)

    def matrix(self, texts: pl.Series, *, own: bool = False) -> csr_matrix:
        """Rows of length one (or zero, for a text without a known word); shape (texts, features), float32.

        Args:
            own: the texts are items that stand in for training texts. A pair known only because the item's own family has it is
                then left out, as it would be in a training text; else training texts would seem nearer than items do.
        """
        from scipy.sparse import csr_matrix

        said = words(texts)
        owners, features, counts, unknown = self._counts(said)
        if own:
            kept = ~self.single[features]
            owners, features, counts = owners[kept], features[kept], counts[kept]
        values = (1 + np.log(counts)) * self.weights[features]
        # An unknown word weighs what one weighs that only a single text has: the most there is.
        squares = np.bincount(owners, values**2, minlength=said.n) + unknown * float(self.weights.max(initial=1.0)) ** 2
        values /= np.sqrt(np.maximum(squares, 1e-12))[owners]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=said.n))])
        return csr_matrix((values.astype(np.float32), features, offsets), shape=(said.n, len(self.weights)))

    def _counts(self, said: Words) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(text, feature, count) in order of text and feature, and how many different unknown words each text has."""
        owners, features, start = [], [], 0
        for keys, (owner, key) in zip(self.keys, _features(said, self.codes), strict=True):
            at = np.searchsorted(keys, key)
            hit = at < len(keys)
            hit[hit] = keys[at[hit]] == key[hit]
            owners.append(owner[hit])
            features.append(at[hit] + start)
            start += len(keys)
        strange = np.array([word not in self.codes for word in said.vocabulary], dtype=bool)[said.codes]
        met = pl.DataFrame({"owner": said.owners[strange], "code": said.codes[strange]}).unique()["owner"]
        unknown = np.bincount(met.to_numpy(), minlength=said.n)
        width = max(1, len(self.weights))
        cell, counts = np.unique(np.concatenate(owners) * width + np.concatenate(features), return_counts=True)
        return cell // width, cell % width, counts, unknown


def nearest(
    index: Tfidf, items: csr_matrix, blocks: Iterable[pl.DataFrame], k: int, total: int | None = None, *, own: bool = False
) -> pl.DataFrame:
    """The `k` most similar training texts of each item, over blocks of which one is held at a time.

    Copies of one text take one place, and so do the texts of one row.

    Args:
        items: matrix of the questions, shape (items, features).
        blocks: frames as of `texts.train_texts`.
        total: training rows, for the progress report.
        own: see `Tfidf.matrix`.

    Returns:
        Columns item (position), row, text, key, answer, score (cosine), best first within an item.
    """
    transposed = items.T.tocsr()
    count: int = items.shape[0]  # pyright: ignore[reportOptionalSubscript]
    floor = np.zeros(count, np.float32)
    best: pl.DataFrame | None = None
    largest, size = max(64, _SCORES // max(1, count)), 64
    for block in blocks:
        start = 0
        while start < len(block):
            # Small parts first: they raise the floor before there is much that could pass it.
            part, size, start = block.slice(start, size), min(largest, 2 * size), start + size
            scores = (index.matrix(part["text"], own=own) @ transposed).tocoo()
            # Only what beats the item's k-th best so far can enter; after the first blocks that is next to nothing.
            good = scores.data > floor[scores.col]
            found = part[scores.row[good]].with_columns(
                item=pl.Series(scores.col[good].astype(np.int64)), score=pl.Series(scores.data[good])
            )
            best = _best(found if best is None else pl.concat([best, found.select(best.columns)]), k)
            full = best.group_by("item").agg(pl.col("score").min(), n=pl.len()).filter(pl.col("n") == k)
            floor[full["item"].to_numpy()] = full["score"].to_numpy()
        if len(block):
            progress.advance("contamination_paraphrase candidates", int(block["row"][-1]) + 1, total)
    empty = {"row": pl.Int64, "text": pl.String, "answer": pl.String, "key": pl.UInt64, "item": pl.Int64, "score": pl.Float32}
    return best if best is not None else pl.DataFrame(schema=empty)


def _best(found: pl.DataFrame, k: int) -> pl.DataFrame:
    ordered = found.sort("item", "score", "row", descending=[False, True, False], maintain_order=True)
    once = ordered.unique(["item", "key"], keep="first", maintain_order=True).unique(
        ["item", "row"], keep="first", maintain_order=True
    )
    return once.group_by("item", maintain_order=True).head(k)


def _features(said: Words, known: dict[str, int]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Text and key of every word, of every two neighboring words, and of every two different numbers of one text."""
    numeric = np.array([is_number(word) for word in said.vocabulary], dtype=bool)
    # Words that are not known get numbers after those that are; such keys are found nowhere.
    number = np.array([known.get(word, len(known) + k) for k, word in enumerate(said.vocabulary)], dtype=np.int64)
    codes = number[said.codes]
    together = said.owners[:-1] == said.owners[1:]
    kept = numeric[said.codes]
    numbers = pl.DataFrame({"owner": said.owners[kept], "code": codes[kept]}).unique()
    numbers = numbers.filter(pl.len().over("owner") <= _MAX_NUMBERS)
    both = numbers.join(numbers, on="owner", suffix="_other").filter(pl.col("code") < pl.col("code_other"))
    return [
        (said.owners, codes),
        (said.owners[:-1][together], codes[:-1][together] * _BASE + codes[1:][together]),
        (both["owner"].to_numpy(), both["code"].to_numpy() * _BASE + both["code_other"].to_numpy()),
    ]
