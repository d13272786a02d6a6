from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from benchmarks.dedup_corpus import corpus, sources
from ftplatform.errors import InputDataError
from ftplatform.kernels.clusters import Clusters, near_duplicate_clusters
from ftplatform.kernels.lsh import banding, candidate_pairs
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.kernels.similarity import connected_components
from ftplatform_tests.unit.kernels import reference

THRESHOLD = 0.7


def true_pairs(texts: list[str]) -> dict[tuple[int, int], float]:
    """Every pair at or above the threshold, by an inverted index of plain Python sets."""
    sets = [reference.shingles(text) for text in texts]
    at: dict[bytes, list[int]] = {}
    common: dict[tuple[int, int], int] = {}
    for i, shingles in enumerate(sets):
        for shingle in shingles:
            for j in at.setdefault(shingle, []):
                common[j, i] = common.get((j, i), 0) + 1
            at[shingle].append(i)
    alike = {(i, j): both / (len(sets[i]) + len(sets[j]) - both) for (i, j), both in common.items()}
    return {pair: similarity for pair, similarity in alike.items() if similarity >= THRESHOLD}


def assert_sound(texts: list[str], found: Clusters) -> None:
    """Every joined pair is a true one, and what is told of the representatives is true."""
    sets = [reference.shingles(text) for text in texts]
    for i, j, similarity in zip(found.pairs.left, found.pairs.right, found.pairs.similarity, strict=True):
        assert i < j
        assert similarity == reference.jaccard(sets[i], sets[j]) >= THRESHOLD
    for row, representative in enumerate(found.representative):
        assert found.cluster[row] == found.cluster[representative]
        assert found.representative[representative] == representative
        expected = reference.jaccard(sets[row], sets[representative]) if row != representative else 1.0
        assert found.similarity[row] == expected
    assert (found.cluster == [np.flatnonzero(found.cluster == c)[0] for c in found.cluster]).all()


@pytest.fixture(scope="module")
def planted(shared_data: Path) -> list[str]:
    return corpus(sources(shared_data), 3000, seed=4)["text"].to_pylist()


def test_real_texts_with_planted_copies(backend: str, planted: list[str]) -> None:
    found = near_duplicate_clusters(pa.array(planted), THRESHOLD)
    assert_sound(planted, found)
    pairs = true_pairs(planted)
    removed = found.representative != np.arange(len(planted))
    alive = [(i, j) for i, j in pairs if not removed[i] and not removed[j]]
    assert len(pairs) > 400
    assert len(alive) <= 0.005 * len(pairs)
    ends = np.array(list(pairs))
    true_cluster = connected_components(len(planted), ends[:, 0], ends[:, 1])
    assert set(true_cluster[~removed]) == set(true_cluster)  # each has a survivor
    assert not found.sampled


def test_backends_and_threads_agree(planted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for backend, workers in (("numba", 1), ("numba", 3), ("numpy", 1), ("numpy", 3)):
        monkeypatch.setenv("FTPLATFORM_KERNELS", backend)
        results.append(near_duplicate_clusters(pl.Series(planted), THRESHOLD, workers=workers))
    for other in results[1:]:
        for name in ("cluster", "representative", "similarity"):
            np.testing.assert_array_equal(getattr(results[0], name), getattr(other, name))
        np.testing.assert_array_equal(results[0].pairs.left, other.pairs.left)
        np.testing.assert_array_equal(results[0].pairs.right, other.pairs.right)


def crowded_texts(rows: int, copies: int) -> list[str]:
    """77 words of boilerplate and 25 of their own (Jaccard .60); the first `copies` return with 16 of those changed (J = 84 / 116)."""
    random = np.random.default_rng(9)
    boilerplate = [f"notice{k}" for k in range(77)]
    own = [[f"w{v}" for v in random.integers(1 << 30, size=25)] for _ in range(rows)]
    changed = [[*tail[:9], *(f"x{v}" for v in random.integers(1 << 30, size=16))] for tail in own[:copies]]
    return [" ".join(boilerplate + tail) for tail in own + changed]


def test_adv_boilerplate_crowds_every_bucket(backend: str) -> None:
    texts = crowded_texts(6000, 400)
    truth = {(i, 6000 + i) for i in range(400)}
    assert reference.jaccard(reference.shingles(texts[0]), reference.shingles(texts[6000])) == 84 / 116
    bands, rows = banding(THRESHOLD, 128, 0.98)
    signatures = minhash(shingle_sets(pl.Series(texts)))
    naive = candidate_pairs(signatures, bands, rows)
    met = set(zip(naive.left.tolist(), naive.right.tolist(), strict=True))
    assert len(truth & met) / 400 < 0.95  # one look at capped buckets loses pairs
    assert len(naive.crowded) > 5000
    found = near_duplicate_clusters(pl.Series(texts), THRESHOLD)
    assert len(found.pairs.left) >= 0.98 * 400
    assert set(zip(found.pairs.left.tolist(), found.pairs.right.tolist(), strict=True)) <= truth


def test_a_template_a_thousand_times_is_one_cluster(backend: str) -> None:
    body = " ".join(f"line{k}" for k in range(50))
    texts = [f"dear customer {i} {body} regards" for i in range(1000)]
    found = near_duplicate_clusters(pl.Series(texts), THRESHOLD)
    assert (found.cluster == 0).all()
    assert len(np.unique(found.representative)) == 1
    assert (found.similarity >= THRESHOLD).all()
    assert len(found.pairs.left) < 100_000  # of 499,500


def test_exact_copies_need_no_similarity(backend: str) -> None:
    texts = ["Cancel my order!", "something else entirely here", "cancel MY order", "cancel my, order", "order my cancel"]
    found = near_duplicate_clusters(pl.Series(texts), 1.0)
    assert found.cluster.tolist() == [0, 1, 0, 0, 4]
    assert found.representative.tolist() == [0, 1, 0, 0, 4]
    assert found.similarity.tolist() == [1.0] * 5
    assert not len(found.pairs.left)


def test_the_same_shingles_in_another_order_are_near_not_exact(backend: str) -> None:
    texts = ["a b c a b c a", "b c a b c a b"]
    found = near_duplicate_clusters(pl.Series(texts), 1.0)
    assert found.cluster.tolist() == [0, 0]
    assert found.pairs.similarity.tolist() == [1.0]


def test_rows_without_words_are_nobodys_duplicate(backend: str) -> None:
    texts = pl.Series(["🙂", "", None, "?!", "yes", "Yes.", "🙂"])
    found = near_duplicate_clusters(texts, 0.5)
    assert found.cluster.tolist() == [0, 1, 2, 3, 4, 4, 6]


def test_the_medoid_stands_for_its_cluster(backend: str) -> None:
    words = [f"w{k}" for k in range(40)]
    center = " ".join(words)
    texts = [" ".join(["x", *words[1:]]), " ".join([*words[:-1], "y"]), center, " ".join([*words[:20], "z", *words[21:]])]
    found = near_duplicate_clusters(pl.Series(texts), 0.7)
    assert found.representative.tolist() == [2, 2, 2, 2]
    assert found.similarity[0] == pytest.approx(37 / 39)


def test_a_chain_is_told_by_its_similarity(backend: str) -> None:
    words = [f"w{k}" for k in range(100)]
    texts = [" ".join(words[start : start + 60]) for start in range(0, 40, 8)]
    found = near_duplicate_clusters(pl.Series(texts), 0.7)
    assert (found.cluster == 0).all()
    assert len(set(found.representative.tolist())) == 1
    assert found.similarity.min() < 0.7 <= found.pairs.similarity.min()


def test_no_rows(backend: str) -> None:
    for texts in (pa.array([], pa.string()), pa.array(["", None])):
        found = near_duplicate_clusters(texts)
        assert found.cluster.tolist() == list(range(len(texts)))


@pytest.mark.parametrize(("threshold", "recall"), [(0.0, 0.98), (1.1, 0.98), (0.8, 1.0), (0.8, 0.0)])
def test_settings_out_of_range(threshold: float, recall: float) -> None:
    with pytest.raises(InputDataError, match=r"not in \(0, 1"):
        near_duplicate_clusters(pl.Series(["a"]), threshold, recall=recall)


def test_many_rows_without_words_crowd_nothing() -> None:
    texts = pa.array(["?!" if i % 2 else "🙂" for i in range(80)] + ["one and the same sentence twice"] * 2)
    found = near_duplicate_clusters(texts, 0.7)
    assert found.similarity.tolist() == [1.0] * 82
    assert found.cluster.tolist() == [*range(81), 80]
    assert not found.sampled
