"""`adapters/*`: behind the gate, the training run, and the closure that is the adapter's name."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftplatform.defs.assets.adapter_job import RECORDS_FOLDER, AdapterJob, role
from ftplatform.defs.assets.adapter_shards import SHARDS_FOLDER, train_in_shards
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.costs import record_cost
from ftplatform.defs.decisions import record_decisions
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.op_tags import GPU_OP_TAGS, GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.run_tags import REBUILD_TAG
from ftplatform.defs.training_pipes import launcher_of
from ftplatform.project.models import Adapter
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "1"
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "accelerate", "numpy")


def adapter_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One asset per adapter."""
    for name, adapter in plan.project.adapters.items():
        yield _adapter(plan, name, adapter)


def _adapter(plan: Plan, name: str, adapter: Adapter) -> dg.AssetsDefinition:
    asset = asset_name(Family.ADAPTERS, name)
    parents = plan.lineage.parents[asset]
    options = asset_options(
        asset,
        kinds=["pytorch", "safetensors"],
        owner=adapter.owner,
        description=adapter.description,
        default=f"LoRA adapter on {adapter.base}, tuned on {adapter.dataset}.",
    )

    @define(
        options,
        code_version=CODE_VERSION,
        ins={argument(p): dg.AssetIn(to_key(p)) for p in parents},
        # Nothing of these goes into the weights: the closure names the license ledger, and a reward ledger may forbid the training.
        deps=[to_key(LICENSE_LEDGER), *(to_key(ledger) for ledger in plan.lineage.governing(asset))],
        pool=GPU_POOL,
        op_tags=GPU_OP_TAGS,
    )
    def trained(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        from ftplatform.defs.governor import governor_metadata, governors_of  # it reads the checks, which are bound to assets
        from ftplatform.training.environment import capability_class
        from ftplatform.training.manifest import resolve_device, resolve_precision

        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        waived = require_gates(asset, plan.gates_of(asset), opened, snapshots)
        device = resolve_device("auto")
        hardware = f"{capability_class(device)} {resolve_precision(adapter.training.precision, device)}"

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            job = AdapterJob(plan, name, adapter, snapshots, opened, draft, launcher_of(context, adapter), waived)
            if adapter.shards is None:
                return _train(job)
            return train_in_shards(job, adapter.shards, take_over=context.run.tags.get(REBUILD_TAG) != "true")

        deciding = {"safety_mix", "training", "processes"} | ({"shards"} if adapter.shards else set())
        recipe = Recipe(
            asset,
            CODE_VERSION,
            config=adapter.model_dump(mode="json", include=deciding),
            inputs=[(role(adapter, p), s) for p, s in snapshots.items()],
            packages=_PACKAGES,
            environment={"hardware": hardware},
        )
        result = build(context, opened, recipe, fill, _describe)
        record_decisions(plan, opened, result.value)
        governed = governor_metadata(governors_of(plan, name, opened))
        return result._replace(metadata={**(result.metadata or {}), **governed})

    return trained


def _train(job: AdapterJob) -> Mapping[str, Any]:
    draft, settings = job.draft, job.adapter.training
    rows = job.weighted(job.with_safety_mix(job.split.read_table("train.parquet"), settings.seed))
    draft.add_table("rows.parquet", rows)
    manifest = job.manifest("rows.parquet", job.seeds)
    with tempfile.TemporaryDirectory(prefix="ftplatform-train-") as folder:
        result = job.launcher(
            manifest,
            Path(folder) / "out",
            progress=lambda step, _loss: job.advance(step, settings.steps),
            work=job.work,
        )
        record_cost(job.store, result.manifest_sha256, steps=len(result.losses), seconds=result.wall_seconds)
        for file in sorted(path for path in result.folder.rglob("*") if path.is_file()):
            # Weights and their configuration make the adapter; the trainer's records and checkpoints lie beside it.
            name = file.relative_to(result.folder).as_posix()
            draft.add_bytes(f"{ADAPTER_FOLDER if name.startswith('adapter_') else RECORDS_FOLDER}/{name}", file.read_bytes())
        environment = json.loads((result.folder / "environment.json").read_bytes())
        closure = job.closure(manifest.identity(), environment, result.folder, rows)
    job.add_closure(closure)
    return {
        "closure": closure.digest,
        "manifest": result.manifest_sha256,
        "adapter": result.adapter_sha256,
        "encoding": result.encoding,
        "loss_first": result.losses[0],
        "loss_last": result.losses[-1],
        "repro_class": result.repro_class,
        "stopped": result.stopped,
    }


def _describe(snapshot: Snapshot) -> Metadata:
    from ftplatform.plots import line, markdown_image

    shards = snapshot.facts.get("shards", {})
    files = {shard: f"{SHARDS_FOLDER}/{shard}/loss.json" for shard in shards.get("manifests", {})} or {"loss": "training/loss.json"}
    curves = {curve: list(enumerate(snapshot.read_json(file)["loss"], 1)) for curve, file in files.items()}
    plot = line(curves, title="Training loss", x_label="step", y_label="nats per trained token")
    rows = snapshot.read_table("rows.parquet")
    described: Metadata = {
        **table_metadata(rows),
        "closure": dg.MetadataValue.text(snapshot.facts["closure"]),
        "loss_curve": dg.MetadataValue.md(markdown_image(plot, alt="training loss")),
        "loss_last": float(snapshot.facts["loss_last"]),
        "encoding": dg.MetadataValue.json(dict(snapshot.facts["encoding"])),
    }
    if shards:
        described["shards"] = records_table([{"source": s, "shard": shard} for s, shard in shards["assignment"].items()])
    return described
