"""Evaluation of a tuned model against its base: the same prompts, the same decoding, with and without the production system prompt.

The result is a table of answers, one row per item and condition, from which every check on an evaluation is computed. Answers are
kept, not only scores: a check that is changed tomorrow judges them again without generating anything.

Tasks and refusal probes are answered once, as `decoding` says. Habits are asked several times at the temperature of production: a
habit that shows in one answer of ten never shows in the likeliest one.
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

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.answer_cache import AnswerCache
from ftplatform.evaluation.coherence import CoherenceReference
from ftplatform.evaluation.generation import Conversation, Decoding, Generator
from ftplatform.evaluation.judges.interface import Judge, JudgeItem
from ftplatform.evaluation.judges.transcripts import TRANSCRIPT_SCHEMA
from ftplatform.evaluation.refusal_judge import RefusalJudge
from ftplatform.evaluation.retention import PLAIN, SYSTEM_PROMPT
from ftplatform.evaluation.summary import summarize
from ftplatform.evaluation.tasks import Metric, score, unusable
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
        judge: grades the answers in place of `metric`, with or without references.
        max_new_tokens: length limit of an answer.
        temperature, top_p: of the set's own decoding; None takes that of the evaluation.
        samples: answers drawn for each prompt. More than one for behavior probes only, whose rates are counted over draws.
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


#: Base answers whose log-probability is taken to learn what is normal.
_BASE_SAMPLE = 256

#: One row per eval set, item, condition and draw. `sample` numbers the draws and is null for greedy answers. Of every kind but tasks:
#: labels, which `judge` gave them, and the probability that the answer declines. Scores where there is a reference or a rubric.
#: Log-probabilities are means per token (nats) under the *base* model, null where they were not needed.
ANSWERS_SCHEMA = pa.schema(
    [
        pa.field("eval_set", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("sample", pa.int32()),
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
        pa.field("judge", pa.string()),
        pa.field("base_declined", pa.float64()),
        pa.field("tuned_declined", pa.float64()),
        pa.field("base_logprob", pa.float64()),
        pa.field("tuned_logprob", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
        answers: table of `ANSWERS_SCHEMA`.
        transcripts: what model judges were asked and said, table of `judges.transcripts.TRANSCRIPT_SCHEMA`.
        summary: see `summary.summarize`.
        generated: answers that were generated now, not taken from the cache.
        cache: all answers known by now; pass it to the next evaluation.
    """

    answers: pa.Table
    transcripts: pa.Table
    summary: Mapping[str, Any]
    generated: int
    cache: AnswerCache

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
    cache: AnswerCache | None = None,
    judge: RefusalJudge | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Asks base and tuned model everything in `eval_sets` and judges the answers.

    Probes are asked plainly and, if there is a `system_prompt`, under it as well. Tasks are asked as in production: under the
    system prompt if there is one.

    Args:
        generator: base model with the adapter loaded.
        eval_sets: at least one, with distinct names. Rows repeated inside a set are asked once.
        system_prompt: the production system prompt.
        decoding: how answers are produced (greedy by default) where a set does not say otherwise.
        cache: answers that need not be generated again, of this model or any other; kept in memory by default.
        judge: says of probes what was declined; the tier without an encoder by default.
        progress: called after every batch.

    Raises:
        EvaluationError: if there is no adapter, nothing to ask, a conversation without a user turn, a task row whose reference is
            missing or of no use to the metric, a conversation longer than the model's context, draws without a temperature, or a
            judge that cannot be reached.
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
    cache = cache or AnswerCache()
    known = cache.generated
    asked: list[dict[str, Any]] = []
    # All sets are read before anything is generated: a bad row in the last one should not cost the answers to the others.
    for eval_set, items in [(eval_set, _items(eval_set)) for eval_set in eval_sets]:
        for condition, system in _conditions(eval_set.kind, system_prompt):
            asked += _ask(generator, eval_set, items, condition, system, decoding, cache, progress)
    _label(generator, asked, judge or RefusalJudge(), progress)
    transcripts = _score(asked, {s.name: s for s in eval_sets}, progress)
    answers = pa.Table.from_pylist([{name: row.get(name) for name in ANSWERS_SCHEMA.names} for row in asked], schema=ANSWERS_SCHEMA)
    return EvaluationResult(answers, transcripts, summarize(answers), cache.generated - known, cache)


def _ask(
    generator: Generator,
    eval_set: EvalSet,
    items: Sequence[_Item],
    condition: str,
    system: str | None,
    default: Decoding,
    cache: AnswerCache,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """One row per item and draw: what both models answered."""
    how = eval_set.decoding(default)
    if eval_set.samples > 1 and how.temperature == 0:
        raise EvaluationError(
            f"{eval_set.name} asks for {eval_set.samples} draws of each answer and the decoding is greedy: all would be the same.",
            remedy="Set the temperature of production.",
        )
    draws = [(item, draw) for draw in range(eval_set.samples) for item in items]
    conversations = [item.conversation for item, _ in draws]
    seeds = [how.seed + draw for _, draw in draws]
    said: dict[str, list[str]] = {}
    for who in ("base", "tuned"):
        said[who] = cache.answers(
            generator,
            conversations,
            how,
            adapter=who == "tuned",
            system_prompt=system,
            seeds=seeds,
            progress=_stage(progress, f"{eval_set.name} ({condition}): {who} model"),
        )
    return [
        {
            "eval_set": eval_set.name,
            "kind": str(eval_set.kind),
            "item_id": item.item_id,
            "condition": condition,
            "sample": draw if how.temperature > 0 else None,
            "category": item.slices[0] if item.slices else None,
            "slices": item.slices,
            "group": item.group,
            "prompt": item.prompt,
            "reference": item.reference,
            "base_answer": before,
            "tuned_answer": after,
            "conversation": item.conversation,
            "system": system,
        }
        for (item, draw), before, after in zip(draws, said["base"], said["tuned"], strict=True)
    ]


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
        if eval_set.kind is Kind.TASK and reference is None and eval_set.judge is None and eval_set.metric.needs_reference:
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
    if eval_set.judge is None:
        _check_references(eval_set, [item for item in items.values() if item.reference is not None])
    return list(items.values())


def _check_references(eval_set: EvalSet, items: Sequence[_Item]) -> None:
    if problem := unusable([str(item.reference) for item in items], eval_set.metric):
        place, reason = problem
        raise EvaluationError(
            f"The reference of row {items[place].item_id} of {eval_set.name} cannot be used by {eval_set.metric}: {reason}.",
            remedy="Correct the row, or choose another metric.",
        )


def _label(generator: Generator, asked: list[dict[str, Any]], judge: RefusalJudge, progress: Progress | None) -> None:
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
        found = judge.judge(
            [row[f"{who}_answer"] for row in probes],
            prompts,
            reference=reference,
            logprobs=[row.get(f"{who}_logprob") for row in probes],
        )
        for row, label, declined in zip(probes, found.labels, found.declined.tolist(), strict=True):
            row[f"{who}_label"], row[f"{who}_declined"] = str(label), None if np.isnan(declined) else declined
            row["judge"] = found.judge
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


def _score(asked: list[dict[str, Any]], sets: Mapping[str, EvalSet], progress: Progress | None) -> pa.Table:
    """Adds the scores, by metric or judge; returns what was said to and by judges."""
    transcripts = [TRANSCRIPT_SCHEMA.empty_table()]
    for name, eval_set in sets.items():
        rows = [row for row in asked if row["eval_set"] == name]
        judge = eval_set.judge
        if judge is None and eval_set.metric.needs_reference:
            rows = [row for row in rows if row["reference"] is not None]
        for who in ("base", "tuned"):
            answers = [row[f"{who}_answer"] for row in rows]
            if judge is None:
                values = score(answers, [row["reference"] or "" for row in rows], eval_set.metric).to_pylist()
            else:
                items = [JudgeItem(row["item_id"], row["conversation"], row[f"{who}_answer"], row["reference"]) for row in rows]
                judged = judge.judge(items, progress=_stage(progress, f"{name}: {judge.id} judges the {who} model"))
                transcripts.append(judged.transcripts)
                values = [verdict.score for verdict in judged.verdicts]
            for row, value in zip(rows, values, strict=True):
                row[f"{who}_score"] = value
    # An answer of the base that the tuned model gave as well was judged once.
    exchanges = pl.DataFrame(pl.from_arrow(pa.concat_tables(transcripts))).unique("request").sort("request")
    return exchanges.to_arrow().cast(TRANSCRIPT_SCHEMA)
