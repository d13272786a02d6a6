from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.kernels.similarity import connected_components, jaccard, promising
from ftplatform_tests.unit.kernels import reference

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=25).map(" ".join), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, threshold=st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.75, 0.8, 1.0]))
def test_similarity_is_that_of_python_sets(backend: str, texts: list[str], threshold: float) -> None:
    sets = shingle_sets(pl.Series(texts))
    plain = [reference.shingles(text) for text in texts]
    left, right = (part.ravel() for part in np.indices((len(texts), len(texts))))
    exact = np.array([reference.jaccard(plain[i], plain[j]) for i, j in zip(left, right, strict=True)])
    found = jaccard(sets, left, sets, right, threshold=threshold)
    np.testing.assert_array_equal(found, np.where(exact >= threshold, exact, 0.0))


def test_pairs_across_two_collections(backend: str) -> None:
    a, b = shingle_sets(pl.Series(["x", "a b c d e"])), shingle_sets(pl.Series(["a b c d", "", "q"]))
    assert jaccard(a, np.array([1, 1, 0]), b, np.array([0, 1, 2])).tolist() == [2 / 3, 0.0, 0.0]
    assert jaccard(a, np.zeros(0, np.int64), b, np.zeros(0, np.int64)).shape == (0,)


@given(n=st.integers(1, 30), data=st.data())
@settings(max_examples=80, deadline=None)
def test_components_are_named_by_their_smallest_node(n: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    label = list(range(n))
    for _ in range(n):
        for i, j in pairs:
            label[i] = label[j] = min(label[i], label[j])
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    assert connected_components(n, ends[:, 0], ends[:, 1]).tolist() == label


def test_the_estimate_drops_the_dissimilar_and_no_pair_above_the_threshold(backend: str) -> None:
    random = np.random.default_rng(5)
    base = [[f"w{v}" for v in random.integers(5000, size=90)] for _ in range(300)]
    edited = [[f"e{i}{k}" if random.random() < 0.03 else word for k, word in enumerate(text)] for i, text in enumerate(base)]
    texts = [" ".join(text) for text in base + edited]
    sets = shingle_sets(pl.Series(texts))
    signatures = minhash(sets, 64)
    left = np.concatenate([np.arange(300), np.arange(300)])
    right = np.concatenate([np.arange(300) + 300, np.roll(np.arange(300), 1)])
    exact = jaccard(sets, left, sets, right)
    for digests in (signatures, signatures.astype(np.uint8)):
        kept = promising(digests, left, digests, right, 0.7)
        assert kept[exact >= 0.7].all()
        assert not kept[exact < 0.2].any()
    assert (exact >= 0.7).sum() > 150
    assert (exact < 0.2).sum() >= 300
