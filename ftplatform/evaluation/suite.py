"""Evaluation of a tuned model against its base: the same prompts, the same decoding, with and without the production system prompt.

The result is a table of answers, one row per item and condition, from which every check on an evaluation is computed. Answers are
kept, not only scores: a check that is changed tomorrow judges them again without generating anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.errors import EvaluationError
from ftplatform.evaluation.coherence import CoherenceReference
from ftplatform.evaluation.generation import Conversation, Decoding, Generator
from ftplatform.evaluation.refusals import Label, judge_all
from ftplatform.evaluation.retention import PLAIN, SYSTEM_PROMPT
from ftplatform.evaluation.tasks import Metric, score
from ftplatform.rows.schema import Role

#: Called with (what is being done, done, all).
Progress = Callable[[str, int, int], None]


class Kind(StrEnum):
    """What an eval set measures; the values of `kind` in the project file."""

    TASK = "task"
    REFUSAL_PROBES = "refusal_probes"
    OVERREFUSAL_PROBES = "overrefusal_probes"
    HELPFULNESS_PROBES = "helpfulness_probes"
    BEHAVIOR_PROBES = "behavior_probes"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSet:
    """One eval set as rows.

    Attributes:
        name, kind: which set, and what it measures.
        rows: table of `ROW_SCHEMA`. A final assistant turn is the reference; the prompt is everything before it.
        metric: how answers are scored where there is a reference.
        max_new_tokens: length limit of an answer.
    """

    name: str
    kind: Kind
    rows: pa.Table
    metric: Metric = Metric.EXACT_MATCH
    max_new_tokens: int = 48


#: Base answers whose log-probability is taken to learn what is normal.
_BASE_SAMPLE = 256

#: One row per eval set, item and condition. Labels for every kind but tasks; scores where there is a reference; log-probabilities
#: are means per token (nats) under the *base* model, null where they were not needed.
ANSWERS_SCHEMA = pa.schema(
    [
        pa.field("eval_set", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("category", pa.string()),
        pa.field("slices", pa.list_(pa.string()), nullable=False),
        pa.field("group", pa.string()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("reference", pa.string()),
        pa.field("base_answer", pa.string(), nullable=False),
        pa.field("tuned_answer", pa.string(), nullable=False),
        pa.field("base_label", pa.string()),
        pa.field("tuned_label", pa.string()),
        pa.field("base_score", pa.float64()),
        pa.field("tuned_score", pa.float64()),
        pa.field("base_logprob", pa.float64()),
        pa.field("tuned_logprob", pa.float64()),
    ]
)

#: Base answers worth keeping: the key says which model, which conversation, which system prompt and which decoding.
BASE_ANSWERS_SCHEMA = pa.schema(
    [
        pa.field("base_model", pa.string(), nullable=False),
        pa.field("conversation", pa.string(), nullable=False),
        pa.field("decoding", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
        answers: table of `ANSWERS_SCHEMA`.
        base_answers: table of `BASE_ANSWERS_SCHEMA` with what the base said here; pass it to the next evaluation.
        summary: per eval set and condition: sizes, shares of labels, mean scores.
        base_generated: base answers that were generated now, not taken from the cache.
    """

    answers: pa.Table
    base_answers: pa.Table
    summary: Mapping[str, Any]
    base_generated: int

    def of_kind(self, kind: Kind | str, *, condition: str | None = None) -> pa.Table:
        """The answers of the sets of one kind, in the columns the checks read."""
        frame = pl.DataFrame(pl.from_arrow(self.answers)).filter(pl.col("kind") == str(kind))
        if condition is not None:
            frame = frame.filter(pl.col("condition") == condition)
        return frame.to_arrow().cast(ANSWERS_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Item:
    item_id: str
    conversation: Conversation
    prompt: str
    reference: str | None
    slices: list[str]
    group: str | None


def evaluate(
    generator: Generator,
    eval_sets: Sequence[EvalSet],
    *,
    system_prompt: str | None = None,
    decoding: Decoding | None = None,
    cached_base: pa.Table | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Asks base and tuned model everything in `eval_sets` and judges the answers.

    Probes are asked plainly and, if there is a `system_prompt`, under it as well. Tasks are asked as in production: under the
    system prompt if there is one.

    Args:
        generator: base model with the adapter loaded.
        eval_sets: at least one, with distinct names. Rows repeated inside a set are asked once.
        system_prompt: the production system prompt.
        decoding: how answers are produced (greedy by default); each set brings its own length limit.
        cached_base: `base_answers` of an earlier evaluation; rows of other models, prompts or decodings in it do no harm.
        progress: called after every batch.

    Raises:
        EvaluationError: if there is no adapter, nothing to ask, a conversation without a user turn, a task row without a reference,
            or a conversation longer than the model's context.
    """
    if not generator.has_adapter:
        raise EvaluationError(
            "An evaluation compares a tuned model with its base and no adapter is loaded.", remedy="Load the adapter."
        )
    if not eval_sets:
        raise EvaluationError("There is no eval set to evaluate on.", remedy="Name at least one in the adapter's `evals`.")
    if len({s.name for s in eval_sets}) != len(eval_sets):
        raise EvaluationError("Two eval sets have the same name.", remedy="Give each set its own name.")
    decoding = decoding or Decoding()
    memory = _BaseMemory(generator, cached_base)

    asked: list[dict[str, Any]] = []
    for eval_set in eval_sets:
        items = _items(eval_set)
        how = replace(decoding, max_new_tokens=eval_set.max_new_tokens)
        for condition, system in _conditions(eval_set.kind, system_prompt):
            stage = f"{eval_set.name} ({condition})"

            conversations = [item.conversation for item in items]
            base = memory.answers(conversations, system, how, _stage(progress, f"{stage}: base model"))
            tuned = generator.generate(
                conversations, how, adapter=True, system_prompt=system, progress=_stage(progress, f"{stage}: tuned model")
            )
            for item, before, after in zip(items, base, tuned, strict=True):
                asked.append(
                    {
                        "eval_set": eval_set.name,
                        "kind": str(eval_set.kind),
                        "item_id": item.item_id,
                        "condition": condition,
                        "category": item.slices[0] if item.slices else None,
                        "slices": item.slices,
                        "group": item.group,
                        "prompt": item.prompt,
                        "reference": item.reference,
                        "base_answer": before,
                        "tuned_answer": after,
                        "conversation": item.conversation,
                        "system": system,
                        "metric": str(eval_set.metric),
                    }
                )
    _label(generator, asked, progress)
    _score(asked)
    answers = pa.Table.from_pylist([{name: row.get(name) for name in ANSWERS_SCHEMA.names} for row in asked], schema=ANSWERS_SCHEMA)
    return EvaluationResult(answers, memory.table(), summarize(answers), memory.generated)


def summarize(answers: pa.Table) -> dict[str, Any]:
    """Per eval set and condition: `n`, for probes the share of each label before and after, for scored sets the mean scores."""
    frame = pl.DataFrame(pl.from_arrow(answers))
    summary: dict[str, Any] = {}
    for (name, kind, condition), part in frame.group_by("eval_set", "kind", "condition", maintain_order=True):
        facts: dict[str, Any] = {"kind": kind, "n": len(part)}
        for who in ("base", "tuned"):
            labels = part[f"{who}_label"].drop_nulls()
            if len(labels):
                facts[who] = {str(label): round(int((labels == str(label)).sum()) / len(labels), 4) for label in Label}
            scores = part[f"{who}_score"].drop_nulls()
            if len(scores):
                facts[f"{who}_score"] = round(float(np.mean(scores.to_numpy())), 4)
        summary.setdefault(str(name), {})[str(condition)] = facts
    return summary


def _stage(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, stage)


def _conditions(kind: Kind, system_prompt: str | None) -> list[tuple[str, str | None]]:
    if not system_prompt:
        return [(PLAIN, None)]
    under = (SYSTEM_PROMPT, system_prompt)
    return [under] if kind is Kind.TASK else [(PLAIN, None), under]


def _items(eval_set: EvalSet) -> list[_Item]:
    items: dict[str, _Item] = {}
    for row in eval_set.rows.select(["row_id", "messages", "slices", "group"]).to_pylist():
        messages = row["messages"]
        reference = None
        if messages and messages[-1]["role"] == Role.ASSISTANT:
            *messages, last = messages
            reference = last["content"]
        asked = [m["content"] for m in messages if m["role"] == Role.USER]
        if not asked:
            raise EvaluationError(
                f"Row {row['row_id']} of {eval_set.name} asks nothing: it has no user turn.", remedy="Remove the row."
            )
        if eval_set.kind is Kind.TASK and reference is None:
            raise EvaluationError(
                f"Row {row['row_id']} of {eval_set.name} has no answer to score against.",
                remedy="End each task row with an assistant turn.",
            )
        items.setdefault(
            row["row_id"], _Item(row["row_id"], messages, asked[-1], reference, list(row["slices"] or ()), row["group"])
        )
    if not items:
        raise EvaluationError(
            f"Eval set {eval_set.name} is empty.", remedy="Check its path, or remove it from the adapter's `evals`."
        )
    return list(items.values())


class _BaseMemory:
    """Answers of the base model, generated once for each (model, rendered prompt, decoding)."""

    def __init__(self, generator: Generator, cached: pa.Table | None) -> None:
        self._generator = generator
        self._known: dict[tuple[str, str], str] = {}
        self._used: set[tuple[str, str]] = set()
        self.generated = 0
        if cached is not None:
            frame = pl.DataFrame(pl.from_arrow(cached)).filter(pl.col("base_model") == generator.base_digest)
            self._known = {(c, d): a for c, d, a in frame.select("conversation", "decoding", "answer").iter_rows()}

    def answers(
        self,
        conversations: Sequence[Conversation],
        system: str | None,
        decoding: Decoding,
        progress: Callable[[int, int], None] | None,
    ) -> list[str]:
        # What the model reads is the key: template, system prompt and conversation are all in it.
        keys = [(digest(text), decoding.key) for text in self._generator.render(conversations, system)]
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            fresh = self._generator.generate([conversations[i] for i in missing], decoding, system_prompt=system, progress=progress)
            self._known.update({keys[i]: answer for i, answer in zip(missing, fresh, strict=True)})
            self.generated += len(missing)
        self._used.update(keys)
        return [self._known[key] for key in keys]

    def table(self) -> pa.Table:
        # Only what this evaluation asked: the result must not depend on what else happened to be in the cache.
        rows = sorted((self._generator.base_digest, *key, self._known[key]) for key in self._used)
        return pa.Table.from_pylist(
            [dict(zip(BASE_ANSWERS_SCHEMA.names, row, strict=True)) for row in rows], schema=BASE_ANSWERS_SCHEMA
        )


def _label(generator: Generator, asked: list[dict[str, Any]], progress: Progress | None) -> None:
    """Labels of all probes. What the base model finds as unlikely as noise is incoherent, so it scores the answers first.

    Its own answers only show what is normal, for which a sample is enough; and a tuned answer equal to the base's needs no opinion.
    """
    probes = [row for row in asked if row["kind"] != Kind.TASK]
    if not probes:
        return
    _base_logprobs(generator, probes[:: max(1, len(probes) // _BASE_SAMPLE)], "base")
    _base_logprobs(generator, [row for row in probes if row["tuned_answer"] != row["base_answer"]], "tuned")
    coherent = [text for row in asked for text in (row["prompt"], row["reference"], row["base_answer"]) if text]
    reference = CoherenceReference.of(
        coherent,
        base_logprobs=[row["base_logprob"] for row in probes if row.get("base_logprob") is not None],
        vocabulary_size=generator.vocabulary_size,
    )
    prompts = [row["prompt"] for row in probes]
    for who in ("base", "tuned"):
        labels = judge_all(
            [row[f"{who}_answer"] for row in probes],
            prompts,
            reference=reference,
            logprobs=[row.get(f"{who}_logprob") for row in probes],
        )
        for row, label in zip(probes, labels, strict=True):
            row[f"{who}_label"] = str(label)
        if progress is not None:
            progress(f"judging the {who} model", len(probes), len(probes))


def _base_logprobs(generator: Generator, rows: Sequence[dict[str, Any]], who: str) -> None:
    """Adds to each row the mean token log-probability of `who`'s answer under the base model."""
    for system in dict.fromkeys(row["system"] for row in rows):
        here = [row for row in rows if row["system"] == system]
        scored = generator.teacher_forced_logprob(
            [row["conversation"] for row in here], [row[f"{who}_answer"] for row in here], system_prompt=system
        )
        for row, value in zip(here, scored.mean.tolist(), strict=True):
            row[f"{who}_logprob"] = None if np.isnan(value) else value


def _score(asked: list[dict[str, Any]]) -> None:
    for metric in dict.fromkeys(row["metric"] for row in asked):
        rows = [row for row in asked if row["metric"] == metric and row["reference"] is not None]
        references = [row["reference"] for row in rows]
        for who in ("base", "tuned"):
            for row, value in zip(rows, score([row[f"{who}_answer"] for row in rows], references, metric).to_pylist(), strict=True):
                row[f"{who}_score"] = value
