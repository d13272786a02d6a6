"""Holm and Benjamini-Hochberg against the paper's example, their definitions, statsmodels, and what happens without them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.statistics.multiple import benjamini_hochberg, holm

# Benjamini and Hochberg (1995), section 3.2: fifteen comparisons of two thrombolytics.
PAPER = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]

pvalues = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_the_example_of_the_paper():
    reject, adjusted = benjamini_hochberg(PAPER)
    assert reject.tolist() == [True] * 4 + [False] * 11
    assert adjusted[3] == pytest.approx(0.0095 * 15 / 4)
    assert holm(PAPER)[0].sum() == 3


@settings(deadline=None)
@given(pvalues)
def test_holm_by_definition(p):
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    np.testing.assert_allclose(holm(p)[1], adjusted, rtol=1e-12, atol=1e-300)


@settings(deadline=None)
@given(pvalues)
def test_benjamini_hochberg_by_definition(p):
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    running = 1.0
    for rank in range(len(p), 0, -1):
        running = min(running, p[order[rank - 1]] * len(p) / rank)
        adjusted[order[rank - 1]] = running
    np.testing.assert_allclose(benjamini_hochberg(p)[1], adjusted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(("function", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
@pytest.mark.parametrize("seed", range(4))
def test_equals_statsmodels(function, method, seed):
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(seed).beta(0.3, 2.0, size=25).round(3)  # many small ones, and ties
    expected_reject, expected, _, _ = multipletests(p, 0.05, method)
    reject, adjusted = function(p, 0.05)
    np.testing.assert_allclose(adjusted, expected, rtol=1e-12)
    assert (reject == expected_reject).all()
    assert 0 < reject.sum() < 25


def test_twenty_metrics_without_holm_cry_wolf():
    rng = np.random.default_rng(0)
    runs = rng.random((1000, 20))  # nothing regressed
    naive = np.mean((runs < 0.05).any(axis=1))
    adjusted = np.mean([holm(p)[0].any() for p in runs])
    assert naive == pytest.approx(0.64, abs=0.04)
    assert adjusted == pytest.approx(0.05, abs=0.02)


def test_one_p_value_is_its_own_adjustment():
    for function in (holm, benjamini_hochberg):
        reject, adjusted = function([0.03])
        assert (reject.tolist(), adjusted.tolist()) == ([True], [0.03])


@pytest.mark.parametrize("function", [holm, benjamini_hochberg])
@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([], 0.05, "nothing was tested"),
        ([0.1, float("nan")], 0.05, r"pvalues\[1\]"),
        ([0.1, 1.1], 0.05, r"\[0, 1\]"),
        ([-0.1], 0.05, r"\[0, 1\]"),
        ([0.1], 5, "is 5"),
        ([[0.1, 0.2]], 0.05, "one dimension"),
    ],
)
def test_what_cannot_be_adjusted_is_refused(function, values, level, message):
    with pytest.raises(ValueError, match=message):
        function(values, level)
