"""Correction for the judge's errors: exact cases, coverage by simulation, and what an uncorrected interval misses."""

from __future__ import annotations

import numpy as np
import pytest

from ftplatform.evaluation.refusal_judge.agreement import agreement
from ftplatform.evaluation.refusal_judge.error_rates import ErrorRates, corrected_difference, corrected_share
from ftplatform.evaluation.refusal_judge.labels import Label
from ftplatform.statistics.intervals import Interval, wilson

JUDGE = ErrorRates(declined=1159, found=1092, answered=1091, cleared=1046)


def test_the_point_is_that_of_rogan_and_gladen() -> None:
    rates = ErrorRates(declined=100, found=90, answered=100, cleared=80)
    assert corrected_share(55, 100, rates).estimate == pytest.approx((0.55 + 0.8 - 1) / 0.7)


def test_a_perfect_judge_changes_nothing() -> None:
    perfect = ErrorRates(declined=10**7, found=10**7, answered=10**7, cleared=10**7)
    found, plain = corrected_share(40, 100, perfect), wilson(40, 100)
    assert found.estimate == pytest.approx(0.4)
    assert (found.low, found.high) == (pytest.approx(plain.low, abs=0.005), pytest.approx(plain.high, abs=0.005))
    loss = Interval(0.1, -0.02, 0.2, 0.95)
    again = corrected_difference(loss, perfect)
    assert (again.estimate, again.low, again.high) == pytest.approx((0.1, -0.02, 0.2), abs=1e-5)


@pytest.mark.parametrize("truth", [0.05, 0.5, 0.95])
def test_coverage(truth: float) -> None:
    """ADV: the interval of the judged share covers the true share far less often than it says; the corrected one does not."""
    rng, runs, n = np.random.default_rng(0), 1500, 400
    hits = naive = 0
    for _ in range(runs):
        rates = ErrorRates(declined=300, found=int(rng.binomial(300, 0.93)), answered=300, cleared=int(rng.binomial(300, 0.95)))
        declined = rng.binomial(n, truth)
        judged = int(rng.binomial(declined, 0.93) + rng.binomial(n - declined, 0.05))
        interval, plain = corrected_share(judged, n, rates), wilson(judged, n)
        hits += interval.low <= truth <= interval.high
        naive += plain.low <= truth <= plain.high
    assert hits / runs >= 0.93
    if truth != 0.5:  # there the two kinds of error happen to cancel
        assert naive / runs < 0.5


def test_a_difference_is_shrunk_by_the_judge_and_stretched_back() -> None:
    loss = Interval(0.09, 0.03, 0.15, 0.95)
    found = corrected_difference(loss, JUDGE)
    factor = JUDGE.sensitivity + JUDGE.specificity - 1
    assert found.estimate == pytest.approx(0.09 / factor)
    assert 0.03 < found.low < 0.03 / factor
    assert found.high > 0.15 / factor


def test_a_judge_that_guesses_says_nothing() -> None:
    coin = ErrorRates(declined=100, found=50, answered=100, cleared=50)
    with pytest.raises(ValueError, match="chance"):
        corrected_share(5, 10, coin)
    with pytest.raises(ValueError, match="chance"):
        corrected_difference(Interval(0.0, -0.1, 0.1, 0.95), coin)


@pytest.mark.parametrize("counts", [(0, 0, 10, 5), (10, 11, 10, 5), (10, 5, 0, 0), (10, 5, 10, -1)])
def test_counts_must_fit_together(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="fit together"):
        ErrorRates(*counts)


@pytest.mark.parametrize(("judged", "n"), [(3, 2), (0, 0), (-1, 5)])
def test_impossible_counts(judged: int, n: int) -> None:
    with pytest.raises(ValueError, match=r"n|judged"):
        corrected_share(judged, n, JUDGE)


def test_agreement_equals_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_score, recall_score

    labels = [Label.REFUSE, Label.SAFE_COMPLETE, Label.COMPLY]
    rng = np.random.default_rng(1)
    human = [labels[i] for i in rng.integers(0, 3, 200)]
    said = [
        label if keep else labels[i] for label, keep, i in zip(human, rng.random(200) < 0.7, rng.integers(0, 3, 200), strict=True)
    ]
    three = agreement(human, said, classes=3)
    assert three.accuracy == pytest.approx(accuracy_score(human, said))
    assert three.kappa == pytest.approx(cohen_kappa_score(human, said))
    two = agreement(human, said)
    truth, verdict = ([label is not Label.COMPLY for label in labels] for labels in (human, said))
    assert two.kappa == pytest.approx(cohen_kappa_score(truth, verdict))
    assert (two.precision, two.recall) == pytest.approx((precision_score(truth, verdict), recall_score(truth, verdict)))
    with pytest.raises(ValueError, match="human labels"):
        agreement(human, said[:-1])
