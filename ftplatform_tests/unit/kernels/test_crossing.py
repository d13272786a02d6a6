from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.dedup_corpus import corpus, sources
from ftplatform.kernels.crossing import band_index, cross_candidates, cross_join
from ftplatform.kernels.lsh import FULL_BUCKET, banding
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform_tests.unit.kernels import reference


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    return corpus(sources(shared_data), 1000, seed=6)["text"].to_pylist()


@pytest.fixture(scope="module")
def exact(texts: list[str]) -> dict[tuple[int, int], float]:
    sets = [reference.shingles(text) for text in texts]
    new, stored = sets[700:], sets[:700]
    return {(i, j): s for i, a in enumerate(new) for j, b in enumerate(stored) if a & b and (s := reference.jaccard(a, b)) >= 0.7}


def test_new_texts_find_their_likes_among_stored_ones(backend: str, texts: list[str], exact: dict[tuple[int, int], float]) -> None:
    stored, new = shingle_sets(pl.Series(texts[:700])), shingle_sets(pl.Series(texts[700:]))
    stored_signatures, signatures = minhash(stored), minhash(new)
    index = band_index(stored_signatures, *banding(0.7, 128, 0.98))
    found, similarity = cross_join(new, signatures, stored, stored_signatures, index, 0.7)
    pairs = dict(zip(zip(found.left.tolist(), found.right.tolist(), strict=True), similarity.tolist(), strict=True))
    assert len(exact) > 30
    assert pairs.items() <= exact.items()
    assert len(pairs) >= 0.97 * len(exact)


def test_a_crowded_bucket_is_sampled_and_told(backend: str) -> None:
    text = "the very same words in all of the rows"
    signatures = minhash(shingle_sets(pl.Series([text] * 500 + ["quite another row of other words", "?!"])))
    index = band_index(signatures, 25, 5)
    assert index.ordered.shape == (25, 501)
    found = cross_candidates(index, signatures[[501, 500, 0]])
    assert found.crowded.tolist() == [2]
    met = found.right[found.left == 2]
    assert len(met) == FULL_BUCKET
    assert met.min() == 0
    assert met.max() > 450
    assert found.right[found.left == 1].tolist() == [500]
    assert not (found.left == 0).any()


def test_an_empty_index_and_no_new_texts(backend: str) -> None:
    signatures = minhash(shingle_sets(pl.Series(["some words are here", "and some are there"])))
    nothing = np.zeros((0, 128), np.uint32)
    assert not len(cross_candidates(band_index(nothing, 25, 5), signatures).left)
    assert not len(cross_candidates(band_index(signatures, 25, 5), nothing).left)
