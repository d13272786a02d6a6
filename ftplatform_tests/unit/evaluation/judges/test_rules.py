"""The judge without a model."""

from __future__ import annotations

import pytest

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.judges.interface import JudgeItem
from ftplatform.evaluation.judges.rules import Rule, RuleJudge, RuleKind


def item(answer: str, reference: str | None = None, name: str = "i") -> JudgeItem:
    return JudgeItem(name, [{"role": "user", "content": "?"}], answer, reference)


@pytest.mark.parametrize(
    ("rule", "answer", "met"),
    [
        (Rule("r", RuleKind.CONTAINS, "thank you"), "Well, Thank you!", True),
        (Rule("r", RuleKind.CONTAINS, "5"), "It takes 25 days.", False),
        (Rule("r", RuleKind.CONTAINS, "sorry", negate=True), "I'm sorry.", False),
        (Rule("r", RuleKind.CONTAINS, "sorry", negate=True), "Done.", True),
        (Rule("r", RuleKind.REGEX, r"^\d+$"), "42", True),
        (Rule("r", RuleKind.REGEX, r"^\d+$"), "42 days", False),
        (Rule("r", RuleKind.JSON), '```json\n{"a": 1}\n```', True),
        (Rule("r", RuleKind.JSON), "{'a': 1}", False),
        (Rule("r", RuleKind.REFERENCE), "It is 5 days, I think.", True),
        (Rule("r", RuleKind.REFERENCE), "It is 15 days.", False),
        (Rule("r", RuleKind.MAX_WORDS, "3"), "one two three", True),
        (Rule("r", RuleKind.MAX_WORDS, "3"), "one two three four", False),
        (Rule("r", RuleKind.MAX_WORDS, "0"), "", True),
    ],
)
def test_a_rule(rule: Rule, answer: str, met: bool) -> None:
    (verdict,) = RuleJudge("exam", [rule]).judge([item(answer, "5 days")]).verdicts
    assert verdict.criteria == {"r": float(met)}
    assert verdict.score == float(met)
    assert bool(verdict.reason) != met


def test_the_score_is_the_share_of_rules_met_and_items_keep_their_order() -> None:
    judge = RuleJudge("exam", [Rule("polite", RuleKind.CONTAINS, "please"), Rule("short", RuleKind.MAX_WORDS, "4")])
    judged = judge.judge([item("please wait", name="a"), item("one two three four five", name="b"), item("no", name="c")])
    assert [(v.item_id, v.score) for v in judged.verdicts] == [("a", 1.0), ("b", 0.0), ("c", 0.5)]
    assert judged.verdicts[1].reason == "not met: polite, short"
    assert (judged.calls, judged.transcripts.num_rows, judged.quarantined) == (0, 0, [])
    assert judge.judge([]).verdicts == []


def test_the_hash_follows_the_rules() -> None:
    one = RuleJudge("a", [Rule("r", RuleKind.CONTAINS, "x")])
    assert one.prompt_hash == RuleJudge("b", [Rule("r", RuleKind.CONTAINS, "x")]).prompt_hash
    assert one.prompt_hash != RuleJudge("a", [Rule("r", RuleKind.CONTAINS, "y")]).prompt_hash
    assert one.prompt_hash != RuleJudge("a", [Rule("r", RuleKind.CONTAINS, "x", negate=True)]).prompt_hash


def test_what_cannot_be_judged_is_named() -> None:
    with pytest.raises(EvaluationError, match="item lonely has none"):
        RuleJudge("exam", [Rule("r", RuleKind.REFERENCE)]).judge([item("x", "y"), item("x", name="lonely")])
    with pytest.raises(ValueError, match="distinct ids"):
        RuleJudge("exam", [Rule("r", RuleKind.JSON), Rule("r", RuleKind.JSON)])
    with pytest.raises(ValueError, match="distinct ids"):
        RuleJudge("exam", [])
    for kind, value in [(RuleKind.REGEX, "a("), (RuleKind.MAX_WORDS, "few"), (RuleKind.CONTAINS, "")]:
        with pytest.raises(ValueError, match="rule r"):
            Rule("r", kind, value)
