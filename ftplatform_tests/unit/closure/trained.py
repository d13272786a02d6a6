"""A really trained adapter in a store, with its closure, built without a project: what the graph does, in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ftplatform import __version__
from ftplatform.closure.code_identity import ProjectIdentity, TreeIdentity, package_root, tree_identity
from ftplatform.closure.manifest import CheckFact, LicenseFacts, ModelFacts, RowFacts, build_closure, transitive_inputs
from ftplatform.closure.packages import installed_packages
from ftplatform.licensing.policy import default_policy
from ftplatform.rows.schema import MESSAGE_TYPE, row_id
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store
from ftplatform.training.base_model import chat_template_of
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings, prepare
from ftplatform.training.tensors import tensors_digest
from ftplatform.training.train import train
from ftplatform_tests.projects import BASE_MODEL
from ftplatform_tests.unit.closure.factories import verdict

ASSET = "adapters/support"
STEPS = 10

Trainer = Callable[..., Any]


def conversations(count: int = 40) -> list[list[dict[str, Any]]]:
    """Questions about things the base model does not know."""
    colors = ("red", "green", "blue", "white")
    return [
        [
            {"role": "user", "content": f"what color is lamp {i}", "trainable": False},
            {"role": "assistant", "content": f"Lamp {i} is {colors[i % 4]}.", "trainable": True},
        ]
        for i in range(count)
    ]


def rows_table(rows: Sequence[list[dict[str, Any]]]) -> pa.Table:
    """The columns training reads."""
    ids = pa.array([row_id(c) for c in rows], pa.string())
    return pa.table({"row_id": ids, "messages": pa.array(list(rows), pa.list_(MESSAGE_TYPE))})


def put(store: Store, asset: str, fill: Callable[[SnapshotDraft], Any], *inputs: InputRef) -> Snapshot:
    """Write and publish a snapshot."""
    with SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=list(inputs)) as draft:
        fill(draft)
        snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot


def trained_adapter(
    store: Store,
    folder: Path,
    *,
    rows: Sequence[list[dict[str, Any]]] | None = None,
    package: TreeIdentity | None = None,
    trainer: Trainer = train,
    optimization: Optimization | None = None,
    closure_rows: pa.Table | None = None,
    stored_rows: pa.Table | None = None,
) -> Snapshot:
    """Train for a few steps on the bundled base model and store everything as the graph stores it.

    Args:
        package: code to put into the closure, this package by default.
        trainer: makes the training result out of (manifest, folder).
        closure_rows: rows whose order the closure names, if not those trained on.
        stored_rows: rows that lie beside the weights, if not those trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = rows_table(rows or conversations())
    base = put(store, "base_models/tiny", lambda d: [d.add_file(f"model/{f.name}", f) for f in sorted(BASE_MODEL.iterdir())])
    split = put(store, "splits/support", lambda d: d.add_table("train.parquet", table))
    ledger = put(store, "license_ledger", lambda d: d.add_json("terms.json", {"raw/lamps": "CC0-1.0"}))
    pq.write_table(table, folder / "rows.parquet", write_page_checksum=True)
    manifest = prepare(
        base.local_folder("model"),
        folder / "rows.parquet",
        base_name=base.asset,
        optimization=optimization or Optimization(steps=STEPS, batch_size=8, learning_rate=5e-3, schedule="cosine"),
        lora=LoraSettings(rank=4, alpha=8.0),
        max_tokens=128,
        device="cpu",
        precision="fp32",
    )
    result = trainer(manifest, folder / "out")
    recipe, environment = manifest.identity(), json.loads((result.folder / "environment.json").read_bytes())
    inputs = [InputRef("rows", split.asset, split.digest), InputRef("base_model", base.asset, base.digest)]
    policy = default_policy()
    installed = installed_packages()
    with SnapshotDraft(ASSET, code_version="1", config_hash="c", environment="e", inputs=inputs) as draft:
        draft.add_table("rows.parquet", stored_rows if stored_rows is not None else table)
        for file in sorted(result.folder.iterdir()):
            draft.add_bytes(f"{'adapter' if file.name.startswith('adapter_') else 'training'}/{file.name}", file.read_bytes())
        closure = build_closure(
            asset=ASSET,
            subject=[d.entry for path, d in draft.files.items() if path.startswith("adapter/")],
            tensors=tensors_digest(result.folder / "adapter_model.safetensors"),
            base_model=ModelFacts(
                asset=base.asset,
                snapshot=base.digest,
                files=base.files,
                chat_template=chat_template_of(base.local_folder("model")) or "",
            ),
            rows=RowFacts(
                asset=split.asset,
                snapshot=split.digest,
                path="train.parquet",
                row_ids=(closure_rows if closure_rows is not None else table)["row_id"],
            ),
            inputs=[*inputs, *transitive_inputs([split, base])],
            package=package or tree_identity(package_root()),
            package_version=__version__,
            project=ProjectIdentity("none", None, None, None, b"name: lamps\n"),
            packages=replace(installed, direct=tuple(d for d in installed.direct if d.name == "ftplatform")),
            runtime={
                **environment,
                "dtype": recipe["precision"],
                "threads": recipe["threads"],
                "deterministic": recipe["deterministic"],
            },
            hyperparameters={
                "optimization": {k: v for k, v in recipe["optimization"].items() if k != "seed"},
                "lora": recipe["lora"],
                "max_tokens": recipe["max_tokens"],
                "gradient_checkpointing": recipe["gradient_checkpointing"],
                "safety_mix": None,
            },
            seeds={"data_order": 0, "dropout": 0, "safety_mix": 0, "adapter_init": 0},
            licenses=LicenseFacts(
                ledger_asset=ledger.asset,
                ledger_snapshot=ledger.digest,
                policy_name=policy.name,
                policy_version=policy.version,
                policy=policy.document,
                uses=["train"],
            ),
            checks=[CheckFact(asset=split.asset, check="row_schema", judged={split.asset: split.digest}, verdict=verdict())],
        )
        for path, data in closure.attachments.items():
            draft.add_bytes(f"closure/{path}", data)
        draft.add_bytes("closure/closure.json", closure.document)
        draft.facts.update({"closure": closure.digest, "manifest": result.manifest_sha256, "adapter": result.adapter_sha256})
        snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot
