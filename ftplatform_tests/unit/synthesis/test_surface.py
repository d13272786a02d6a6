"""The surface match on toy requests whose topics and styles are set apart."""

from __future__ import annotations

import random
from functools import partial

import pytest

from ftplatform.synthesis.surface import input_surface_match
from ftplatform.verdict import Decision
from ftplatform_tests.tables import asked, row, table
from ftplatform_tests.unit.synthesis.toy import clean, real, sample

match = partial(input_surface_match, permutations=60)


def typos(rng: random.Random, text: str, rate: float = 0.03) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") if c.isalpha() and rng.random() < rate else c for c in text.lower())


def test_clean_synthetic_fails_with_the_gaps_listed() -> None:
    verdict = match(sample(1, 500, clean), sample(2, 500))
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate is not None
    assert verdict.estimate > 0.97
    gaps = [e["feature"] for e in verdict.evidence if abs(float(e["d"] or 0)) > 0.8]
    assert {"initial_capital", "end_punctuation", "politeness", "shorthand"} <= set(gaps)
    assert verdict.evidence[0]["candidate_example"]
    assert verdict.plot is not None
    assert verdict.details["p_value"] < 0.05


def test_cheap_noise_on_clean_text_still_fails() -> None:
    def cheap(rng: random.Random, topic: str) -> str:
        return typos(rng, clean(rng, topic))

    verdict = match(sample(3, 500, cheap), sample(4, 500))
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["feature"] != "initial_capital"  # that gap is closed, others are not


def test_another_topic_mix_passes() -> None:
    verdict = match(sample(5, 800, weights=(7, 1, 1, 1)), sample(6, 800))
    assert verdict.decision is Decision.PASS, verdict.summary


def test_few_turns_abstain_and_some_only_warn() -> None:
    assert match(sample(7, 50, clean), sample(8, 500)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert match(sample(7, 500), sample(8, 50)).decision is Decision.INSUFFICIENT_EVIDENCE
    for write in (real, clean):
        verdict = match(sample(9, 300, write), sample(10, 500))
        assert verdict.decision is Decision.WARN
        assert "300 of 500" in verdict.summary
    assert match(table([]), sample(11, 500)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_one_customer_does_not_make_a_sample() -> None:
    rng = random.Random(12)
    one = table(row(real(rng, "refund"), group="the only customer") for _ in range(600))
    assert match(one, sample(13, 600)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_only_user_turns_are_read() -> None:
    rng = random.Random(14)
    polite = "Thank you for contacting us. We appreciate your patience and will get back to you shortly."
    answered = table(row(("system", polite), ("user", real(rng, "refund")), ("assistant", polite)) for _ in range(600))
    verdict = match(answered, sample(15, 600, weights=(1, 0, 0, 0)))
    assert verdict.decision is Decision.PASS, verdict.summary


def test_between_the_limits_warns() -> None:
    def mixed(rng: random.Random, topic: str) -> str:
        return (clean if rng.random() < 0.3 else real)(rng, topic)

    verdict = match(sample(16, 800, mixed), sample(17, 800))
    assert verdict.decision is Decision.WARN
    assert 0.60 < float(verdict.estimate or 0) < 0.75


def test_the_sample_is_capped_and_reproducible() -> None:
    candidate, reference = sample(18, 900), sample(19, 900)
    first, again = (match(candidate, reference, cap=550) for _ in range(2))
    assert first.to_record() == again.to_record()
    assert first.n == 550


def test_examples_are_masked() -> None:
    leaky = asked([f"my mail is jo{i}@example.org" for i in range(500)])
    record = match(leaky, sample(20, 500)).to_record()
    assert "example.org" not in str(record)


@pytest.mark.parametrize("text", ["same words every time"])
def test_constant_features_have_no_gap(text: str) -> None:
    verdict = match(asked([text] * 500), asked([text] * 500))
    assert verdict.decision is not Decision.FAIL
    assert all(e["d"] == 0 for e in verdict.evidence)
