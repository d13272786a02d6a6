"""Excess removal: the numbers of mode M7, Fisher's exact test, and a count of every possible draw."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from ftplatform.statistics.hypergeometric import excess_removal_p


def test_nine_of_eleven_removed_where_28_percent_are():
    # Against a large corpus Fisher's test tends to the binomial 3.3e-4; in a corpus of a thousand the slice itself shifts the rate.
    assert excess_removal_p(11, 9, 100_000, 28_000) == pytest.approx(3.3e-4, abs=0.05e-4)
    assert excess_removal_p(11, 9, 1_000, 280) == pytest.approx(3.6e-4, abs=0.05e-4)


def test_removals_needed_to_be_significant():
    for size, needed in ((5, 5), (8, 6), (11, 8), (20, 11)):
        assert excess_removal_p(size, needed, 1_000_000, 280_000) < 0.01 <= excess_removal_p(size, needed - 1, 1_000_000, 280_000)
    # A slice of three never gets there, even if nothing is left of it: the reason for floors.
    assert excess_removal_p(3, 3, 1_000_000, 280_000) > 0.01


def test_equals_a_count_of_every_draw():
    rows, slice_rows, removed = range(9), set(range(4)), 5
    draws = [len(slice_rows & set(draw)) for draw in combinations(rows, removed)]
    for hit in range(5):
        if removed - hit <= 5:
            expected = sum(d >= hit for d in draws) / len(draws)
            assert excess_removal_p(4, hit, 5, removed - hit) == pytest.approx(expected)


@settings(deadline=None)
@given(st.data())
def test_equals_fisher(data):
    size, others = data.draw(st.integers(1, 60)), data.draw(st.integers(0, 300))
    removed, others_removed = data.draw(st.integers(0, size)), data.draw(st.integers(0, others))
    table = [[removed, size - removed], [others_removed, others - others_removed]]
    p = excess_removal_p(size, removed, others, others_removed)
    assert 0 < p <= 1
    assert p == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-6)


def test_edges():
    assert excess_removal_p(10, 0, 100, 50) == 1.0
    assert excess_removal_p(10, 10, 0, 0) == 1.0  # the slice is everything: nothing to compare with
    assert excess_removal_p(10, 10, 10, 0) == pytest.approx(1 / 184756)  # 20 choose 10


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 0, 10, 1), "slice_size is 0"),
        ((3, 4, 10, 1), "more rows removed"),
        ((3, 1, 10, 11), "more rows removed"),
        ((3, -1, 10, 1), "slice_removed is -1"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        excess_removal_p(*counts)
