"""Evaluation of a tuned model against its base: the same prompts, the same decoding, with and without the production system prompt.

The result is a table of answers, one row per item and condition, from which every check on an evaluation is computed. Answers are
kept, not only scores: a check that is changed tomorrow judges them again without generating anything.

Tasks and refusal probes are answered once, as `decoding` says. Habits are asked several times at the temperature of production: a
habit that shows in one answer of ten never shows in the likeliest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.answer_cache import AnswerCache
from ftplatform.evaluation.coherence import CoherenceReference
from ftplatform.evaluation.eval_sets import EvalSet, Item
from ftplatform.evaluation.generation import Decoding, Generator
from ftplatform.evaluation.harness.task import HarnessTask
from ftplatform.evaluation.judges.interface import JudgeItem
from ftplatform.evaluation.judges.transcripts import TRANSCRIPT_SCHEMA
from ftplatform.evaluation.kinds import Kind
from ftplatform.evaluation.refusal_judge import RefusalJudge
from ftplatform.evaluation.retention import PLAIN, SYSTEM_PROMPT
from ftplatform.evaluation.summary import summarize
from ftplatform.evaluation.tasks import score

#: Called with (what is being done, done, all).
Progress = Callable[[str, int, int], None]


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
    for eval_set, items in [(eval_set, eval_set.items()) for eval_set in eval_sets]:
        for condition, system in _conditions(eval_set.kind, system_prompt):
            if eval_set.harness is not None:
                asked += _ask_harness(generator, eval_set, eval_set.harness, items, condition, system, progress)
            else:
                asked += _ask(generator, eval_set, items, condition, system, decoding, cache, progress)
    _label(generator, asked, judge or RefusalJudge(), progress)
    transcripts = _score(asked, {s.name: s for s in eval_sets}, progress)
    answers = pa.Table.from_pylist([{name: row.get(name) for name in ANSWERS_SCHEMA.names} for row in asked], schema=ANSWERS_SCHEMA)
    return EvaluationResult(answers, transcripts, summarize(answers), cache.generated - known, cache)


def _ask(
    generator: Generator,
    eval_set: EvalSet,
    items: Sequence[Item],
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
        _answered(eval_set, item, condition, system, before, after) | {"sample": draw if how.temperature > 0 else None}
        for (item, draw), before, after in zip(draws, said["base"], said["tuned"], strict=True)
    ]


def _ask_harness(
    generator: Generator,
    eval_set: EvalSet,
    task: HarnessTask,
    items: Sequence[Item],
    condition: str,
    system: str | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """One row per item, scored already."""
    said = {}
    for who in ("base", "tuned"):
        said[who] = task.ask(generator, adapter=who == "tuned", system_prompt=system, max_new_tokens=eval_set.max_new_tokens)
        if progress is not None:
            progress(f"{eval_set.name} ({condition}): {who} model", len(items), len(items))
    if len(said["base"]) != eval_set.rows.num_rows:
        raise EvaluationError(
            f"{eval_set.name} has {eval_set.rows.num_rows} rows and its task asks {len(said['base'])} items.",
            remedy="Materialize the eval set again.",
        )
    at = {row: place for place, row in reversed(list(enumerate(eval_set.rows["row_id"].to_pylist())))}
    rows = []
    for item in items:
        before, after = said["base"][at[item.item_id]], said["tuned"][at[item.item_id]]
        row = _answered(eval_set, item, condition, system, before.answer, after.answer)
        rows.append(row | {"base_score": before.score, "tuned_score": after.score})
    return rows


def _answered(eval_set: EvalSet, item: Item, condition: str, system: str | None, before: str, after: str) -> dict[str, Any]:
    return {
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
    }


def _stage(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, stage)


def _conditions(kind: Kind, system_prompt: str | None) -> list[tuple[str, str | None]]:
    if not system_prompt:
        return [(PLAIN, None)]
    under = (SYSTEM_PROMPT, system_prompt)
    return [under] if kind is Kind.TASK else [(PLAIN, None), under]


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
        if eval_set.harness is not None:
            continue
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
