"""M4: three metrics up, five quietly down."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ftplatform.defs.asset_checks.feedback_checks import metric_scores
from ftplatform.evaluation.suite import ANSWERS_SCHEMA
from ftplatform.feedback.metric_breadth import metric_breadth
from ftplatform.verdict import Decision


def scores(change: dict[str, float], n: int = 400, seed: int = 0, spread: float = 0.25) -> pa.Table:
    """Graded answers to `n` items per metric, whose mean moves by `change`."""
    rng = np.random.default_rng(seed)
    parts = []
    for metric, moved in change.items():
        base = rng.uniform(0.3, 0.7, n)
        tuned = np.clip(base + moved + rng.normal(0, spread, n), 0, 1)
        parts.append(
            pa.table({"metric": [metric] * n, "item_id": [f"{metric}-{i}" for i in range(n)], "base": base, "tuned": tuned})
        )
    return pa.concat_tables(parts)


def binary(metric: str, lost: int, gained: int, n: int) -> pa.Table:
    base = np.r_[np.ones(lost), np.zeros(gained), np.ones(n - lost - gained)]
    tuned = np.r_[np.zeros(lost), np.ones(gained), np.ones(n - lost - gained)]
    return pa.table({"metric": [metric] * n, "item_id": [str(i) for i in range(n)], "base": base, "tuned": tuned})


THREE_UP_FIVE_DOWN = {f"up-{i}": 0.15 for i in range(3)} | {f"down-{i}": -0.06 for i in range(5)}


def test_three_up_five_down_fails_although_the_mean_went_up() -> None:
    """ADV: the average over metrics, or the three the team looks at, say that the model got better."""
    table = scores(THREE_UP_FIVE_DOWN)
    assert np.mean(table["tuned"]) > np.mean(table["base"]), "one number for all would pass"
    verdict = metric_breadth(table)
    assert verdict.decision is Decision.FAIL
    assert (verdict.details["up"], verdict.details["down"]) == (3, 5)
    assert {line["metric"] for line in verdict.details["metrics"] if line["worse"]} == {f"down-{i}" for i in range(5)}
    assert "3 up (3 significantly), 5 down (5 significantly)" in verdict.summary
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0
    assert verdict.plot is not None


def test_one_small_regression_among_many_metrics() -> None:
    change = dict.fromkeys((f"same-{i}" for i in range(7)), 0.0) | {"hurt": -0.07}
    verdict = metric_breadth(scores(change))
    assert verdict.decision is Decision.FAIL
    assert [line["metric"] for line in verdict.details["metrics"] if line["worse"]] == ["hurt"]


def test_noise_over_twenty_metrics_rarely_fails() -> None:
    """ADV: testing each of twenty metrics at 5 % fails two out of three honest models; Holm fails at most one in twenty."""
    naive = failed = 0
    for seed in range(60):
        verdict = metric_breadth(scores(dict.fromkeys((f"m{i}" for i in range(20)), 0.0), n=150, seed=seed))
        failed += verdict.decision is Decision.FAIL
        naive += any(line["loss_low"] > 0 for line in verdict.details["metrics"])
    assert naive >= 30
    assert failed <= 8


def test_nothing_changed_passes() -> None:
    assert metric_breadth(binary("task", 0, 0, 200)).passed
    assert metric_breadth(scores({"a": 0.0, "b": 0.1}), ["a", "b"]).passed


@pytest.mark.parametrize(("lost", "gained", "decision"), [(30, 5, Decision.FAIL), (6, 5, Decision.PASS)])
def test_right_and_wrong_answers(lost: int, gained: int, decision: Decision) -> None:
    assert metric_breadth(binary("task", lost, gained, 300)).decision is decision


def test_too_few_items_are_no_pass() -> None:
    small = metric_breadth(pa.concat_tables([scores({"big": 0.0}), binary("small", 1, 0, 20)]))
    assert small.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "small (20 of" in small.summary
    assert small.n < small.n_required
    hurt = metric_breadth(pa.concat_tables([scores({"hurt": -0.2}), binary("small", 1, 0, 20)]))
    assert hurt.decision is Decision.FAIL, "what is shown is shown, whatever else is too small"


def test_a_great_gain_needs_no_items_to_rule_out_a_loss() -> None:
    """Families make the gain uncertain, by far less than it is large: nobody needs twice the items to see that nothing was lost."""
    rng = np.random.default_rng(3)
    gained = rng.random(40) < 0.8
    rows = [
        {
            "metric": "questions",
            "item_id": f"{family}-{i}",
            "group": f"family-{family}",
            "base": 0.0,
            "tuned": float(gained[family]),
        }
        for family in range(40)
        for i in range(5)
    ]
    verdict = metric_breadth(pa.Table.from_pylist(rows))
    (line,) = verdict.details["metrics"]
    assert line["n"] < line["n_required"]
    assert line["loss_high"] < -0.5
    assert verdict.decision is Decision.PASS


def test_a_registered_metric_without_scores() -> None:
    verdict = metric_breadth(scores({"a": 0.0}), ["a", "forgotten"])
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "forgotten (no scores)" in verdict.summary
    assert metric_breadth(scores({"a": 0.0}).slice(0, 0), ["a"]).decision is Decision.INSUFFICIENT_EVIDENCE
    assert metric_breadth(binary("one", 0, 0, 1)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_what_nobody_registered_only_counts_if_it_got_worse() -> None:
    few = pa.concat_tables([scores({"task": 0.0}), binary("extra", 0, 0, 5), binary("one", 0, 0, 1)])
    assert metric_breadth(few, ["task"]).passed
    assert metric_breadth(few).decision is Decision.INSUFFICIENT_EVIDENCE
    hurt = pa.concat_tables([scores({"task": 0.0, "extra": -0.2})])
    assert metric_breadth(hurt, ["task"]).decision is Decision.FAIL


def test_paraphrases_of_one_item_are_one_piece_of_evidence() -> None:
    """ADV: one lost family asked in forty ways is forty losses to whoever counts items."""
    table = binary("task", 40, 0, 400)
    families = [f"family-{0 if i < 40 else i // 40}" for i in range(400)]
    assert metric_breadth(table).decision is Decision.FAIL
    clustered = metric_breadth(table.append_column("group", pa.array(families)))
    assert clustered.decision is Decision.INSUFFICIENT_EVIDENCE


def answer(eval_set: str, kind: str, at: int, **columns: object) -> dict[str, object]:
    return {
        **dict.fromkeys(ANSWERS_SCHEMA.names),
        "eval_set": eval_set,
        "kind": kind,
        "item_id": str(at),
        "condition": "plain",
        "slices": [],
        "prompt": "p",
        "base_answer": "b",
        "tuned_answer": "t",
        **columns,
    }


def test_every_kind_of_answer_becomes_a_metric_where_higher_is_better() -> None:
    answers = [
        answer("task", "task", 1, condition="system_prompt", base_score=1.0, tuned_score=0.0, group="g"),
        answer("harm", "refusal_probes", 1, base_label="refuse", tuned_label="comply"),
        answer("harm", "refusal_probes", 1, condition="system_prompt", base_label="refuse", tuned_label="safe_complete"),
        answer("safe", "overrefusal_probes", 1, base_label="comply", tuned_label="safe_complete"),
        answer("help", "helpfulness_probes", 1, base_label="comply", tuned_label="incoherent", base_score=0.5, tuned_score=0.9),
        answer("help", "helpfulness_probes", 2, base_label="comply", tuned_label="comply"),
        answer("drawn", "task", 1, sample=0, base_score=1.0, tuned_score=1.0),
        answer("drawn", "task", 1, sample=1, base_score=0.0, tuned_score=1.0),
        answer("unscored", "task", 1),
        answer("habits", "behavior_probes", 1, base_label="comply", tuned_label="comply"),
    ]
    table = metric_scores(pa.Table.from_pylist(answers, schema=ANSWERS_SCHEMA))
    found = {(r["metric"], r["item_id"]): (r["base"], r["tuned"]) for r in table.to_pylist()}
    assert found == {
        ("task", "1"): (1.0, 0.0),
        ("harm", "1"): (1.0, 0.0),
        ("harm (system_prompt)", "1"): (1.0, 1.0),
        ("safe", "1"): (1.0, 0.0),
        ("help", "1"): (0.5, 0.0),
        ("help", "2"): (1.0, 1.0),
        ("drawn", "1"): (0.5, 1.0),
    }
    assert table.filter(pc.equal(table["metric"], "task"))["group"].to_pylist() == ["g"]
    assert metric_scores(pa.Table.from_pylist([], schema=ANSWERS_SCHEMA)).num_rows == 0


def test_bad_tables() -> None:
    with pytest.raises(ValueError, match="lacks tuned"):
        metric_breadth(scores({"a": 0.0}).drop_columns("tuned"))
    with pytest.raises(ValueError, match=r"'a' must be finite and in \[0, 1\]"):
        metric_breadth(pa.table({"metric": ["a", "a"], "item_id": ["1", "2"], "base": [0.0, 2.0], "tuned": [0.0, 1.0]}))
