"""What the inputs are about, apart from how they are written."""

from __future__ import annotations

import random

import pytest

from ftplatform.synthesis.content_mix import content_mix_match
from ftplatform.synthesis.surface import input_surface_match
from ftplatform.verdict import Decision
from ftplatform_tests.tables import asked, row, table
from ftplatform_tests.unit.synthesis.toy import TOPICS, clean, real, sample


def test_another_mix_warns_and_the_surface_passes() -> None:
    skewed, even = sample(1, 800, weights=(7, 1, 1, 1)), sample(2, 800)
    verdict = content_mix_match(skewed, even)
    assert verdict.decision is Decision.WARN
    assert verdict.details["p_value"] < 0.01
    refunds = [t for t in verdict.details["topics"] if set(t["topic"].split()) & set(" ".join(TOPICS["refund"]).split())]
    assert sum(t["candidate_share"] - t["reference_share"] for t in refunds) > 0.2
    assert input_surface_match(skewed, even, permutations=40).decision is Decision.PASS


def test_another_style_on_the_same_topics_does_not() -> None:
    """The reverse: what fails on the surface is no difference of content."""
    rng = random.Random(3)
    texts = [real(rng, topic) for topic in rng.choices(list(TOPICS), k=1600)]
    polite = [f"Could you please help me with this, kindly? {t.capitalize()}. Thank you!" for t in texts[:800]]
    verdict = content_mix_match(asked(polite), asked(texts[800:]))
    assert verdict.decision is Decision.PASS, verdict.summary
    assert input_surface_match(asked(polite), asked(texts[800:]), permutations=40).decision is Decision.FAIL


def test_it_never_fails() -> None:
    cars = asked([f"my car engine {i % 7} makes noise in gear {i % 5}" for i in range(600)])
    assert content_mix_match(cars, sample(4, 600)).decision is Decision.WARN


def test_turns_of_one_conversation_are_about_one_thing() -> None:
    """ADV: permuting turns instead of conversations finds a difference between two halves of the same source."""

    def chats(seed: int, together: bool) -> list[dict[str, object]]:
        rng = random.Random(seed)
        rows = []
        for chat in range(60):
            topic = rng.choice(list(TOPICS))
            said = [("user", f"{rng.choice(TOPICS[topic])} {rng.choice(TOPICS[topic])}") for _ in range(12)]
            rows += [row(*said, group=f"{seed}-{chat}")] if together else [row(turn) for turn in said]
        return rows

    alarms = {
        together: sum(
            content_mix_match(table(chats(2 * i, together)), table(chats(2 * i + 1, together)), permutations=100).details["p_value"]
            <= 0.05
            for i in range(6)
        )
        for together in (True, False)
    }
    assert alarms[False] >= 4
    assert alarms[True] <= 1


@pytest.mark.parametrize("text", ["ok", "yes please", "12 34"])
def test_without_content_words_it_abstains(text: str) -> None:
    verdict = content_mix_match(asked([text] * 600), asked([text] * 600))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE


def test_too_few_abstain() -> None:
    for candidate in (table([]), sample(5, 50, clean)):
        assert content_mix_match(candidate, sample(6, 600)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert content_mix_match(sample(5, 300), sample(6, 600)).decision is Decision.WARN
