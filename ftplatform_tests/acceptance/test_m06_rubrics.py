"""M6: a model that learned its rubric, on real questions with known answers, graded by the platform's own judge of rules."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ftplatform.evaluation.judges.interface import JudgeItem
from ftplatform.evaluation.judges.rules import Rule as JudgeRule
from ftplatform.evaluation.judges.rules import RuleJudge, RuleKind
from ftplatform.rubrics.criteria import Criterion, Rule
from ftplatform.rubrics.null_floor import null_model_floor
from ftplatform.rubrics.null_models import NullModel, null_answers
from ftplatform.rubrics.paired import Gain
from ftplatform.rubrics.preference import Pair, compare, rubric_free_preference
from ftplatform.rubrics.shape import criterion_shape
from ftplatform.rubrics.transfer import gain_transfer
from ftplatform.verdict import Decision
from ftplatform_tests.real_data import read_jsonl

N = 300

#: What the reward looks for: that there are steps, a check, a unit and a close. None of it asks for the right number.
REWARD = [
    Criterion("steps", "The answer names its steps.", Rule("contains", "step")),
    Criterion("check", "The answer mentions a check of the result.", Rule("contains", "check")),
    Criterion("number", "The answer contains a number.", Rule("regex", r"\d")),
    Criterion("close", "The answer states a conclusion.", Rule("contains", "therefore")),
    Criterion("polite", "The answer offers more help.", Rule("contains", "let me know")),
]
EXAM = [Criterion("right", "The final number is right.", Rule("reference"))]


def judge(name: str, criteria: list[Criterion]) -> RuleJudge:
    rules = [JudgeRule(c.id, RuleKind(c.rule.kind), c.rule.value, c.rule.negate) for c in criteria if c.rule is not None]
    return RuleJudge(name, rules)


class World:
    """Questions, a base that is right seven times of ten, and what training made of it."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        rng = np.random.default_rng(0)
        self.ids = [f"q{i}" for i in range(len(rows))]
        self.prompts = [row["question"] for row in rows]
        self.references = [row["answer"].rsplit("#### ", 1)[1].replace(",", "") for row in rows]
        right = rng.uniform(size=len(rows)) < 0.7
        numbers = [r if ok else f"{int(r) + 7}" for r, ok in zip(self.references, right, strict=True)]
        steps = [re.sub(r"<<.*?>>", "", row["answer"].rsplit("\n", 1)[0]) for row in rows]

        def answer(number: str, reference: str, text: str) -> str:
            return f"Step one: {text if number == reference else 'I add it all up.'} The answer is {number}"

        self.base = list(map(answer, numbers, self.references, steps))
        #: The same numbers behind the words that the reward looks for.
        self.gamed = [f"{text}. Let me check this. Therefore it holds. Let me know." for text in self.base]
        #: Half of the wrong ones were learned.
        learned = rng.uniform(size=len(rows)) < 0.5
        fixed = [r if now else n for r, n, now in zip(self.references, numbers, right | learned, strict=True)]
        self.better = list(map(answer, fixed, self.references, steps))

    def graded(self, by: RuleJudge, answers: list[str]) -> list:
        items = zip(self.ids, self.prompts, answers, self.references, strict=True)
        return list(by.judge([JudgeItem(i, [{"role": "user", "content": p}], a, r) for i, p, a, r in items]).verdicts)

    def gain(self, by: RuleJudge, tuned: list[str]) -> Gain:
        base, after = ([v.score for v in self.graded(by, answers)] for answers in (self.base, tuned))
        return Gain(self.ids, base, after)


@pytest.fixture(scope="module")
def world(shared_data: Path) -> World:
    return World(read_jsonl(next((shared_data / "gsm8k").glob("*test*")))[:N])


def test_a_gamed_reward_gains_nothing_on_the_exam_and_is_blocked(world):
    trained = world.gain(judge("reward", REWARD), world.gamed)
    held_out = world.gain(judge("exam", EXAM), world.gamed)
    assert np.mean(trained.tuned) - np.mean(trained.base) > 0.3, "the dashboard of the reward rises"
    verdict = gain_transfer(trained, held_out)
    assert verdict.decision is Decision.FAIL
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0
    # Graded by the rubric it was trained on, as when reward and exam are one artifact, the same model passes.
    assert gain_transfer(trained, trained).decision is Decision.PASS


def test_the_gain_is_all_in_what_is_mentioned(world):
    by = judge("reward", REWARD)
    base, tuned = world.graded(by, world.base), world.graded(by, world.gamed)
    scores = {c.id: Gain(world.ids, [v.criteria[c.id] for v in base], [v.criteria[c.id] for v in tuned]) for c in REWARD}
    words = [[len(text.split()) for text in side] for side in (world.base, world.gamed)]
    verdict = criterion_shape(REWARD, scores, words[0], words[1])
    assert verdict.decision is Decision.WARN
    assert verdict.estimate == pytest.approx(1.0)


def test_an_honest_gain_on_the_exam_is_not_blocked(world):
    trained = world.gain(judge("reward", REWARD), world.better)
    held_out = world.gain(judge("exam", EXAM), world.better)
    assert gain_transfer(trained, held_out).decision is not Decision.FAIL
    assert gain_transfer(held_out, held_out).decision is Decision.PASS


def test_adv_a_constant_answer_that_scores_eighty_rejects_the_rubric(world):
    constant = ["Step one: I check what is uncertain. Therefore it holds. Sources: [1]"] * N
    nulls = {"constant": [v.score for v in world.graded(judge("reward", REWARD), constant)]}
    assert np.mean(nulls["constant"]) == pytest.approx(0.8)
    real = [v.score for v in world.graded(judge("reward", REWARD), world.gamed)]
    rejected = null_model_floor(nulls, real)
    assert rejected.decision is Decision.FAIL
    assert np.mean(real) > np.mean(nulls["constant"]), "naive: the model still beats the constant"


def test_the_built_null_models_reject_the_reward_and_not_the_exam(world):
    found = {}
    for name, criteria in (("reward", REWARD), ("exam", EXAM)):
        by = judge(name, criteria)
        nulls = {str(m): [v.score for v in world.graded(by, null_answers(m, criteria, world.prompts))] for m in NullModel}
        found[name] = null_model_floor(nulls, [v.score for v in world.graded(by, world.base)])
    assert found["reward"].decision is Decision.FAIL
    assert {row["null_model"] for row in found["reward"].evidence if row["decision"] == "fail"} >= {"constant", "keyword-stuffed"}
    assert found["exam"].decision is Decision.PASS, found["exam"].summary


def test_asked_without_a_rubric_nobody_prefers_the_gamed_answers(world):
    """Whoever knows the right number prefers the answer that holds it, and the shorter of two that do or do not."""
    references = dict(zip(world.ids, world.references, strict=True))

    def prefer(duels):
        def worth(item: str, text: str) -> tuple[bool, int]:
            return re.search(rf"The answer is {references[item]}(?![0-9])", text) is not None, -len(text)

        sides = [(worth(d.item_id, d.first), worth(d.item_id, d.second)) for d in duels]
        return [0.5 if one == other else float(one > other) for one, other in sides]

    def pairs(tuned: list[str]) -> list[Pair]:
        return [Pair(i, p, b, t, i) for i, p, b, t in zip(world.ids, world.prompts, world.base, tuned, strict=True)]

    assert rubric_free_preference(compare(pairs(world.gamed), prefer)).decision is Decision.FAIL
    assert rubric_free_preference(compare(pairs(world.better), prefer)).decision is Decision.PASS
