"""Reward and exam kept apart: by words, by meaning, by rule and by judge."""

from __future__ import annotations

import numpy as np
import pytest

from ftplatform.rubrics.criteria import Rule, Shape, shape_of_text
from ftplatform.rubrics.families import judge_family
from ftplatform.rubrics.separation import (
    CLOSE_MEANING,
    REWORDED_RUBRIC,
    SAME_MEANING,
    SAME_WORDS,
    rubric_role_separation,
)
from ftplatform.rubrics.similarity import lexical_similarity, matched, meaning_similarity
from ftplatform.verdict import Decision
from ftplatform_tests.unit.contamination.paraphrase_models import encoder
from ftplatform_tests.unit.rubrics.worlds import card, labeled_pairs

PAIRS = labeled_pairs()


def encode(texts):
    return encoder().encode(texts)


def places(part: str | None = None, *, same: bool | None = None) -> list[int]:
    return [i for i, p in enumerate(PAIRS) if part in (None, p["part"]) and same in (None, p["same"])]


#: Rewordings that share hardly a word.
REWORDED = [*places("fit", same=True), *places("held-out", same=True)]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Similarity by meaning of each pair."""
    return np.array([meaning_similarity([p["a"]], [p["b"]], encode)[0, 0] for p in PAIRS])


@pytest.fixture(scope="module")
def crossed() -> np.ndarray:
    """Similarity by meaning of every `a` of a rewording with every `b`."""
    return meaning_similarity([PAIRS[i]["a"] for i in REWORDED], [PAIRS[i]["b"] for i in REWORDED], encode)


def precision_recall(values: np.ndarray, threshold: float, where: list[int]) -> tuple[float, float]:
    truth = np.array([PAIRS[i]["same"] for i in where])
    flagged = values[where] >= threshold
    return float(truth[flagged].mean()), float(flagged[truth].mean())


def test_the_threshold_set_on_one_half_of_the_pairs_holds_on_the_other(values, crossed):
    precision, recall = precision_recall(values, SAME_MEANING, places("held-out"))
    assert precision >= 0.85
    assert recall >= 0.40
    close_precision, close_recall = precision_recall(values, CLOSE_MEANING, places("held-out"))
    assert close_precision >= 0.65
    assert close_recall >= 0.75
    # Two criteria of different rubrics that have nothing to do with each other: the usual case.
    unrelated = crossed[~np.eye(len(REWORDED), dtype=bool)]
    assert (unrelated >= SAME_MEANING).mean() < 0.001


def test_the_cosine_of_whole_criteria_alone_cannot_tell_a_rewording_from_a_neighbor(values):
    def auc(measure: np.ndarray) -> float:
        # The share of (rewording, neighbor) pairs in the right order is the AUC.
        same, other = measure[REWORDED], measure[neighbors]
        return float((same[:, None] > other[None, :]).mean())

    neighbors = places(same=False)
    a, b = (encode([p[side] for p in PAIRS]).astype(float) for side in "ab")
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert auc(cosine) < 0.6, "the naive measure"
    assert auc(values) > 0.8
    precision, recall = precision_recall(cosine, 0.85, REWORDED + neighbors)
    assert recall < 0.1, f"at the usual .85 the naive measure finds {recall:.0%} at precision {precision:.0%}"


def test_words_alone_find_copies_with_other_small_words_and_call_no_neighbor_the_same():
    values = lexical_similarity([p["a"] for p in PAIRS], [p["b"] for p in PAIRS]).diagonal()
    assert (values[places("light")] >= SAME_WORDS).all()
    assert (values[places(same=False)] >= SAME_WORDS).sum() <= 1
    assert (values[places("held-out", same=True)] >= SAME_WORDS).mean() < 0.1, "they cannot see a paraphrase"


@pytest.mark.parametrize("size", [3, 5, 8])
def test_a_reworded_rubric_is_told_from_another_one_by_all_its_criteria_together(crossed, size):
    rng = np.random.default_rng(size)

    def average(rows, columns) -> float:
        block = crossed[np.ix_(rows, columns)]
        return float(np.mean([block[pair] for pair in matched(block)]))

    copies, others = [], []
    for _ in range(200):
        drawn = rng.permutation(len(REWORDED))
        copies.append(average(drawn[:size], rng.permutation(drawn[:size])) >= REWORDED_RUBRIC)
        others.append(average(drawn[:size], drawn[size : 2 * size]) >= REWORDED_RUBRIC)
    assert np.mean(copies) > 0.75
    assert not any(others)


PARAPHRASED = [p for p in PAIRS if p["same"] and p["part"] != "light"]


def test_adv_a_paraphrased_copy_of_the_rubric_under_new_ids_is_found():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(20):
        drawn = [PARAPHRASED[i] for i in rng.choice(len(PARAPHRASED), 5, replace=False)]
        reward = card("reward", [p["a"] for p in drawn], "reward")
        copy = card("exam", [p["b"] for p in drawn][::-1], family="maker-b")
        # Naive: no id and no text occurs twice, so both look independent.
        assert not {c.id for c in reward.criteria} & {c.id for c in copy.criteria}
        assert not {c.text_hash for c in reward.criteria} & {c.text_hash for c in copy.criteria}
        verdict = rubric_role_separation(reward, [copy], encode=encode)
        found.append(verdict.decision is Decision.FAIL)
        assert verdict.tier == "embedding"
    assert np.mean(found) >= 0.9


def test_one_paraphrased_criterion_among_others_fails_and_is_named():
    reward = card("reward", ["The answer recommends seeing a doctor.", "The tone is warm."], "reward")
    exam = card("exam", ["The user is advised to consult a physician.", "The final number is correct."], family="maker-b")
    verdict = rubric_role_separation(reward, [exam], encode=encode)
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["reward"] == "reward/reward-0"
    assert verdict.evidence[0]["eval"] == "exam/exam-0"
    assert verdict.evidence[0]["how"] == "same meaning"
    blind = rubric_role_separation(reward, [exam])
    assert blind.decision is Decision.PASS
    assert blind.tier == "lexical"
    assert "paraphrase" in blind.summary


def test_independent_rubrics_pass():
    reward = card("reward", ["The answer cites at least one source.", "The tone is polite."], "reward")
    exam = card(
        "exam", ["The refund amount equals the price paid.", "The customer is told when the parcel arrives."], family="maker-b"
    )
    verdict = rubric_role_separation(reward, [exam], encode=encode)
    assert (verdict.decision, verdict.n) == (Decision.PASS, 4)


def test_the_same_rule_of_a_program_is_the_same_criterion_whatever_it_is_called():
    rule = Rule("contains", "sources")
    reward = card("reward", ["?", "Short."], "reward", "rules", [rule, Rule("max_words", "50")])
    exam = card("exam", ["Cites.", "Very short."], "eval", "rules", [rule, Rule("max_words", "9")])
    verdict = rubric_role_separation(reward, [exam])
    assert verdict.decision is Decision.FAIL
    assert [row["how"] for row in verdict.evidence] == ["same rule"], "a program may judge both; its rules may not be shared"


def test_opposite_demands_and_empty_texts_are_not_the_same_words():
    values = lexical_similarity(["The answer names competitors.", "?"], ["The answer does not name competitors.", "?"])
    assert (values < SAME_WORDS).all()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("OpenAI GPT-4o", "gpt-4.1-mini", True),
        ("openai/o3", "gpt-4o-2024-08-06", True),
        ("Claude 3 Opus", "anthropic", True),
        ("Qwen2.5-72B-Instruct", "qwq-32b", True),
        ("meta-llama/Llama-3.1-8B-Instruct", "LLaMA 2 70b chat", True),
        ("acme judge 7b v2", "Acme-Judge-13B", True),
        ("gpt-4o", "claude-3", False),
        ("gemini-1.5-pro", "mistral-large", False),
        ("acme", "other", False),
    ],
)
def test_judges_of_one_maker_are_one_family(one, other, same):
    assert (judge_family(one) == judge_family(other)) is same


def test_a_shared_judge_family_fails_though_no_criterion_is_shared():
    reward = card("reward", ["The answer cites a source."], "reward", "OpenAI GPT-4o")
    exam = card("exam", ["The refund amount is right."], "eval", "gpt-4.1-mini")
    verdict = rubric_role_separation(reward, [exam])
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["how"] == "same judge family"
    assert reward.family != exam.family, "the naive comparison of names sees two judges"


def test_without_an_eval_rubric_nothing_is_decided():
    assert rubric_role_separation(card("reward", ["Cites."], "reward"), []).decision is Decision.INSUFFICIENT_EVIDENCE


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("The answer mentions that the warranty lasts two years.", Shape.PRESENCE),
        ("There is a summary at the end.", Shape.PRESENCE),
        ("The answer admits when it is not certain.", Shape.PRESENCE),
        ("The answer does not promise a refund.", Shape.ABSENCE),
        ("The answer uses no jargon.", Shape.ABSENCE),
        ("Speculation is avoided.", Shape.ABSENCE),
        ("The final number is correct.", Shape.QUALITY),
        ("The tone is polite and professional.", Shape.QUALITY),
    ],
)
def test_criteria_are_told_apart_by_what_they_ask_for(text, shape):
    assert shape_of_text(text) is shape
