"""`adapters/*`: behind the gate, the training run, and the closure that is the adapter's name."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform import __version__, progress
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name, to_key
from ftplatform.defs.lineage_index import record_cost
from ftplatform.defs.metadata import Metadata, table_metadata
from ftplatform.defs.op_tags import GPU_OP_TAGS, GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.errors import NotMaterialized
from ftplatform.project.models import Adapter
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.store import Snapshot, SnapshotDraft, Store

CODE_VERSION = "1"
_OPTIMIZATION = {"steps", "batch_size", "learning_rate", "warmup_steps", "schedule", "weight_decay", "max_grad_norm", "seed"}
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
        # The closure names the ledger's snapshot; nothing of it goes into the weights.
        deps=[to_key(LICENSE_LEDGER)],
        pool=GPU_POOL,
        op_tags=GPU_OP_TAGS,
    )
    def trained(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        from ftplatform.training.environment import capability_class
        from ftplatform.training.manifest import resolve_device, resolve_precision

        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        require_gates(asset, plan.gates_of(asset), opened, snapshots)
        device = resolve_device("auto")
        hardware = f"{capability_class(device)} {resolve_precision(adapter.training.precision, device)}"

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            return _train(plan, name, adapter, snapshots, opened, draft)

        recipe = Recipe(
            asset,
            CODE_VERSION,
            config=adapter.model_dump(mode="json", include={"safety_mix", "training"}),
            inputs=[(_role(adapter, p), s) for p, s in snapshots.items()],
            packages=_PACKAGES,
            environment={"hardware": hardware},
        )
        return build(context, opened, recipe, fill, _describe)

    return trained


def _role(adapter: Adapter, asset: str) -> str:
    if asset == asset_name(Family.BASE_MODELS, adapter.base):
        return "base_model"
    return "rows" if asset.startswith(f"{Family.SPLITS}/") else "safety_mix"


def _training_rows(adapter: Adapter, snapshots: Mapping[str, Snapshot]) -> pa.Table:
    from ftplatform.training.mix import with_safety_mix

    rows = snapshots[asset_name(Family.SPLITS, adapter.dataset)].read_table("train.parquet")
    if adapter.safety_mix is None:
        return rows
    safety = snapshots[asset_name(Family.RAW, adapter.safety_mix.source)].read_table("rows.parquet")
    return with_safety_mix(rows, safety, adapter.safety_mix.share, adapter.training.seed)


def _train(
    plan: Plan,
    name: str,
    adapter: Adapter,
    snapshots: Mapping[str, Snapshot],
    store: Store,
    draft: SnapshotDraft,
) -> Mapping[str, Any]:
    from ftplatform.training.launch import launch
    from ftplatform.training.loop import Optimization
    from ftplatform.training.manifest import LoraSettings, prepare

    base = snapshots[asset_name(Family.BASE_MODELS, adapter.base)]
    rows = _training_rows(adapter, snapshots)
    draft.add_table("rows.parquet", rows, ROW_SCHEMA)
    rows_file = draft.files["rows.parquet"].source
    assert isinstance(rows_file, Path), "tables are written to disk"
    settings = adapter.training
    modules = settings.lora.target_modules
    manifest = prepare(
        base.local_folder(MODEL_FOLDER),
        rows_file,
        base_name=base.asset,
        optimization=Optimization(**settings.model_dump(include=_OPTIMIZATION)),
        lora=LoraSettings(
            rank=settings.lora.rank,
            alpha=settings.lora.alpha,
            dropout=settings.lora.dropout,
            target_modules=modules if isinstance(modules, str) else tuple(modules),
        ),
        max_tokens=settings.max_tokens,
        adapter_seed=settings.adapter_seed,
        precision=settings.precision,
        threads=settings.threads,
    )
    with tempfile.TemporaryDirectory(prefix="ftplatform-train-") as folder:
        result = launch(
            manifest,
            Path(folder) / "out",
            launcher=adapter.launcher,
            progress=lambda step, _loss: progress.advance(f"train {name}", step, settings.steps),
        )
        record_cost(store, result.manifest_sha256, steps=settings.steps, seconds=result.wall_seconds)
        for file in sorted(result.folder.iterdir()):
            # Weights and their configuration make the adapter; the trainer's records lie beside it.
            place = f"{ADAPTER_FOLDER}/{file.name}" if file.name.startswith("adapter_") else f"training/{file.name}"
            draft.add_bytes(place, file.read_bytes())
        closure = _closure(plan, name, adapter, snapshots, store, manifest.identity(), result.folder, rows, draft)
    for path, data in closure.attachments.items():
        draft.add_bytes(f"closure/{path}", data)
    draft.add_bytes("closure/closure.json", closure.document)
    return {
        "closure": closure.digest,
        "manifest": result.manifest_sha256,
        "adapter": result.adapter_sha256,
        "encoding": result.encoding,
        "loss_first": result.losses[0],
        "loss_last": result.losses[-1],
    }


def _closure(
    plan: Plan,
    name: str,
    adapter: Adapter,
    snapshots: Mapping[str, Snapshot],
    store: Store,
    record: Mapping[str, Any],
    folder: Path,
    rows: pa.Table,
    draft: SnapshotDraft,
) -> Any:
    from ftplatform.closure.code_identity import package_root, project_identity, tree_identity
    from ftplatform.closure.manifest import CheckFact, LicenseFacts, ModelFacts, RowFacts, build_closure, transitive_inputs
    from ftplatform.closure.packages import installed_packages
    from ftplatform.training.base_model import chat_template_of
    from ftplatform.training.tensors import tensors_digest

    asset = asset_name(Family.ADAPTERS, name)
    base_asset, split_asset = asset_name(Family.BASE_MODELS, adapter.base), asset_name(Family.SPLITS, adapter.dataset)
    base, spec = snapshots[base_asset], plan.project.base_models[adapter.base]
    ledger = store.head(LICENSE_LEDGER)
    if ledger is None:
        raise NotMaterialized(
            "license_ledger has never been built; the closure names it.", remedy="Run: ftplatform run license_ledger"
        )
    environment = json.loads((folder / "environment.json").read_text())
    direct = [{"role": _role(adapter, p), "asset": p, "snapshot": s.digest} for p, s in snapshots.items()]
    upstream = [i for s in snapshots.values() for i in transitive_inputs(store.lineage(s.digest))]
    evaluations = [store.latest_evaluation(c.asset, c.name) for c in plan.gates_of(asset)]
    return build_closure(
        asset=asset,
        subject=[d.entry for path, d in draft.files.items() if path.startswith(f"{ADAPTER_FOLDER}/")],
        tensors=tensors_digest(folder / "adapter_model.safetensors"),
        base_model=ModelFacts(
            asset=base_asset,
            snapshot=base.digest,
            files=base.files,
            chat_template=chat_template_of(base.local_folder(MODEL_FOLDER)) or "",
            hub=spec.hub,
            revision=spec.revision,
        ),
        rows=RowFacts(asset=split_asset, snapshot=snapshots[split_asset].digest, path="train.parquet", row_ids=rows["row_id"]),
        inputs=_unique([*direct, *upstream]),
        package=tree_identity(package_root()),
        package_version=__version__,
        project=project_identity(plan.loaded.path),
        packages=installed_packages(),
        runtime={
            **environment,
            "dtype": record["precision"],
            "threads": record["threads"],
            "deterministic": record["deterministic"],
        },
        hyperparameters={
            "optimization": {k: v for k, v in record["optimization"].items() if k != "seed"},
            "lora": record["lora"],
            "max_tokens": record["max_tokens"],
            "gradient_checkpointing": record["gradient_checkpointing"],
            "safety_mix": adapter.safety_mix.model_dump() if adapter.safety_mix else None,
        },
        seeds={
            "data_order": adapter.training.seed,
            "dropout": adapter.training.seed,
            "safety_mix": adapter.training.seed,
            "adapter_init": adapter.training.adapter_seed,
        },
        licenses=LicenseFacts(
            ledger_asset=LICENSE_LEDGER,
            ledger_snapshot=ledger.snapshot,
            policy_name=plan.policy.name,
            policy_version=plan.policy.version,
            policy=plan.policy.document,
            uses=[str(use) for use in plan.project.use],
        ),
        checks=[
            CheckFact(asset=e.asset, check=e.check, judged=e.judged, verdict=e.verdict)
            for e in evaluations
            if e is not None and e.verdict is not None
        ],
    )


def _unique(inputs: list[dict[str, str]]) -> list[dict[str, str]]:
    return list({(i["role"], i["asset"], i["snapshot"]): i for i in inputs}.values())


def _describe(snapshot: Snapshot) -> Metadata:
    from ftplatform.plots import line, markdown_image

    losses = snapshot.read_json("training/loss.json")["loss"]
    plot = line({"loss": list(enumerate(losses, 1))}, title="Training loss", x_label="step", y_label="nats per trained token")
    rows = snapshot.read_table("rows.parquet")
    return {
        **table_metadata(rows),
        "closure": dg.MetadataValue.text(snapshot.facts["closure"]),
        "loss_curve": dg.MetadataValue.md(markdown_image(plot, alt="training loss")),
        "loss_last": float(snapshot.facts["loss_last"]),
        "encoding": dg.MetadataValue.json(dict(snapshot.facts["encoding"])),
    }
