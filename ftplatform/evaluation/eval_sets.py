"""Eval sets as the evaluation takes them: rows, how answers are produced and how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.generation import Conversation, Decoding
from ftplatform.evaluation.harness.task import HarnessTask
from ftplatform.evaluation.judges.interface import Judge
from ftplatform.evaluation.kinds import Kind
from ftplatform.evaluation.tasks import Metric, unusable
from ftplatform.rows.schema import Role


@dataclass(frozen=True, slots=True)
class Item:
    """A row as a question: the conversation that is asked, its last user turn, and the answer to compare with."""

    item_id: str
    conversation: Conversation
    prompt: str
    reference: str | None
    slices: list[str]
    group: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSet:
    """One eval set as rows.

    Attributes:
        name, kind: which set, and what it measures.
        rows: table of `ROW_SCHEMA`. A final assistant turn is the reference; the prompt is everything before it.
        metric: how answers are scored where there is a reference.
        judge: grades the answers in place of `metric`, with or without references.
        max_new_tokens: length limit of an answer.
        temperature, top_p: of the set's own decoding; None takes that of the evaluation.
        samples: answers drawn for each prompt. More than one for behavior probes only, whose rates are counted over draws.
        harness: asks and scores the rows, its items in their order, in place of everything above.
    """

    name: str
    kind: Kind
    rows: pa.Table
    metric: Metric = Metric.EXACT_MATCH
    judge: Judge | None = None
    max_new_tokens: int = 48
    temperature: float | None = None
    top_p: float | None = None
    samples: int = 1
    harness: HarnessTask | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"{self.name}: samples is {self.samples}; at least one answer is needed")
        if self.samples > 1 and self.kind is not Kind.BEHAVIOR_PROBES:
            raise ValueError(f"{self.name}: {self.kind} items are answered once; samples are for {Kind.BEHAVIOR_PROBES}")

    def decoding(self, default: Decoding) -> Decoding:
        """How its answers are produced, where an evaluation says `default`."""
        return replace(
            default,
            max_new_tokens=self.max_new_tokens,
            temperature=default.temperature if self.temperature is None else self.temperature,
            top_p=default.top_p if self.top_p is None else self.top_p,
        )

    def items(self) -> list[Item]:
        """What is asked: the distinct rows, in order.

        Raises:
            EvaluationError: it is empty, or a row asks nothing, lacks a reference that is needed, or has one of no use to the metric.
        """
        items: dict[str, Item] = {}
        for row in self.rows.select(["row_id", "messages", "slices", "group"]).to_pylist():
            messages = row["messages"]
            reference = None
            if messages and messages[-1]["role"] == Role.ASSISTANT:
                *messages, last = messages
                reference = last["content"]
            asked = [m["content"] for m in messages if m["role"] == Role.USER]
            if not asked:
                raise EvaluationError(
                    f"Row {row['row_id']} of {self.name} asks nothing: it has no user turn.", remedy="Remove the row."
                )
            if self.kind is Kind.TASK and reference is None and self.judge is None and self.metric.needs_reference:
                raise EvaluationError(
                    f"Row {row['row_id']} of {self.name} has no answer to score against.",
                    remedy="End each task row with an assistant turn.",
                )
            items.setdefault(
                row["row_id"], Item(row["row_id"], messages, asked[-1], reference, list(row["slices"] or ()), row["group"])
            )
        if not items:
            raise EvaluationError(
                f"Eval set {self.name} is empty.", remedy="Check its path, or remove it from the adapter's `evals`."
            )
        if self.judge is None and self.harness is None:
            _check_references(self, [item for item in items.values() if item.reference is not None])
        return list(items.values())


def _check_references(eval_set: EvalSet, items: Sequence[Item]) -> None:
    if problem := unusable([str(item.reference) for item in items], eval_set.metric):
        place, reason = problem
        raise EvaluationError(
            f"The reference of row {items[place].item_id} of {eval_set.name} cannot be used by {eval_set.metric}: {reason}.",
            remedy="Correct the row, or choose another metric.",
        )
