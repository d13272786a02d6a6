"""`base_models/*`: the exact files a model is tuned from, guarded and hashed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import asset_options, define
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.metadata import Metadata, records_table
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.models import BaseModelSpec
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "1"

#: Folder of the model's files inside the snapshot.
FOLDER = "model"


def base_model_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One asset per base model."""
    for name, spec in plan.project.base_models.items():
        yield _base_model(plan, asset_name(Family.BASE_MODELS, name), spec)


def _base_model(plan: Plan, asset: str, spec: BaseModelSpec) -> dg.AssetsDefinition:
    options = asset_options(
        asset, kinds=["safetensors"], owner=spec.owner, description=spec.description, default=f"Base model {spec.path or spec.hub}."
    )

    @define(options, code_version=CODE_VERSION)
    def base_model(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        from ftplatform.training.base_model import describe_base_model, resolve_base_model

        folder = resolve_base_model(path=_local(plan, spec), hub=spec.hub, revision=spec.revision)
        description = describe_base_model(folder)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            for file in description["files"]:
                draft.add_file(f"{FOLDER}/{file['path']}", folder / file["path"])
            return {k: v for k, v in description.items() if v is not None}

        recipe = Recipe(
            asset, CODE_VERSION, config={"files": description["files"], "hub": spec.hub, "revision": spec.revision}, packages=()
        )
        return build(context, store.open(), recipe, fill, _describe)

    return base_model


def _local(plan: Plan, spec: BaseModelSpec) -> Path | None:
    return Path(plan.loaded.resolve(spec.path)) if spec.path is not None else None


def _describe(snapshot: Snapshot) -> Metadata:
    facts = {k: v for k, v in snapshot.facts.items() if k != "files"}
    return {"model": dg.MetadataValue.json(facts), "model_files": records_table([dict(f) for f in snapshot.facts["files"]])}
