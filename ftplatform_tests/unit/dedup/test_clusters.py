"""Representatives and weights of clusters, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.dedup.clusters import cluster_ids, cluster_weights, keep_k, representatives, split_clusters


class Line:
    """Rows on a line; similarity falls with distance."""

    def __init__(self, *places: float) -> None:
        self.places = np.array(places)
        self.calls = 0

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.calls += 1
        return 1 - np.abs(self.places[left] - self.places[right]) / 100


def test_connected_rows_form_clusters_numbered_by_their_first_row() -> None:
    left, right = np.array([3, 1, 2]), np.array([5, 4, 5])
    assert cluster_ids(7, left, right).tolist() == [0, 1, 2, 2, 1, 2, 3]
    assert cluster_ids(0, left[:0], right[:0]).tolist() == []


def test_clusters_are_divided_by_label() -> None:
    cluster = np.array([0, 0, 0, 1, 1])
    assert split_clusters(cluster, ["approve", "deny", "approve", "deny", "deny"]).tolist() == [0, 1, 0, 2, 2]


def test_keep_k_is_the_larger_of_floor_and_root() -> None:
    assert keep_k([1, 2, 3, 4, 11, 100, 101]).tolist() == [1, 1, 1, 2, 3, 10, 10]
    assert keep_k([1, 3, 5, 8, 100], floor=5).tolist() == [1, 3, 5, 5, 10]


def test_medoid_first_then_the_farthest() -> None:
    line = Line(0, 1, 2, 3, 4, 50, 200)
    cluster = np.zeros(7, np.int64)
    one = representatives(cluster, line, np.array([1]))
    assert one.keeper.tolist() == [3] * 7
    two = representatives(cluster, line, np.array([2]))
    assert np.flatnonzero(two.kept).tolist() == [3, 6]
    three = representatives(cluster, line, np.array([3]))
    assert np.flatnonzero(three.kept).tolist() == [3, 5, 6]
    assert three.similarity == pytest.approx([0.97, 0.98, 0.99, 1, 0.99, 1, 1])


def test_keep_first_would_have_kept_the_margin() -> None:
    # Ten rows around 50 and the first one at the edge: the first row stands far from what it stands for.
    places = [0.0, *np.linspace(45, 55, 10)]
    chosen = representatives(np.zeros(11, np.int64), Line(*places), np.array([1]))
    naive = np.abs(np.array(places) - places[0]).mean()
    ours = np.abs(np.array(places) - places[int(np.flatnonzero(chosen.kept)[0])]).mean()
    assert ours < naive / 5


def test_a_chain_is_covered_and_not_swallowed() -> None:
    # Neighbors are alike, the ends are not: one representative for the component would lose the ends.
    line = Line(*range(0, 100, 10))
    cluster = np.zeros(10, np.int64)
    alone = representatives(cluster, line, np.array([1]))
    assert alone.similarity.min() < 0.6
    covered = representatives(cluster, line, np.array([1]), threshold=0.85)
    assert covered.similarity.min() >= 0.85
    assert 3 <= covered.kept.sum() <= 5


def test_all_clusters_are_served_in_step() -> None:
    rng = np.random.default_rng(0)
    line = Line(*rng.uniform(0, 100, 3_000))
    cluster = np.arange(3_000) // 3
    representatives(cluster, line, np.ones(1_000, np.int64))
    assert line.calls <= 4  # a thousand clusters, not a thousand calls


def test_equal_rows_go_by_rank() -> None:
    cluster, keep = np.zeros(4, np.int64), np.array([1])
    assert representatives(cluster, Line(5, 5, 5, 5), keep).keeper.tolist() == [0] * 4
    ranked = representatives(cluster, Line(5, 5, 5, 5), keep, rank=np.array([3, 2, 0, 1]))
    assert ranked.keeper.tolist() == [2] * 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), min_size=1, max_size=40),
    st.integers(1, 4),
    st.sampled_from([None, 0.5, 0.9]),
)
def test_every_row_is_kept_or_stood_for_by_the_nearest_kept_row_of_its_cluster(
    rows: list[tuple[int, int]], floor: int, threshold: float | None
) -> None:
    labels, places = np.array([a for a, _ in rows]), [b for _, b in rows]
    cluster = split_clusters(np.zeros(len(rows), np.int64), labels)
    line = Line(*places)
    keep = keep_k(np.bincount(cluster), floor)
    cover = representatives(cluster, line, keep, threshold=threshold)
    kept = np.flatnonzero(cover.kept)
    counts = np.bincount(cluster[kept], minlength=len(keep))
    assert (counts >= keep).all()
    if threshold is None:
        assert (counts == keep).all()
    else:
        assert (cover.similarity >= threshold).all()
    for i in range(len(rows)):
        near = [float(line(np.array([i]), np.array([k]))[0]) for k in kept if cluster[k] == cluster[i]]
        assert cluster[cover.keeper[i]] == cluster[i]
        assert cover.similarity[i] == pytest.approx(1.0 if cover.kept[i] else max(near))


def test_many_pairs_of_large_clusters_stay_bounded() -> None:
    line = Line(*np.linspace(0, 100, 5_000))
    cover = representatives(np.zeros(5_000, np.int64), line, keep_k([5_000]))
    assert cover.kept.sum() == math.isqrt(5_000)
    # The medoid of evenly spaced rows is near the middle although it was found by 64 references.
    first = representatives(np.zeros(5_000, np.int64), line, np.array([1]))
    assert abs(line.places[np.flatnonzero(first.kept)[0]] - 50) < 3


def test_a_cluster_weighs_as_much_as_its_representatives() -> None:
    cluster = np.array([0] * 100 + [1] * 4 + [2])
    result = cluster_weights(cluster)
    assert result.weights[:100].sum() == pytest.approx(10)
    assert result.weights[100:104].sum() == pytest.approx(2)
    assert result.weights[104] == 1
    assert result.mean == pytest.approx(13 / 105)
    assert result.clusters == 2
    assert (cluster_weights(cluster, floor=5).weights[:100].sum(), cluster_weights(cluster, floor=5).weights[100]) == (
        pytest.approx(10),
        1,
    )
    assert cluster_weights(cluster[:0]).mean == 1


def test_weights_alone_would_drain_a_slice_of_one_cluster() -> None:
    # The eleven hostile rows are one cluster: weighed like sqrt(11) = 3 rows they fall below the floor of 5.
    cluster = np.array([0] * 11 + list(range(1, 101)))
    membership = pl.DataFrame({"row": np.arange(11), "slice": ["hostile"] * 11})
    naive = cluster_weights(cluster)
    assert naive.weights[:11].sum() == pytest.approx(3)
    guarded = cluster_weights(cluster, membership=membership, limits={"hostile": 5})
    assert guarded.weights[:11].sum() == pytest.approx(5)
    assert guarded.raised == ("hostile",)
    assert (guarded.weights <= 1).all()
    assert guarded.weights[11:].tolist() == naive.weights[11:].tolist()


def test_a_slice_smaller_than_its_floor_keeps_full_weight() -> None:
    cluster = np.zeros(30, np.int64)
    membership = pl.DataFrame({"row": [0, 1, 2], "slice": ["rare"] * 3})
    weights = cluster_weights(cluster, membership=membership, limits={"rare": 5}).weights
    assert weights[:3].tolist() == pytest.approx([1, 1, 1])
    assert weights[3] == pytest.approx(5 / 30)
