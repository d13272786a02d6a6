"""A sharded adapter: one adapter per shard of sources, served as their mean; only shards that changed are trained."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.canonical import digest
from ftplatform.defs.assets.adapter_job import AdapterJob
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.costs import record_cost
from ftplatform.defs.keys import Family, family_of
from ftplatform.errors import CorruptArtifact, TrainingError
from ftplatform.project.models import Shards
from ftplatform.store import Snapshot, SnapshotDraft

if TYPE_CHECKING:
    from ftplatform.training.manifest import TrainingManifest
    from ftplatform.training.shards import ShardedResult

#: Folder of the snapshot that holds one folder per shard: its adapter, its rows and the trainer's records.
SHARDS_FOLDER = "shards"
ROWS_FILE = "rows.parquet"
#: What the trainer reads of a row.
TRAINED_COLUMNS = ["row_id", "messages", "weight"]


@dataclass(frozen=True)
class _Shard:
    """What one shard is trained on: its sources, its rows with the safety mix, its seeds by purpose, its manifest."""

    sources: list[str]
    rows: pa.Table
    seeds: Mapping[str, int]
    manifest: "TrainingManifest"


def train_in_shards(job: AdapterJob, settings: Shards, *, take_over: bool) -> Mapping[str, Any]:
    """Fill the draft with one adapter per shard and their mean; returns the snapshot's facts.

    Args:
        take_over: use shards of the current snapshot that would be trained by the same manifests.
    """
    from ftplatform.training.shards import train_shards

    draft = job.draft
    head = job.store.head(draft.asset)
    current = None if head is None else job.store.snapshot(head.snapshot)
    assignment, shards = _planned(job, settings, {} if current is None else current.facts.get("shards", {}))
    manifests = {name: shard.manifest for name, shard in shards.items()}
    hashes = {name: manifest.sha256() for name, manifest in manifests.items()}
    rows = pa.concat_tables(shard.rows for shard in shards.values())
    draft.add_table("rows.parquet", rows)
    ready = _trained_before(current, draft, hashes) if current is not None and take_over else {}
    with tempfile.TemporaryDirectory(prefix="ftplatform-train-") as folder:
        result = train_shards(manifests, Path(folder) / "out", ready=ready, launcher=job.launcher, progress=job.advance)
        _record_costs(job, result)
        for name in shards:
            for file in sorted(result.folders[name].iterdir()):
                if file.name != ROWS_FILE:  # a folder that was taken over has them as well
                    draft.add_bytes(f"{SHARDS_FOLDER}/{name}/{file.name}", file.read_bytes())
        for file in sorted(result.merged.iterdir()):
            draft.add_bytes(f"{ADAPTER_FOLDER}/{file.name}", file.read_bytes())
        losses = [_read_json(result.folders[name] / "loss.json") for name in shards]
        first = next(iter(shards))
        environment = _read_json(result.folders[first] / "environment.json")
        closure = job.closure(manifests[first].identity(), environment, result.merged, rows)
    members = {name: _member(draft, name, shard) for name, shard in shards.items()}
    closure = replace(closure, manifest={**closure.manifest, "shards": {**settings.model_dump(), "members": members}})
    job.add_closure(closure)
    return {
        "closure": closure.digest,
        "manifest": result.manifest_sha256,
        "adapter": draft.files[f"{ADAPTER_FOLDER}/adapter_model.safetensors"].entry.sha256,
        "encoding": _added([record["encoding"] for record in losses]),
        "loss_first": sum(record["loss"][0] for record in losses) / len(losses),
        "loss_last": sum(record["loss"][-1] for record in losses) / len(losses),
        "shards": {"count": settings.count, "assignment": assignment, "manifests": hashes},
    }


def _planned(job: AdapterJob, settings: Shards, recorded: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, _Shard]]:
    """Shard by source, and the shards by name; their rows are in the draft."""
    from ftplatform.training.shards import assign, rows_by_source, shard_seed, split_by_shard, supports

    rows = job.split.read_table("train.parquet")
    support = supports(rows, _parents(job, rows), settings.separate)
    assignment = assign(
        rows_by_source(support),
        count=settings.count,
        separate=settings.separate,
        # Whoever asks for another count asks for another packing.
        previous=recorded["assignment"] if recorded.get("count") == settings.count else None,
    )
    shards: dict[str, _Shard] = {}
    for name, own in split_by_shard(rows, support, assignment).items():
        seeds = {purpose: shard_seed(seed, name) for purpose, seed in job.seeds.items()}
        mixed = job.weighted(job.with_safety_mix(own, seeds["data_order"]))
        # What the trainer reads and no more: where a row came from can change while the row does not.
        path = f"{SHARDS_FOLDER}/{name}/{ROWS_FILE}"
        job.draft.add_table(path, mixed.select([name for name in TRAINED_COLUMNS if name in mixed.column_names]))
        sources = [source for source, home in assignment.items() if home == name]
        shards[name] = _Shard(sources, mixed, seeds, job.manifest(path, seeds))
    if not shards:
        raise TrainingError(f"{job.split.asset} has no training rows", remedy="Check what its filters left over.")
    return assignment, shards


def _record_costs(job: AdapterJob, result: "ShardedResult") -> None:
    for trained in result.trained.values():
        record_cost(job.store, trained.manifest_sha256, steps=len(trained.losses), seconds=trained.wall_seconds)
    if len(result.trained) == len(result.folders):
        # What the whole takes is measured only where the whole was done.
        steps = sum(len(trained.losses) for trained in result.trained.values())
        seconds = sum(trained.wall_seconds for trained in result.trained.values())
        record_cost(job.store, result.manifest_sha256, steps=steps, seconds=seconds)


def _parents(job: AdapterJob, rows: pa.Table) -> dict[str, pa.Table]:
    """Everything upstream that a derived row can have as a parent, by source; nothing where no row is derived."""
    if not len(pc.list_flatten(rows["parents"])):
        return {}
    families = (Family.RAW, Family.SYNTHETIC, Family.FEEDBACK)
    sources = [s for s in job.store.lineage(job.split.digest) if family_of(s.asset) in families]
    return {source.asset: source.read_table("rows.parquet", ["row_id", "origins", "parents"]) for source in sources}


def _trained_before(current: Snapshot, draft: SnapshotDraft, wanted: Mapping[str, str]) -> dict[str, Path]:
    """Folders of shards that this code trained by these manifests on this class of machine, as far as their bytes are whole."""
    if (current.code_version, current.environment) != (draft.code_version, draft.environment):
        return {}
    found = {}
    for shard, manifest in current.facts.get("shards", {}).get("manifests", {}).items():
        if wanted.get(shard) == manifest:
            try:
                found[shard] = current.local_folder(f"{SHARDS_FOLDER}/{shard}")
            except CorruptArtifact:
                continue  # training it again restores it
    return found


def _member(draft: SnapshotDraft, name: str, shard: _Shard) -> dict[str, Any]:
    """A shard as the closure names it."""
    folder = f"{SHARDS_FOLDER}/{name}/"
    files = {path: file.entry for path, file in draft.files.items() if path.startswith(folder)}
    return {
        "sources": shard.sources,
        "manifest": {"sha256": files[f"{folder}training_manifest.json"].sha256},
        "rows": {"sha256": files[f"{folder}{ROWS_FILE}"].sha256, "count": shard.rows.num_rows},
        "seeds": dict(shard.seeds),
        "files": [{"path": path, "sha256": entry.sha256, "size": entry.size} for path, entry in sorted(files.items())],
    }


def _added(encodings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the trainer counted and listed, over all shards."""
    counts = {key: sum(e[key] for e in encodings) for key in ("rows", "tokens", "trained_tokens")}
    lists = {key: [row for e in encodings for row in e[key]] for key in ("cut_rows", "left_out_rows")}
    return {**counts, **lists, "sha256": digest([e["sha256"] for e in encodings])}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())
