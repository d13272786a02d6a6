"""`eval_sets/*` of kind `lm_eval`: a task of lm-evaluation-harness with its documents, and its items as rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftplatform.canonical import sha256_hex
from ftplatform.defs.access import record_entered, vault_names, withheld_names
from ftplatform.defs.assets.building import DATA_PACKAGES, Recipe, build
from ftplatform.defs.assets.common import asset_options, define
from ftplatform.defs.assets.row_metadata import describe_rows, describe_withheld
from ftplatform.defs.examining import HARNESS_FOLDER
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.models import EvalKind, EvalSet
from ftplatform.project.uris import parse_source_uri
from ftplatform.rows.quarantine import QUARANTINE_SCHEMA
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.store import SnapshotDraft

CODE_VERSION = "1"
_PACKAGES = (*DATA_PACKAGES, "lm-eval", "datasets", "jinja2")


def files_behind(plan: Plan, eval_set: EvalSet) -> list[str]:
    """Every file an eval set is read from: its own, and the data files its task file names."""
    if eval_set.kind is not EvalKind.LM_EVAL:
        return eval_set.path
    from ftplatform.evaluation.harness.task import local_files

    return [*eval_set.path, *map(str, local_files(_task_file(plan, eval_set)))]


def harness_set(plan: Plan, name: str, eval_set: EvalSet) -> dg.AssetsDefinition:
    """The asset of one eval set."""
    asset = asset_name(Family.EVAL_SETS, name)
    options = asset_options(
        asset,
        kinds=["yaml"],
        owner=eval_set.owner,
        description=eval_set.description,
        default=f"Eval set {name}: a task of lm-evaluation-harness.",
    )

    @define(options, code_version=CODE_VERSION)
    def task_rows(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        from ftplatform.evaluation.harness.rows import item_rows
        from ftplatform.evaluation.harness.task import HarnessTask

        # Its data may lie on the hub, so the documents themselves, and not only files, decide whether there is something new.
        task = HarnessTask.read(_task_file(plan, eval_set))
        files = dict(task.files())

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            rows = item_rows(task, source=asset, slice_field=eval_set.slice_field)
            draft.add_table("rows.parquet", rows, ROW_SCHEMA)
            draft.add_table("quarantine.parquet", QUARANTINE_SCHEMA.empty_table(), QUARANTINE_SCHEMA)
            for file, content in files.items():
                draft.add_bytes(f"{HARNESS_FOLDER}/{file}", content)
            return {
                "counts": {"read": rows.num_rows, "kept": rows.num_rows, "quarantined": 0, "by_reason": {}},
                "task": task.name,
            }

        digests = {file: sha256_hex(content) for file, content in files.items()}
        recipe = Recipe(asset, CODE_VERSION, config={"files": digests, "slice_field": eval_set.slice_field}, packages=_PACKAGES)
        opened = store.open()
        describe = describe_withheld if name in withheld_names(plan.project) else describe_rows
        result = build(context, opened, recipe, fill, describe)
        if name in vault_names(plan.project):
            record_entered(opened, result.value)
        return result

    return task_rows


def _task_file(plan: Plan, eval_set: EvalSet) -> Path:
    return parse_source_uri(eval_set.path[0]).local(plan.root)
