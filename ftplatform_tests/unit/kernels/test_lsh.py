from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.kernels import lsh
from ftplatform.kernels.lsh import FULL_BUCKET, LINKS, band_keys, banding, bucket_pairs, candidate_pairs, sorted_keys, stable_order
from ftplatform.kernels.minhash import EMPTY


def by_hand(signatures: np.ndarray, bands: int, rows: int) -> set[tuple[int, int]]:
    cut = [[tuple(s[b : bands * rows : bands]) for b in range(bands)] for s in signatures]
    full = [i for i, s in enumerate(signatures) if (s != EMPTY).any()]
    return {(i, j) for i, j in itertools.combinations(full, 2) if any(a == b for a, b in zip(cut[i], cut[j], strict=True))}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), n=st.integers(0, 60), values=st.integers(1, 6))
def test_candidates_are_the_pairs_that_share_a_band(backend: str, seed: int, n: int, values: int) -> None:
    signatures = np.random.default_rng(seed).integers(0, values, (n, 12), dtype=np.uint32)
    signatures[::7] = EMPTY
    found = candidate_pairs(signatures, 4, 3)
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    exact = by_hand(signatures, 4, 3)
    assert len(pairs) == len(found.left)
    assert pairs <= exact
    incomplete = set(found.crowded.tolist())
    assert {(i, j) for i, j in exact - pairs} <= set(itertools.combinations(sorted(incomplete), 2))


def test_backends_pair_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(0).integers(0, 60, (5, 3000), dtype=np.uint32) ** 5  # buckets of fifty
    found = []
    for backend in ("numba", "numpy"):
        monkeypatch.setenv("FTPLATFORM_KERNELS", backend)
        found.append(bucket_pairs(keys, workers=2))
    for one, other in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(found[0].crowded) == 3000


def test_a_giant_bucket_costs_linear_work_and_stays_connected(backend: str) -> None:
    n = 20_000
    keys = np.full((1, n), 7, np.uint32)
    found = bucket_pairs(keys)
    assert n - 1 <= len(found.left) <= n * (LINKS + 1) < FULL_BUCKET * n
    assert set(found.right.tolist()) == set(range(1, n))
    assert len(found.crowded) == n


def test_sorting_is_stable_and_exact(backend: str) -> None:
    random = np.random.default_rng(1)
    keys = random.integers(0, 1 << 32, 5000, dtype=np.uint32)
    keys[::3] = keys[0]
    scratch = np.empty((2, 5000), np.uint64) if backend == "numba" else None
    ordered = sorted_keys(keys, scratch)
    np.testing.assert_array_equal(ordered & np.uint64(0xFFFFFFFF), np.argsort(keys, kind="stable").astype(np.uint64))
    hashes = random.integers(0, 1 << 63, 5000).astype(np.uint64)
    hashes[::5] = hashes[1]
    np.testing.assert_array_equal(stable_order(hashes), np.argsort(hashes, kind="stable"))


def test_keys_tell_bands_apart(backend: str) -> None:
    signatures = np.random.default_rng(2).integers(0, 1 << 32, (5000, 8), dtype=np.uint32)
    signatures[1] = signatures[0]
    keys = band_keys(signatures, 2, 4)
    assert keys.shape == (2, 5000)
    assert (keys[:, 0] == keys[:, 1]).all()
    assert len(np.unique(keys[0])) >= 4998  # 5000**2 / 2**33 = .003 accidental pairs are expected


def test_banding_keeps_its_promise() -> None:
    assert banding(0.7, 128, 0.98) == (25, 5)
    for threshold in (0.3, 0.5, 0.8, 0.95, 1.0):
        bands, rows = banding(threshold, 128, 0.99)
        assert bands * rows <= 128
        assert 1 - (1 - threshold**rows) ** bands >= 0.99


def test_distinct_pairs_survive_merging_in_parts(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    keys = np.random.default_rng(3).integers(0, 2000, (30, 9000), dtype=np.uint32)
    whole = bucket_pairs(keys)
    assert len(whole.left) > 100_000
    monkeypatch.setattr(lsh, "_MERGE", 1000)
    parts = bucket_pairs(keys)
    np.testing.assert_array_equal(whole.left, parts.left)
    np.testing.assert_array_equal(whole.right, parts.right)
