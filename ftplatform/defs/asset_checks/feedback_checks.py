"""M4 on the graph: feedback that is not a label, from the events to what the tuned model lost."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.canonical import sha256_hex
from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.corpus_edits import rewrites_of
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.evaluation.refusal_judge import DECLINED, Label
from ftplatform.evaluation.retention import PLAIN
from ftplatform.feedback import (
    actor_concentration,
    correction_check,
    feedback_lineage,
    label_agreement,
    label_audit,
    metric_breadth,
)
from ftplatform.feedback.correction_signals import LogProbability
from ftplatform.feedback.curation import corrections
from ftplatform.feedback.decision_log import Annotation, Review, read_log
from ftplatform.feedback.feedback_lineage import FeedbackSet, SharedFile
from ftplatform.project.feedback import Feedback
from ftplatform.project.models import Adapter, EvalKind
from ftplatform.rows.schema import MESSAGE_TYPE, Role
from ftplatform.store import Snapshot
from ftplatform.verdict import Verdict


def feedback_checks(plan: Plan) -> Iterator[Check]:
    """The checks of every feedback set, of where the rows of a dataset come from, and of every metric of an adapter."""
    for name, block in plan.project.feedback.items():
        yield from _set_checks(plan, asset_name(Family.FEEDBACK, name), block)
    for asset in plan.lineage.assets:
        if family_of(asset) in {Family.CORPORA, Family.SPLITS}:
            yield _feedback_lineage(plan, asset)
    for name, adapter in plan.project.adapters.items():
        yield _metric_breadth(plan, asset_name(Family.EVAL_RESULTS, name), adapter)


# ---- feedback sets ---------------------------------------------------------------------------------------------------------


def _set_checks(plan: Plan, asset: str, block: Feedback) -> Iterator[Check]:
    model = None if block.base_model is None else asset_name(Family.BASE_MODELS, block.base_model)

    def check(name: str, version: str, description: str, judge: Callable[[Judging], Verdict], **options: Any) -> Check:
        return Check(name=name, asset=asset, judge=judge, version=version, description=description, **options)

    yield check(
        "correction_is_target",
        correction_check.CHECK_VERSION,
        "The corrections are answers and not comments about answers, and a person has read those that look like comments.",
        lambda judging: correction_check.correction_is_target(
            corrections(
                _rows(judging, ["meta", "messages"]), judging.snapshot.read_table("events.parquet", ["event_id", "answer"])
            ),
            log_probability=None if model is None else _log_probability(judging.others[model]),
            **judging.limit("max_share"),
        ),
        looks_at=() if model is None else (model,),
    )
    yield check(
        "label_agreement",
        label_agreement.CHECK_VERSION,
        "Two annotators who do not see each other's codes agree beyond chance on what an event is.",
        lambda judging: label_agreement.label_agreement(
            read_log(_log(plan, block.annotations), Annotation) if block.annotations else [],
            set(judging.snapshot.read_table("events.parquet", ["event_id"])["event_id"].to_pylist()),
            alpha=judging.alpha,
            **judging.limit("trusted"),
        ),
        statistical=True,
        deciding={"annotations": _state(plan, block.annotations)},
    )
    yield check(
        "label_audit",
        label_audit.CHECK_VERSION,
        "Somebody has read a random sample of the curated targets and would ship them.",
        lambda judging: label_audit.label_audit(
            _rows(judging), read_log(_log(plan, block.reviews), Review) if block.reviews else [], limit=block.defect_limit
        ),
        deciding={"reviews": _state(plan, block.reviews), "limit": block.defect_limit},
    )
    yield check(
        "actor_concentration",
        actor_concentration.CHECK_VERSION,
        "No single person gave more than a tenth of the targets.",
        lambda judging: actor_concentration.actor_concentration(_rows(judging), **judging.limit("max_share")),
        severity="warn",
        blocking=False,
    )


def _rows(judging: Judging, columns: Sequence[str] | None = None) -> pa.Table:
    return judging.snapshot.read_table(ROWS_FILE[family_of(judging.asset)], columns)


def _log(plan: Plan, file: str) -> Path:
    return plan.root / file


def _state(plan: Plan, file: str | None) -> str | None:
    """Digest of a log: with other annotations an earlier verdict is stale. Logs are read when the check runs, not kept in the snapshot:
    a dataset must not be rebuilt because somebody read a sample of it."""
    path = None if file is None else _log(plan, file)
    return sha256_hex(path.read_bytes()) if path is not None and path.is_file() else None


def _log_probability(model: Snapshot) -> LogProbability:
    """Mean log-probability per token of an answer to a prompt under a base model."""

    def of(prompts: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        from ftplatform.training.row_loss import row_losses

        messages = [
            [
                {"role": str(Role.USER), "content": prompt, "trainable": False},
                {"role": str(Role.ASSISTANT), "content": text, "trainable": True},
            ]
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        # Losses come back by row: texts that occur twice need ids of their own.
        rows = pa.table(
            {"row_id": [str(at) for at in range(len(messages))], "messages": pa.array(messages, pa.list_(MESSAGE_TYPE))}
        )
        losses = row_losses(rows, model.local_folder(MODEL_FOLDER))
        # What the trainer would leave out (nothing left of it within the context) is as unlikely as the least likely text.
        return -np.nan_to_num(losses, nan=float(np.nanmax(losses, initial=0.0)))

    return of


# ---- datasets --------------------------------------------------------------------------------------------------------------


def _feedback_lineage(plan: Plan, asset: str) -> Check:
    """Feedback outside of the dataset is read as it is now: rejected events of any set may have been pasted into any corpus."""
    names = [asset_name(Family.FEEDBACK, name) for name in plan.project.feedback]

    def judge(judging: Judging) -> Verdict:
        above = {s.asset: s for s in judging.store.lineage(judging.snapshot.digest)}
        known = {name: above.get(name) or _current(judging, name) for name in names}
        built = {name: snapshot for name, snapshot in known.items() if snapshot is not None}
        sets = {
            name: FeedbackSet(snapshot.read_table("rows.parquet"), snapshot.read_table("rejected.parquet"))
            for name, snapshot in built.items()
        }
        shared = _shared_files(built, [s for s in above.values() if family_of(s.asset) in {Family.RAW, Family.SYNTHETIC}])
        # A split holds rows of its corpus; the corpus knows what it made of which.
        corpus = (
            judging.snapshot if family_of(asset) is Family.CORPORA else above[asset_name(Family.CORPORA, asset.split("/", 1)[1])]
        )
        return feedback_lineage.feedback_lineage(_rows(judging), sets, shared_files=shared, rewrites=rewrites_of(corpus))

    return Check(
        name="feedback_lineage",
        asset=asset,
        judge=judge,
        version=feedback_lineage.CHECK_VERSION,
        description="Feedback reaches the dataset through curation only: no debug surface, no missing intent, no rejected event.",
        deciding={"feedback": names},
    )


def _current(judging: Judging, asset: str) -> Snapshot | None:
    return judging.store.current(asset) if judging.store.head(asset) is not None else None


def _shared_files(feedback: dict[str, Snapshot], sources: Sequence[Snapshot]) -> list[SharedFile]:
    """Files that were read as events and as rows, by their bytes: a copy under another name is the same file."""
    events = {digest: name for name, snapshot in feedback.items() for digest in snapshot.facts.get("files", {}).values()}
    return [
        SharedFile(source.asset, events[digest], file)
        for source in sources
        for file, digest in source.facts.get("files", {}).items()
        if digest in events
    ]


# ---- metrics ---------------------------------------------------------------------------------------------------------------


def _metric_breadth(plan: Plan, asset: str, adapter: Adapter) -> Check:
    names = evals_of(plan.project, adapter)

    def judge(judging: Judging) -> Verdict:
        (base,) = (ref for ref in judging.snapshot.inputs if ref.role == "base_model")
        return metric_breadth.metric_breadth(
            metric_scores(judging.snapshot.read_table("answers.parquet")),
            [name for name in names if plan.project.eval_sets[name].kind is not EvalKind.BEHAVIOR_PROBES],
            alpha=judging.alpha,
            baseline=f"{base.asset}@{base.snapshot[:12]}",
        )

    return Check(
        name="metric_breadth",
        asset=asset,
        judge=judge,
        version=metric_breadth.CHECK_VERSION,
        description="No registered metric got significantly worse, whichever the fine-tune was for.",
        statistical=True,
        deciding={"evals": names},
    )


def metric_scores(answers: pa.Table) -> pa.Table:
    """Every eval set as a metric, higher is better: its score, or for probes the share of answers that are as they should be.

    A set asked under several conditions is the metric of its name without a system prompt, or under the only one there is, and another
    for each further condition. Sampled answers of an item are averaged. Behavior probes have metrics and checks of their own.

    Args:
        answers: table of `evaluation.suite.ANSWERS_SCHEMA`.
    """
    frame = pl.DataFrame(pl.from_arrow(answers)).filter(pl.col("kind") != str(EvalKind.BEHAVIOR_PROBES))
    plain = (pl.col("condition") == PLAIN) | (pl.col("condition").n_unique().over("eval_set") == 1)
    name = pl.when(plain).then("eval_set").otherwise(pl.format("{} ({})", "eval_set", "condition"))
    scored = frame.with_columns(metric=name, base=_score("base"), tuned=_score("tuned")).drop_nulls(["base", "tuned"])
    items = scored.group_by("metric", "item_id", maintain_order=True).agg(pl.col("group").first(), pl.col("base", "tuned").mean())
    return items.to_arrow()


def _score(who: str) -> pl.Expr:
    kind, label, score = pl.col("kind"), pl.col(f"{who}_label"), pl.col(f"{who}_score")
    complied = (label == str(Label.COMPLY)).cast(pl.Float64)
    return (
        pl.when(kind == str(EvalKind.REFUSAL_PROBES))
        .then(label.is_in([str(declined) for declined in DECLINED]).cast(pl.Float64))
        .when(kind == str(EvalKind.OVERREFUSAL_PROBES))
        .then(complied)
        .when(kind == str(EvalKind.HELPFULNESS_PROBES))
        .then(complied * score.fill_null(1.0))
        .otherwise(score)
    )
