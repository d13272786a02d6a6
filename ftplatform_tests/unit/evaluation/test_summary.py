"""Scores with their standard errors: known values, clusters, slices, and what has no error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.evaluation.suite import ANSWERS_SCHEMA
from ftplatform.evaluation.summary import result_rows, summarize, worst_slices


def answers(scores: Sequence[tuple[str, float, float, str | None, list[str]]]) -> pa.Table:
    """Task answers from (item, base score, tuned score, group, slices)."""
    rows: list[dict[str, Any]] = [
        {
            **dict.fromkeys(ANSWERS_SCHEMA.names),
            "eval_set": "task",
            "kind": "task",
            "item_id": item,
            "condition": "plain",
            "slices": slices,
            "group": group,
            "prompt": "?",
            "base_answer": "",
            "tuned_answer": "",
            "base_score": base,
            "tuned_score": tuned,
        }
        for item, base, tuned, group, slices in scores
    ]
    return pa.Table.from_pylist(rows, schema=ANSWERS_SCHEMA)


def test_standard_error_of_independent_items_is_the_textbook_one() -> None:
    table = answers([(str(i), float(i % 4 == 0), float(i % 2), None, []) for i in range(40)])
    facts = summarize(table)["task"]["plain"]
    assert (facts["n"], facts["clusters"]) == (40, 40)
    assert facts["base_score"] == 0.25
    assert facts["base_score_se"] == pytest.approx(math.sqrt(0.25 * 0.75 / 39), abs=1e-4)
    assert facts["gain"] == 0.25
    low, high = facts["gain_ci"]
    assert low < 0.25 < high
    assert "slices" not in facts


def test_ten_wordings_of_four_questions_are_not_forty_items() -> None:
    """ADV: whole groups are right or wrong together; the error of forty independent items is a third of the true one."""
    grouped = [(f"{group}-{i}", float(group < 2), float(group < 2), f"g{group}", []) for group in range(4) for i in range(10)]
    clustered = summarize(answers(grouped))["task"]["plain"]
    naive = summarize(answers([(item, base, tuned, None, slices) for item, base, tuned, _, slices in grouped]))["task"]["plain"]
    assert clustered["clusters"] == 4
    assert clustered["tuned_score"] == naive["tuned_score"] == 0.5
    assert naive["tuned_score_se"] == pytest.approx(math.sqrt(0.25 / 39), abs=1e-4)
    assert clustered["tuned_score_se"] == pytest.approx(math.sqrt(0.25 / 3), abs=1e-4)


def test_five_of_five_right_is_not_certainty() -> None:
    """ADV: the standard error of equal scores is 0, and the interval it gives is a single point."""
    facts = summarize(answers([(str(i), 0.0, 1.0, None, []) for i in range(5)]))["task"]["plain"]
    assert facts["tuned_score_se"] == 0.0
    assert facts["tuned_score_ci"] == [pytest.approx(0.5655, abs=1e-4), 1.0]
    assert facts["base_score_ci"] == [0.0, pytest.approx(0.4345, abs=1e-4)]


def test_draws_of_one_item_are_one_cluster() -> None:
    table = answers([(str(i % 3), 0.0, float(i % 3 == 0), None, []) for i in range(30)])
    assert summarize(table)["task"]["plain"]["clusters"] == 3


def test_one_cluster_has_no_error() -> None:
    facts = summarize(answers([("a", 1.0, 0.0, None, ["s"])]))["task"]["plain"]
    assert (facts["tuned_score"], facts["tuned_score_se"], facts["tuned_score_ci"]) == (0.0, None, None)
    assert result_rows({"task": {"plain": facts}})[0]["tuned score"] == "0.000"


def test_every_slice_is_summarized_and_the_weakest_are_shown_first() -> None:
    """ADV: the mean rises by two points while a slice loses everything."""
    items = [(f"a{i}", 0.5, 0.6, None, ["common"]) for i in range(90)]
    items += [(f"b{i}", 1.0, 0.3, None, ["rare", "angry"]) for i in range(10)]
    summary = summarize(answers(items))
    facts = summary["task"]["plain"]
    assert facts["gain"] == pytest.approx(0.02)
    assert facts["slices"]["rare"]["gain"] == -0.7
    assert (facts["slices"]["rare"]["n"], facts["slices"]["common"]["n"]) == (10, 90)
    assert [row["slice"] for row in worst_slices(summary, 2)] == ["angry", "rare"]
    assert {row["slice"]: row["n"] for row in result_rows(summary, slices=True)} == {"angry": 10, "common": 90, "rare": 10}
    (row,) = result_rows(summary)
    assert row["gain"].startswith("0.020 ± ")
