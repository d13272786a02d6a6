"""`rubrics/*`: the registry of what answers are graded by, and what each rubric gives answers that answer nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from ftplatform import progress
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.gates import require_gates
from ftplatform.defs.judging import RULES, grading_by, judge_of_rubric
from ftplatform.defs.keys import Family, asset_name, family_of, to_key
from ftplatform.defs.metadata import Metadata, records_table
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.models import Rubric
from ftplatform.rows.schema import Role
from ftplatform.rubrics.criteria import Criterion, RubricCard, Rule
from ftplatform.rubrics.null_models import NullModel, null_answers
from ftplatform.store import Snapshot, SnapshotDraft

if TYPE_CHECKING:
    from ftplatform.evaluation.judges.interface import Judge

#: Raise when the same rubric and items should give other scores; also when a null model's text changes.
CODE_VERSION = "1"
#: Items each null model answers, of each asset the rubric grades; the smallest row ids, which are hashes.
NULL_ITEMS = 200
#: Name under which the answers the rows themselves hold are graded, beside those of the null models.
REAL = "reference"

CRITERIA_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "text_hash", "shape", "rule", "value")])
NULL_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("asset", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("score", pa.float64()),
    ]
)


def rubric_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One per rubric."""
    for name, rubric in plan.project.rubrics.items():
        yield _rubric(plan, name, rubric)


def rubric_card(plan: Plan, name: str) -> RubricCard:
    """A rubric as it is declared, with the family of its judge; a judge outside of the platform is its own."""
    rubric = plan.project.rubrics[name]
    spec = plan.project.judges.get(rubric.judge)
    criteria = [
        Criterion(c.id, c.text, None if c.rule is None or rubric.judge != RULES else Rule(c.rule.kind, c.rule.value, c.rule.negate))
        for c in rubric.criteria
    ]
    return RubricCard(name, rubric.purpose, rubric.author, rubric.judge, rubric.judge if spec is None else spec.family, criteria)


def _rubric(plan: Plan, name: str, rubric: Rubric) -> dg.AssetsDefinition:
    asset = asset_name(Family.RUBRICS, name)
    parents = plan.lineage.parents[asset]
    purpose = "Steers training" if rubric.purpose == "reward" else "Examines answers"
    options = asset_options(
        asset, kinds=["parquet"], owner=rubric.author, description=None, default=f"{purpose}; graded by {rubric.judge}."
    )

    @define(options, code_version=CODE_VERSION, ins={argument(p): dg.AssetIn(to_key(p)) for p in parents})
    def registered(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        # A judge behind an endpoint is shown the questions.
        require_gates(asset, plan.gates_of(asset), opened, snapshots)
        grading = grading_by(plan, name)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            card = rubric_card(plan, name)
            draft.add_table("criteria.parquet", _criteria(card))
            scores, transcripts = _null_scores(card, judge_of_rubric(plan, name, opened), snapshots)
            draft.add_table("null_scores.parquet", scores, NULL_SCHEMA)
            draft.add_table("transcripts.parquet", transcripts)
            facts = {"purpose": card.purpose, "author": card.author, "judge": card.judge, "family": card.family}
            return {**facts, "graded": grading is not None}

        declared = rubric.model_dump(mode="json", exclude={"adapters"})
        recipe = Recipe(
            asset,
            CODE_VERSION,
            config={"rubric": declared, "grading": grading, "null_items": NULL_ITEMS},
            inputs=[("evaluates", s) for s in snapshots.values()],
        )
        return build(context, opened, recipe, fill, _describe)

    return registered


def _criteria(card: RubricCard) -> pa.Table:
    rows = [
        {
            "id": c.id,
            "text": c.text,
            "text_hash": c.text_hash,
            "shape": str(c.shape),
            "rule": None if c.rule is None else ("not " if c.rule.negate else "") + c.rule.kind,
            "value": None if c.rule is None else c.rule.value,
        }
        for c in card.criteria
    ]
    return pa.Table.from_pylist(rows, schema=CRITERIA_SCHEMA)


def _null_scores(card: RubricCard, judge: "Judge | None", snapshots: Mapping[str, Snapshot]) -> tuple[pa.Table, pa.Table]:
    """What the judge gives null models, and the answers the rows hold; and what it was asked for that."""
    from ftplatform.evaluation.judges.interface import JudgeItem
    from ftplatform.evaluation.judges.transcripts import TRANSCRIPT_SCHEMA

    referring = any(c.rule is not None and c.rule.kind == "reference" for c in card.criteria)
    asked = [(asset, row) for asset, snapshot in snapshots.items() for row in _questions(asset, snapshot, referring)]
    if judge is None or not asked:
        return NULL_SCHEMA.empty_table(), TRANSCRIPT_SCHEMA.empty_table()
    prompts = [row["conversation"][-1]["content"] for _, row in asked]
    said: dict[str, Sequence[str | None]] = {str(model): null_answers(model, card.criteria, prompts) for model in NullModel}
    said[REAL] = [row["reference"] for _, row in asked]
    places: list[dict[str, Any]] = []
    items: list[JudgeItem] = []
    for model, answers in said.items():
        for (asset, row), answer in zip(asked, answers, strict=True):
            if answer is not None:
                places.append({"model": model, "asset": asset, "item_id": row["row_id"], "group": row["group"]})
                items.append(JudgeItem(row["row_id"], row["conversation"], answer, row["reference"]))
    judged = judge.judge(items, progress=lambda done, total: progress.advance(f"null models by {card.name}", done, total))
    rows = [place | {"score": verdict.score} for place, verdict in zip(places, judged.verdicts, strict=True)]
    return pa.Table.from_pylist(rows, schema=NULL_SCHEMA), judged.transcripts


def _questions(asset: str, snapshot: Snapshot, answered: bool) -> list[dict[str, Any]]:
    """The rows of an asset that end in a question or in an answer to one: row_id, group, conversation, reference (None without).

    Args:
        answered: leave out rows without an answer.
    """
    file = "train.parquet" if family_of(asset) is Family.SPLITS else "rows.parquet"
    rows = snapshot.read_table(file, ["row_id", "messages", "group"])
    found: list[dict[str, Any]] = []
    for row in rows.sort_by("row_id").to_pylist():
        messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
        reference = messages.pop()["content"] if messages and messages[-1]["role"] == Role.ASSISTANT else None
        asks = bool(messages) and messages[-1]["role"] == Role.USER and (reference is not None or not answered)
        if asks and (not found or found[-1]["row_id"] != row["row_id"]):
            found.append({"row_id": row["row_id"], "group": row["group"], "conversation": messages, "reference": reference})
        if len(found) == NULL_ITEMS:
            break
    return found


def _describe(snapshot: Snapshot) -> Metadata:
    import polars as pl

    scores = pl.DataFrame(pl.from_arrow(snapshot.read_table("null_scores.parquet")))
    means = scores.group_by("model", maintain_order=True).agg(items=pl.len(), score=pl.col("score").mean())
    return {
        "criteria": records_table(snapshot.read_table("criteria.parquet").to_pylist()),
        "null_models": records_table(means.to_dicts()),
        **{key: dg.MetadataValue.text(str(snapshot.facts[key])) for key in ("purpose", "author", "judge", "family")},
    }
