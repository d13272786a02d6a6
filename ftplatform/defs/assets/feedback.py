"""`feedback/*`: events as they were clicked, the targets people made of them, and the rest with the reason why not."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow.compute as pc

from ftplatform.canonical import sha256_hex
from ftplatform.defs.assets.admission import MASKED_FILE
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import asset_options, define
from ftplatform.defs.assets.reading import content, counts_record, file_kinds
from ftplatform.defs.assets.row_metadata import describe_rows
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.feedback import Feedback
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.rows.sources import list_files
from ftplatform.store import SnapshotDraft

CODE_VERSION = "2"


def feedback_files(plan: Plan, block: Feedback) -> list[str]:
    """Every file curated feedback is made from: its events, and the decisions on them if there are any yet."""
    decisions = block.adjudication
    return [*block.path, decisions] if decisions is not None and (plan.root / decisions).is_file() else block.path


def feedback_asset(plan: Plan, asset: str, block: Feedback) -> dg.AssetsDefinition:
    options = asset_options(
        asset,
        kinds=file_kinds(block),
        owner=block.owner,
        description=block.description,
        default="Feedback events curated into targets.",
    )
    decisions = None if block.adjudication is None else plan.root / block.adjudication

    @define(options, code_version=CODE_VERSION)
    def feedback(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        files = content(plan, block.path)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.feedback.curation import curate
            from ftplatform.feedback.decision_log import Adjudication, read_log
            from ftplatform.feedback.intake import read_feedback
            from ftplatform.rows.redaction import SPAN_SCHEMA, Redaction

            events = read_feedback(
                list_files(block.path, plan.root),
                source=asset,
                export=block.export,
                fields=dict(block.fields),
                surface=block.surface,
                surfaces=dict(block.surfaces),
            )
            decided = [] if decisions is None else read_log(decisions, Adjudication)
            curated = curate(events.table, source=asset, adjudications=decided)
            redaction = Redaction()
            batches = curated.rows.to_batches()
            draft.add_table("events.parquet", events.table)
            draft.add_table("rows.parquet", redaction.batches(batches) if block.mask_personal_data else iter(batches), ROW_SCHEMA)
            draft.add_table(MASKED_FILE, redaction.spans(), SPAN_SCHEMA)
            draft.add_table("rejected.parquet", curated.rejected)
            draft.add_table("quarantine.parquet", events.quarantine)
            by_rejection = pc.value_counts(curated.rejected["rejection"]).to_pylist()
            return {
                "counts": {**counts_record(events.counts), "curated": curated.rows.num_rows, "rejected": curated.rejected.num_rows},
                "files": {entry["file"]: entry["sha256"] for entry in files},
                "rejections": {entry["values"]: entry["counts"] for entry in by_rejection},
                "without_feedback": events.without_feedback,
                "masked": dict(sorted(redaction.counts.by_kind.items())),
            }

        config = {
            "files": files,
            "adjudication": sha256_hex(decisions.read_bytes()) if decisions is not None and decisions.is_file() else None,
            "reading": block.model_dump(mode="json", include={"fields", "export", "surface", "surfaces", "mask_personal_data"}),
        }
        recipe = Recipe(asset, CODE_VERSION, config=config)
        return build(context, store.open(), recipe, fill, describe_rows)

    return feedback
