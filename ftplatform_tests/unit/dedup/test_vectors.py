"""TF-IDF vectors against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from ftplatform.dedup import vectors
from ftplatform.dedup.vectors import char_tfidf, distance_to_centroid, word_tfidf

TEXTS = ["Where is my order?", "where is my parcel", "", "ok", "Überweisung bitte prüfen", "order order order now please"]


def test_words_weigh_what_scikit_learn_gives_them() -> None:
    reference = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True, min_df=2)
    expected = reference.fit_transform(TEXTS).toarray()
    found = word_tfidf(pl.Series(TEXTS))
    columns = [reference.vocabulary_[word] for word in found.words]
    assert found.matrix.toarray() == pytest.approx(expected[:, columns], abs=1e-6)
    assert found.words[0] in ("is", "my", "order", "where")


def test_characters_compare_like_scikit_learn_up_to_hashing() -> None:
    # An analyzer of its own, since char_wb pads differently: byte 4-grams of the padded lower-case text.
    def grams(text: str) -> list[bytes]:
        content = f" {text.lower()} ".encode()
        return [content[i : i + 4] for i in range(len(content) - 3)]

    analyzer: Any = grams  # the stubs know only the built-in ones
    expected = TfidfVectorizer(analyzer=analyzer, sublinear_tf=True).fit_transform(TEXTS)
    found = char_tfidf(pl.Series(TEXTS))
    assert (found @ found.T).toarray() == pytest.approx((expected @ expected.T).toarray(), abs=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = char_tfidf(pl.Series(TEXTS))
    monkeypatch.setattr(vectors, "_CHUNK", 2)
    assert (char_tfidf(pl.Series(TEXTS)) != whole).nnz == 0
    assert char_tfidf(pl.Series([], dtype=pl.String)).shape[0] == 0


def test_the_odd_one_out_is_farthest_from_the_centroid() -> None:
    texts = [*(f"where is my order number {i}" for i in range(20)), "qqq zzz xxx", ""]
    distance = distance_to_centroid(char_tfidf(pl.Series(texts)))
    assert np.argsort(-distance)[:2].tolist() == [21, 20]
    assert distance[21] == 1
    assert distance[20] > 2 * distance[:20].max()
