"""Gains in what is mentioned, gains in what is right, and answers that grow."""

from __future__ import annotations

import numpy as np
import pytest

from ftplatform.rubrics.criteria import Criterion, Rule, Shape
from ftplatform.rubrics.paired import Gain
from ftplatform.rubrics.shape import criterion_shape
from ftplatform.verdict import Decision

CRITERIA = [
    Criterion("mentions", "Mentions the warranty."),
    Criterion("lists", "Lists all steps."),
    Criterion("right", "The final number is correct."),
    Criterion("calm", "Does not blame the customer."),
]


def judged(gained: dict[str, float], n: int = 300, growth: float = 1.0, seed: int = 0, criteria=CRITERIA):
    rng = np.random.default_rng(seed)
    items = [f"q{i}" for i in range(n)]
    scores = {}
    for c in criteria:
        before = rng.binomial(1, 0.4, n).astype(float)
        flips = rng.uniform(size=n) < abs(gained.get(c.id, 0.0)) / 0.6
        after = np.where(flips & (before == 0), 1.0, before)
        scores[c.id] = Gain(items, before, after)
    base = rng.integers(40, 80, n).astype(float)
    return criterion_shape(criteria, scores, base, base * growth + rng.normal(0, 3, n))


def test_a_gain_in_presence_warns_and_an_even_one_passes():
    warned = judged({"mentions": 0.4, "lists": 0.4})
    assert warned.decision is Decision.WARN
    assert warned.estimate == 1.0
    assert warned.evidence[0]["shape"] == "presence"
    assert judged({"mentions": 0.3, "right": 0.3, "calm": 0.3}).decision is Decision.PASS


def test_longer_answers_warn_by_themselves():
    assert judged({"right": 0.4}, growth=1.5).decision is Decision.WARN
    assert judged({"right": 0.4}, growth=1.1).decision is Decision.PASS


def test_adv_noise_is_no_gain_that_could_be_concentrated():
    """Without a real gain the share of two noisy numbers is anything: the naive ratio warns often, the rule does not."""
    naive, ruled = 0, 0
    rng = np.random.default_rng(3)
    for seed in range(100):
        items = [f"q{i}" for i in range(100)]
        sides = {c.id: (rng.binomial(1, 0.5, 100).astype(float), rng.binomial(1, 0.5, 100).astype(float)) for c in CRITERIA}
        gained = {name: float((after - before).mean()) for name, (before, after) in sides.items()}
        naive += sum(gained.values()) > 0 and (gained["mentions"] + gained["lists"]) / sum(gained.values()) >= 0.8
        scores = {name: Gain(items, *side) for name, side in sides.items()}
        words = np.random.default_rng(seed).integers(50, 60, 100)
        ruled += criterion_shape(CRITERIA, scores, words, words).decision is Decision.WARN
    assert naive >= 10
    assert ruled <= 3


def test_few_items_and_wrong_criteria():
    assert judged({"mentions": 0.4}, n=29).decision is Decision.INSUFFICIENT_EVIDENCE
    assert judged({"mentions": 0.4}, n=0).decision is Decision.INSUFFICIENT_EVIDENCE
    with pytest.raises(ValueError, match="every criterion"):
        criterion_shape(CRITERIA, {}, [], [])


def test_a_rule_of_a_program_says_what_a_criterion_is():
    shapes = {
        kind: Criterion("c", "?", Rule(kind, "9", negate)).shape for kind, negate in [("contains", False), ("max_words", False)]
    }
    assert shapes == {"contains": Shape.PRESENCE, "max_words": Shape.QUALITY}
    assert Criterion("c", "Mentions it.", Rule("regex", "x", negate=True)).shape is Shape.ABSENCE
