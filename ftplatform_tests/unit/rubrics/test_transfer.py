"""Gains that transfer, gains that do not, and gains too small to say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ftplatform.rubrics.paired import Gain, gains
from ftplatform.rubrics.transfer import MIN_ITEMS, gain_transfer, transfer_ratio
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rubrics.worlds import transfer_world

RUNS = 800


def share(trained: float, held: float, decision: Decision = Decision.FAIL) -> float:
    verdicts = (gain_transfer(*transfer_world(trained, held, seed=seed)) for seed in range(RUNS))
    return float(np.mean([verdict.decision is decision for verdict in verdicts]))


def naive(trained: float, held: float) -> float:
    """How often the ratio of both mean gains is below one half."""
    blocked = []
    for seed in range(RUNS):
        t, h = (float(gains(side).mean()) for side in transfer_world(trained, held, seed=seed))
        blocked.append(h / t < 0.5)
    return float(np.mean(blocked))


@pytest.mark.parametrize(
    ("trained", "held", "expected"),
    # docs of the mode: 97.6 %, .2 %, 4.4 %, 7 %; simulated with n = 200, SD 18, correlation .5.
    [(16, 4, 0.976), (2, 2, 0.002), (16, 8, 0.044), (2, 0, 0.07), (16, 0, 1.0)],
)
def test_the_power_of_the_rule(trained, held, expected):
    found = share(trained, held)
    error = math.sqrt(max(expected * (1 - expected), 0.002) / RUNS)
    assert abs(found - expected) < 4 * error + 0.002, found


def test_adv_an_honest_small_gain_is_not_blocked_and_the_ratio_of_means_blocks_it():
    blocked = share(2, 2)
    assert blocked < 0.01
    assert naive(2, 2) > 0.18, "the naive rule blocks about a fifth of honest small gains"
    assert naive(16, 8) > 0.45, "and half of those that transfer by exactly one half"


def test_seventy_one_to_eighty_seven_and_no_gain_elsewhere_fails():
    rng = np.random.default_rng(0)
    items = [f"q{i}" for i in range(200)]
    before = rng.binomial(1, 0.71, 200).astype(float)
    after = np.where(before == 1, 1.0, rng.binomial(1, 0.55, 200))
    elsewhere = rng.binomial(1, 0.71, 200).astype(float)
    verdict = gain_transfer(Gain(items, before, after), Gain(items, elsewhere, rng.permutation(elsewhere)))
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate is not None
    assert verdict.estimate > 0.05
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0 == verdict.threshold, "at night, too, this is harm that was shown"
    assert verdict.evidence
    assert set(verdict.evidence[0]) == {"item_id", "training_base", "training_tuned", "held_out_base", "held_out_tuned"}


def test_a_gain_that_transfers_passes_and_says_how_much():
    verdict = gain_transfer(*transfer_world(16, 15, seed=3))
    assert verdict.decision is Decision.PASS
    low, high = verdict.details["transfer_ratio"][1:]
    assert low < 15 / 16 < high


def test_no_gain_by_the_training_rubric_has_nothing_to_transfer():
    assert gain_transfer(*transfer_world(-8, -1, seed=1)).decision is Decision.PASS


def test_what_is_open_warns():
    verdict = gain_transfer(*transfer_world(2, 0.5, seed=2))
    assert verdict.decision is Decision.WARN
    assert verdict.details["transfer_ratio"] is None, "with a gain below two standard errors the ratio is noise"


def test_fieller_covers_the_ratio():
    inside = []
    for seed in range(600):
        t, h = (gains(side) for side in transfer_world(16, 6, seed=seed))
        ratio = transfer_ratio(t, h, range(len(t)))
        assert ratio is not None
        inside.append(ratio.low <= 6 / 16 <= ratio.high)
    assert abs(np.mean(inside) - 0.95) < 0.03


def test_repeated_prompts_are_not_more_evidence():
    """Each of 40 prompts asked ten times; the answers to a prompt gain together."""
    rng = np.random.default_rng(5)
    blocked = {"clustered": 0, "naive": 0}
    for _ in range(300):
        shift = np.repeat(rng.normal(0.5, 1.0, 40), 10)
        t = shift + rng.normal(0, 0.1, 400)
        h = t / 2 + np.repeat(rng.normal(0, 0.5, 40), 10)
        scale = 20.0
        items = [f"i{i}" for i in range(400)]
        sides = Gain(items, np.full(400, 0.5), 0.5 + t / scale), Gain(items, np.full(400, 0.5), 0.5 + h / scale)
        families = np.repeat(np.arange(40), 10).tolist()
        blocked["clustered"] += gain_transfer(*sides, families).decision is Decision.FAIL
        blocked["naive"] += gain_transfer(*sides).decision is Decision.FAIL
    assert blocked["clustered"] <= 0.08 * 300, "the truth is a transfer of exactly one half"
    assert blocked["naive"] > 0.2 * 300, "counting every answer as its own item cries wolf"


@pytest.mark.parametrize("n", [0, 1, MIN_ITEMS - 1])
def test_too_little_is_not_a_pass(n):
    empty = Gain([str(i) for i in range(n)], np.zeros(n), np.zeros(n))
    assert gain_transfer(empty, empty).decision is Decision.INSUFFICIENT_EVIDENCE


def test_other_items_are_refused():
    one, other = Gain(["a", "b"], [0, 1], [1, 1]), Gain(["a", "c"], [0, 1], [1, 1])
    with pytest.raises(ValueError, match="other items"):
        gain_transfer(one, other)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        gain_transfer(Gain(["a"], [0], [71.0]), Gain(["a"], [0], [0]))
