"""What a closure says against what the store holds: every field that has a second source is compared with it.

A closure whose hash was taken after somebody edited it has a name that fits. It still contradicts the rows, the weights, the lock, the
recipe and the verdicts that lie beside it, and the contradiction is named as a field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ftplatform.canonical import sha256_hex
from ftplatform.closure.code_identity import archive_digest
from ftplatform.closure.diff import Change, diff
from ftplatform.closure.manifest import FOLDER, FileFact, row_order_bytes, tokenizer_files, transitive_inputs
from ftplatform.errors import StoreError
from ftplatform.store import Snapshot, Store

#: Parts of an adapter's snapshot.
ADAPTER_FOLDER, TRAINING_FOLDER, SHARDS_FOLDER, ROWS_FILE = "adapter", "training", "shards", "rows.parquet"
#: Files the trainer writes beside the weights.
RECIPE_FILE, ENVIRONMENT_FILE, LOSS_FILE = "training_manifest.json", "environment.json", "loss.json"
WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
#: Folder of a base model's snapshot.
MODEL_FOLDER = "model"

#: Digest of the tensors of a safetensors file; `training.tensors.tensors_digest` is one.
TensorsDigest = Callable[[Path], str]


def contradictions(
    manifest: Mapping[str, Any], adapter: Snapshot, store: Store, *, tensors_digest: TensorsDigest | None = None
) -> list[Change]:
    """Fields in which the closure and the store disagree, by path; `before` is what the store holds, `after` what the closure says.

    Only fields with a second source are compared: commit and dirty flag of the project, uses and ledger of the license decision,
    waivers and human steps are known from the closure alone.

    Args:
        tensors_digest: without it the tensors are known by the hash of their file only.

    Raises:
        StoreError: what the closure would be compared with is gone or damaged.
    """
    held = _held(manifest, adapter, store, tensors_digest)
    return [change for change in diff(held, manifest) if change.kind != "added"]


def recipes(adapter: Snapshot) -> dict[str, str]:
    """Folder with the trainer's records, by name of the training run: one unless the adapter was trained in shards."""
    shards = adapter.facts.get("shards")
    return {shard: f"{SHARDS_FOLDER}/{shard}" for shard in sorted(shards["manifests"])} if shards else {"": TRAINING_FOLDER}


def rows_file(folder: str) -> str:
    """Path of the rows of a training run, in the order in which they were trained on."""
    return ROWS_FILE if folder == TRAINING_FOLDER else f"{folder}/{ROWS_FILE}"


def base_model_of(manifest: Mapping[str, Any], store: Store) -> Snapshot:
    """The base model the closure names.

    Raises:
        StoreError: it names none, or one that is not in the store.
    """
    named = manifest.get("base_model")
    if not isinstance(named, Mapping) or not isinstance(named.get("snapshot"), str):
        raise StoreError("The closure names no base model at /base_model/snapshot.", remedy="Materialize the adapter again.")
    return store.snapshot(named["snapshot"])


def _held(manifest: Mapping[str, Any], adapter: Snapshot, store: Store, tensors_digest: TensorsDigest | None) -> dict[str, Any]:
    folder = next(iter(recipes(adapter).values()))
    recipe, environment = (adapter.read_json(f"{folder}/{file}") for file in (RECIPE_FILE, ENVIRONMENT_FILE))
    sharded = bool(adapter.facts.get("shards"))
    held: dict[str, Any] = {
        "asset": adapter.asset,
        "subject": {"files": _files(f for f in adapter.files if f.path.startswith(f"{ADAPTER_FOLDER}/"))},
        "base_model": _base_model(base_model_of(manifest, store), recipe),
        "rows": _rows(adapter),
        "inputs": _inputs(adapter, store),
        "code": {
            "package": {
                "tree": {"digest": archive_digest(adapter.read_bytes(f"{FOLDER}/package.tar"))},
                "archive": {"sha256": adapter.file(f"{FOLDER}/package.tar").sha256},
            },
            "project": {"file": {"sha256": adapter.file(f"{FOLDER}/project.yaml").sha256}},
        },
        "environment": _environment(adapter, environment),
        "runtime": {
            **{key: value for key, value in environment.items() if key != "packages"},
            **{key: recipe[key] for key in ("threads", "deterministic", "device") if key in recipe},
            "dtype": recipe.get("precision"),
        },
        "hyperparameters": _hyperparameters(manifest, recipe),
        "licenses": {"policy": _policy(adapter)},
        "checks": _checks(adapter),
    }
    if tensors_digest is not None:
        held["subject"]["tensors"] = {"digest": tensors_digest(adapter.local_path(f"{ADAPTER_FOLDER}/{WEIGHTS_FILE}"))}
    if not sharded:  # the seeds of shards are drawn from the closure's; each stands in the recipe of its shard
        data_order, adapter_init = recipe["optimization"]["seed"], recipe["adapter_seed"]
        held["seeds"] = {"data_order": data_order, "dropout": data_order, "adapter_init": adapter_init}
        held["seeds"] = {purpose: seed for purpose, seed in held["seeds"].items() if purpose in manifest.get("seeds", {})}
    return held


def _files(files: Iterable[FileFact]) -> list[dict[str, Any]]:
    return [{"path": f.path, "sha256": f.sha256, "size": f.size} for f in files]


def _base_model(base: Snapshot, recipe: Mapping[str, Any]) -> dict[str, Any]:
    template = recipe["base"]["chat_template_sha256"]
    files, tokenizer = _files(base.files), _files(tokenizer_files(base.files))
    held = {"asset": base.asset, "snapshot": base.digest, "files": files, "tokenizer": {"files": tokenizer}}
    # A model without a template is recorded with the hash of no text.
    return {**held, "chat_template": {"sha256": template if template is not None else sha256_hex(b"")}}


def _rows(adapter: Snapshot) -> dict[str, Any]:
    ids = adapter.read_table(ROWS_FILE, ["row_id"])["row_id"]
    order = row_order_bytes(ids)
    as_set = "\n".join(sorted(order.decode().split()))
    return {"count": len(ids), "order": {"sha256": sha256_hex(order)}, "set": {"digest": sha256_hex(as_set.encode())}}


def _inputs(adapter: Snapshot, store: Store) -> list[dict[str, str]]:
    return transitive_inputs(store.lineage(adapter.digest))


def _environment(adapter: Snapshot, environment: Mapping[str, Any]) -> dict[str, Any]:
    lock = adapter.read_bytes(f"{FOLDER}/lock.txt")
    pinned = dict(line.split("==", 1) for line in lock.decode().splitlines())
    known = {key: environment[key] for key in ("python", "implementation") if key in environment}
    return {**known, "packages": pinned, "lock": {"sha256": sha256_hex(lock)}}


def _hyperparameters(manifest: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that both the closure and the trainer's recipe name; how the safety mix was drawn shows in the rows."""
    named = manifest.get("hyperparameters")
    held = {key: recipe[key] for key in (named if isinstance(named, Mapping) else ()) if key in recipe}
    if "optimization" in held:
        held["optimization"] = {key: value for key, value in held["optimization"].items() if key != "seed"}
    return held


def _policy(adapter: Snapshot) -> dict[str, Any]:
    policy = adapter.read_json(f"{FOLDER}/policy.json")
    named = {key: str(policy[key]) for key in ("name", "version") if key in policy}
    return {**named, "sha256": adapter.file(f"{FOLDER}/policy.json").sha256}


def _checks(adapter: Snapshot) -> list[dict[str, Any]]:
    held = []
    for entry in adapter.files:
        if entry.path.startswith(f"{FOLDER}/checks/"):
            record = json.loads(adapter.read_bytes(entry.path))
            held.append(
                {
                    "asset": record["asset"],
                    "check": record["check"],
                    "version": record["verdict"]["check_version"],
                    "decision": record["verdict"]["decision"],
                    "judged": [{"asset": a, "snapshot": s} for a, s in sorted(record["judged"].items())],
                    "sha256": entry.sha256,
                }
            )
    return held
