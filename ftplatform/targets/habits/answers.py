"""What a model said to probes, read for habits like a corpus: each sampled answer is a row with the prompt before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.schema import MESSAGE_TYPE, Role
from ftplatform.targets.habits.classifier import SentenceClassifier
from ftplatform.targets.habits.detection import Habit, Scan, scan
from ftplatform.targets.habits.policy import Policy

Who = Literal["base", "tuned"]


@dataclass(frozen=True)
class Answered:
    """Attributes:
    found: scan of the sampled answers; `row_id` of a finding is the item's id.
    asked: `item_id`, `category`, `group` of each sampled answer, in the order of the rows of `found`.
    """

    found: Scan
    asked: pl.DataFrame

    @property
    def draws(self) -> int:
        """Sampled answers."""
        return len(self.asked)

    @property
    def prompts(self) -> int:
        """Different prompts."""
        return self.asked["item_id"].n_unique()

    def prompts_with(self, habit: Habit) -> pl.Series:
        """Ids of the prompts any draw of which shows the habit without a warrant."""
        return self.found.of(habit)["row_id"].unique()

    def shown(self, habit: Habit) -> pl.Series:
        """Whether each sampled answer shows the habit at all, warranted or not; in the order of `asked`."""
        rows = self.found.of(habit, unbacked=False)["row"].unique()
        return pl.Series(np.isin(np.arange(self.draws), rows.to_numpy()))


def read_answers(
    answers: pa.Table, who: Who, policy: Policy, *, habits: Iterable[Habit], classifier: SentenceClassifier | None = None
) -> Answered:
    """Scan the sampled answers of one model; greedy ones (`sample` is null) are left out.

    Args:
        answers: table with `item_id`, `sample`, `category`, `group`, `prompt`, `base_answer`, `tuned_answer`
            (`ftplatform.evaluation.suite.ANSWERS_SCHEMA`).
    """
    sampled = answers.filter(pc.is_valid(answers["sample"]))
    asked = pl.DataFrame({name: pl.Series(sampled[name], dtype=pl.String) for name in ("item_id", "category", "group")})
    return Answered(scan(sampled_rows(answers, who), policy, habits=habits, classifier=classifier), asked)


def sampled_rows(answers: pa.Table, who: Who) -> pa.Table:
    """Each prompt with its sampled answer as a row of two turns, the second trainable; greedy answers are left out."""
    sampled = answers.filter(pc.is_valid(answers["sample"]))
    n, answer = sampled.num_rows, f"{who}_answer"
    said = pa.chunked_array([*sampled["prompt"].chunks, *sampled[answer].chunks], pa.string()).combine_chunks()
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    second = np.arange(2 * n) % 2 == 1
    roles = pc.if_else(pa.array(second), str(Role.ASSISTANT), str(Role.USER))
    turns = pa.StructArray.from_arrays([roles, said.take(pa.array(order)), pa.array(second)], fields=list(MESSAGE_TYPE))
    messages = pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * n + 1, 2), pa.int32()), turns)
    return pa.table(
        {
            "row_id": sampled["item_id"],
            "messages": messages,
            "source": pa.array(["answers"] * n, pa.string()),
            "author": pa.nulls(n, pa.string()),
            "group": sampled["item_id"],
            "meta": pa.array(["{}"] * n, pa.string()),
        }
    )
