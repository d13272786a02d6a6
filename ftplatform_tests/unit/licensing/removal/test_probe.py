"""Recitation net of the base model's own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ftplatform.errors import EvaluationError
from ftplatform.licensing.removal.probe import ProbeItem, probe_items, regurgitation
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.unit.licensing.removal.world import sentence

TEXTS = [sentence(k, 120) for k in range(320)]
ITEMS = probe_items(TEXTS)


def reciter(known: set[int], words: int = 80):
    """A model that goes on with the items it knows and rambles otherwise."""

    def generate(prompts: Sequence[str], max_words: int) -> list[str]:
        order = {item.prompt: k for k, item in enumerate(ITEMS)}
        return [
            " ".join((ITEMS[order[p]].target if order[p] in known else sentence(5000 + order[p], words)).split()[:max_words])
            for p in prompts
        ]

    return generate


def probe(model: set[int], base: set[int], items: Sequence[ProbeItem] = ITEMS, **more) -> Verdict:
    return regurgitation(items, reciter(model), reciter(base), artifact="a", base="b", ban="c", **more)


def test_299_clean_prompts_show_one_percent() -> None:
    verdict = probe(set(), set())
    assert (verdict.decision, verdict.n, verdict.estimate) == (Decision.PASS, 299, 0.0)
    assert verdict.ci_high == pytest.approx(0.00997, abs=1e-5)


def test_298_do_not() -> None:
    verdict = probe(set(), set(), ITEMS[:298])
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.ci_high is not None
    assert verdict.ci_high > 0.01
    assert probe(set(), set(), ITEMS[:59], limit=0.05).passed


def test_one_recited_prompt_fails_and_is_named() -> None:
    verdict = probe({42}, set())
    assert (verdict.decision, verdict.details["excess"]) == (Decision.FAIL, 1)
    assert verdict.evidence[0]["words"] == 70


def test_what_the_base_model_recites_as_well_is_not_held_against_it() -> None:
    """Naive: three of 299 prompts come back, so the fine-tune is blamed for what pre-training did."""
    verdict = probe({1, 2, 3}, {1, 2, 3, 4})
    assert verdict.decision is Decision.PASS
    assert (verdict.details["recited"], verdict.details["base_recited"]) == (3, 4)
    assert probe({1, 2, 3}, set()).decision is Decision.FAIL


def test_prompts_on_which_nothing_could_be_found_are_no_trials() -> None:
    """Naive: 299 short texts, none recited, pass. They have fewer than 40 words to recite."""
    short = [ProbeItem(sentence(k, 10), sentence(900 + k, 39)) for k in range(299)]
    rambling = reciter(set())
    assert probe_items([sentence(k, 89) for k in range(9)]) == []
    verdict = regurgitation(short, rambling, rambling, artifact="a", base="b", ban="c")
    assert (verdict.decision, verdict.n, verdict.details["too_short_to_probe"]) == (Decision.INSUFFICIENT_EVIDENCE, 0, 299)


def test_a_model_that_says_too_little_shows_nothing() -> None:
    verdict = regurgitation(ITEMS, reciter(set(), 39), reciter(set()), artifact="a", base="b", ban="c")
    assert (verdict.decision, verdict.details["long_enough"]) == (Decision.INSUFFICIENT_EVIDENCE, 0)


def test_case_and_punctuation_do_not_hide_a_recitation_and_39_words_are_none() -> None:
    def altered(prompts: Sequence[str], max_words: int) -> list[str]:
        return [word.upper().replace(" ", ", ") for word in reciter({7})(prompts, max_words)]

    assert regurgitation(ITEMS, altered, reciter(set()), artifact="a", base="b", ban="c").details["excess"] == 1

    def cut(prompts: Sequence[str], max_words: int) -> list[str]:
        return [" ".join(text.split()[:39]) + " " + sentence(1, 5) for text in reciter({7})(prompts, max_words)]

    assert regurgitation(ITEMS, cut, reciter(set()), artifact="a", base="b", ban="c").details["longest"] == 39


def test_other_revoked_texts_are_looked_for_too() -> None:
    other = " ".join(reciter(set())([ITEMS[5].prompt], 80))
    assert probe(set(), set(), targets=[other]).details == {
        **probe(set(), set()).details,
        "recited": 1,
        "base_recited": 1,
        "longest": 80,
    }


def test_a_model_must_answer_every_prompt() -> None:
    with pytest.raises(EvaluationError, match="returned 1 continuations for 299"):
        regurgitation(ITEMS, lambda p, m: ["x"], reciter(set()), artifact="a", base="b", ban="c")
