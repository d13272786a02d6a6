"""Neighbors of real inputs, and the tails a teacher leaves out."""

from __future__ import annotations

import random

import polars as pl
import pytest

from ftplatform.synthesis.coverage import input_tail_coverage
from ftplatform.synthesis.nearest import CharacterSpace
from ftplatform.synthesis.tails import misspelled, tail_flags
from ftplatform.verdict import Decision
from ftplatform_tests.tables import asked, table
from ftplatform_tests.unit.synthesis.toy import TOPICS, clean, real, sample


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i returnd it last week but where's my refund also do u ship to canada now", True),
        ("How can I top up and which currency can I use?", True),
        ("cancel my card please, plus can you send a new one", True),
        ("Where is my card?", False),
        ("I paid with card and cash yesterday", False),
        ("What is going on? Why is it gone?", False),
    ],
)
def test_several_requests(text: str, expected: bool) -> None:
    flags = tail_flags(pl.Series([text]), frozenset(), (0, 100))
    assert flags["multi_intent"].to_list() == [expected]


def test_typos_are_words_near_known_ones() -> None:
    topical = pl.Series([f"my chargeback number {i}" for i in range(5)])
    odd = pl.Series(["my chargebakc", "i recieve it", "the acount", "XZQY", "ordered cards", "fourty", "where is mi thing", "blue"])
    assert misspelled(topical, odd) >= {"chargebakc", "recieve", "acount"}
    # Inflections, short words, words of the topic and words of another first letter are none.
    assert not misspelled(topical, odd) & {"ordered", "cards", "mi", "chargeback", "blue", "number"}


def test_nearest() -> None:
    pool = pl.Series(["where is my parcel", "my card is blocked", "where is my parcle", "card blocked"])
    found = CharacterSpace([pool]).nearest(pl.Series(["my card was blocked", "zzz"]), pool)
    assert found.position[0] in (1, 3)
    assert found.similarity[0] > 0.5
    assert found.similarity[1] == 0


def test_a_topic_nobody_wrote_about_is_found() -> None:
    def with_cars(rng: random.Random, topic: str) -> str:
        return f"engine stalls near mile {rng.randrange(20)}, gearbox howls" if rng.random() < 0.2 else real(rng, topic)

    verdict = input_tail_coverage(sample(2, 900), sample(1, 900, with_cars))
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate is not None
    assert verdict.estimate > 0.1
    missed = [str(e["real_input"]) for e in verdict.evidence if "real_input" in e]
    assert missed
    assert all("gearbox" in text for text in missed)


def test_real_against_real_passes() -> None:
    verdict = input_tail_coverage(sample(3, 900), sample(4, 900))
    assert verdict.decision is Decision.PASS, verdict.summary
    assert verdict.details["without_real"] >= 0


def test_inputs_without_any_neighbor_are_not_held_against_the_candidate() -> None:
    """ADV: a plain share of inputs without a synthetic neighbor blames the candidate for what is rare among real inputs as well."""
    rng = random.Random(5)

    def scattered(rng: random.Random, topic: str) -> str:
        noise = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(30))
        return noise if rng.random() < 0.3 else real(rng, topic)

    verdict = input_tail_coverage(sample(rng.randrange(99), 900, scattered), sample(7, 900, scattered))
    assert verdict.details["without_synthetic"] > 0.10, "the naive share is above the limit"
    assert verdict.decision is Decision.PASS, verdict.summary


def test_a_lost_tail_fails_although_everything_has_a_neighbor() -> None:
    """ADV: with the joined requests gone each half of them still has its neighbor."""
    rng = random.Random(8)
    texts = [real(rng, rng.choice(list(TOPICS))) for _ in range(1800)]
    single = [text.split(" and its")[0] for text in texts[:900]]
    verdict = input_tail_coverage(asked(single), asked(texts[900:]))
    assert verdict.ci_high is not None
    assert verdict.ci_high <= 0.10, "the neighbors alone would pass"
    assert verdict.decision is Decision.FAIL
    assert "multi_intent" in {e.get("tail") for e in verdict.evidence}


def test_too_few_abstain() -> None:
    for candidate in (table([]), sample(9, 50, clean)):
        assert input_tail_coverage(candidate, sample(10, 600)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert input_tail_coverage(sample(9, 300), sample(10, 600)).decision is Decision.WARN
