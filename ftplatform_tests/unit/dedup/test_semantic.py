"""Semantic duplicates: all pairs in bounded blocks, and the same rules for representatives."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ftplatform.dedup import semantic
from ftplatform.dedup.semantic import embed, semantic_cover, semantic_pairs
from ftplatform.dedup.vectors import char_tfidf
from ftplatform.errors import InputDataError


def vectors(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_find_exactly_the_pairs_of_the_definition(block: int) -> None:
    points = vectors(100)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    left, right = np.nonzero(np.triu(unit @ unit.T >= 0.5, 1))
    found = semantic_pairs(points, 0.5, block=block)
    assert list(zip(found.left, found.right, strict=True)) == list(zip(left, right, strict=True))
    assert found.similarity == pytest.approx((unit @ unit.T)[left, right], abs=1e-5)
    assert len(left) > 20


def test_equal_directions_are_found_at_one_and_zero_vectors_never() -> None:
    points = np.array([[3, 4], [6, 8], [0, 0], [0, 0]], np.float32)
    found = semantic_pairs(points, 1.0)
    assert (found.left.tolist(), found.right.tolist()) == ([0], [1])


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = vectors(10)
    points[7, 2] = np.nan
    with pytest.raises(InputDataError, match="row 7"):
        semantic_pairs(points, 0.9)
    with pytest.raises(InputDataError, match="threshold 0"):
        semantic_pairs(vectors(3), 0.0)
    with pytest.raises(InputDataError, match=r"shape \(2, 3\) for 3 texts"):
        embed(pl.Series(["a", "b", "c"]), lambda texts: np.ones((2, 3), np.float32))
    monkeypatch.setattr(semantic, "MAX_PAIRS", 5)
    with pytest.raises(InputDataError, match="Raise the threshold"):
        semantic_pairs(np.ones((10, 2), np.float32), 0.9)


def test_no_rows() -> None:
    assert len(semantic_pairs(np.zeros((0, 4), np.float32), 0.9).left) == 0
    assert len(semantic_cover(np.zeros((0, 4), np.float32), 0.9).keeper) == 0
    assert embed(pl.Series([], dtype=pl.String), lambda texts: vectors(0)).shape[0] == 0


def test_every_removed_row_is_as_close_as_promised_to_a_kept_one() -> None:
    points = (np.repeat(vectors(30, seed=1), 10, axis=0) + 0.25 * vectors(300, seed=2)).astype(np.float32)
    cover = semantic_cover(points, 0.9)
    unit = semantic.normalized(points)
    gone = np.flatnonzero(~cover.kept)
    assert len(gone) > 100
    assert (np.einsum("ij,ij->i", unit[gone], unit[cover.keeper[gone]]) >= 0.9 - 1e-5).all()
    assert cover.kept[cover.keeper].all()


def encode(texts: list[str]) -> np.ndarray:
    """Hashed character TF-IDF as a stand-in encoder."""
    return char_tfidf(pl.Series(texts)).toarray().astype(np.float32)


def test_opposite_answers_of_alike_texts_are_merged_without_labels_and_kept_with_them() -> None:
    texts = pl.Series(
        ["please refund order 17, it is broken: approved", "please refund order 17, it is broken: denied", "hi", "..."]
    )
    points = embed(texts, encode)
    naive = semantic_cover(points, 0.6)
    assert naive.kept.tolist() == [True, False, True, True]  # the refusal is gone
    ours = semantic_cover(points, 0.6, labels=["approved", "denied", "", ""])
    assert ours.kept.all()
    assert not points[3].any()  # a text without words has no meaning to share
