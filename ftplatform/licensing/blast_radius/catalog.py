"""The index's content from the store: manifests give versions and edges, row tables give sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.licensing.blast_radius.lineage import ADAPTERS, ENDPOINTS, RELEASES, Edge, LineageRole, SourceRows, Version
from ftplatform.licensing.blast_radius.sidecar import tally, write_sidecar
from ftplatform.store import Snapshot, Store

#: The tables of a snapshot that hold the rows it stands for; others (what was removed, what came before) do not count.
ROW_TABLES = ("rows.parquet", "train.parquet", "eval.parquet")

#: Families whose snapshots are sources themselves, under the name of the asset.
_SOURCES = ("raw", "synthetic", "feedback", "eval_sets", "base_models")
_PROVENANCE = ["row_id", "origins", "parents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A place that serves a snapshot (a release or an adapter).

    Attributes:
        name: of the endpoint.
        serves: digest of the snapshot.
        live: it takes traffic.
        since: RFC 3339, UTC.
    """

    name: str
    serves: str
    live: bool = True
    since: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """What `GraphIndex.load` takes: ``index.load(catalog.versions, catalog.edges, catalog.sources, replace=True)``."""

    versions: list[Version]
    edges: list[Edge]
    sources: list[SourceRows]
    sidecars: Mapping[str, Path]


def read_store(
    store: Store, folder: Path, *, endpoints: Iterable[Endpoint] = (), tokens: Mapping[str, pl.DataFrame] | None = None
) -> Catalog:
    """Everything the store's heads and the endpoints were made from.

    Args:
        store: current releases count as live; so does what `endpoints` says.
        folder: where sidecars are kept, as ``<digest>.parquet``; those there are used again (a snapshot never changes).
        endpoints: what is deployed, old releases included: heads alone do not name them.
        tokens: by snapshot, columns `row_id`, `tokens`, where somebody counted.

    Raises:
        StoreError: as `Store` does; `NotMaterialized` if an endpoint serves a snapshot that the store does not have.
    """
    deployed = list(endpoints)
    heads = {head.snapshot: head for asset in store.assets() if (head := store.head(asset)) is not None}
    snapshots = _parents_first(store, [*heads, *(endpoint.serves for endpoint in deployed)])
    folder.mkdir(parents=True, exist_ok=True)
    versions: list[Version] = []
    edges: list[Edge] = []
    sources: list[SourceRows] = []
    sidecars: dict[str, Path] = {}
    above: dict[str, frozenset[str]] = {}
    for digest, snapshot in snapshots.items():
        above[digest] = frozenset(ref.snapshot for ref in snapshot.inputs).union(*(above[ref.snapshot] for ref in snapshot.inputs))
        rows = _rows(snapshot)
        counted: list[SourceRows] = []
        if rows is not None:
            sidecars[digest] = folder / f"{digest}.parquet"
            if not sidecars[digest].exists():
                write_sidecar(rows, sidecars[digest], ancestors=[sidecars[a] for a in sorted(above[digest]) if a in sidecars])
            counted = tally(sidecars[digest], digest, (tokens or {}).get(digest))
        if snapshot.asset.split("/")[0] in _SOURCES and snapshot.asset not in {entry.source for entry in counted}:
            counted.append(SourceRows(source=snapshot.asset, version=digest))
        sources.extend(counted)
        head = heads.get(digest)
        versions.append(_version(snapshot, rows, head.published_at if head else None))
        edges.extend(Edge(ref.snapshot, digest, _role(ref.role, snapshot.asset)) for ref in snapshot.inputs)
    for endpoint in deployed:
        name = f"endpoint:{endpoint.name}:{endpoint.serves}"
        versions.append(
            Version(
                snapshot=name,
                asset=f"{ENDPOINTS}/{endpoint.name}",
                created_at=endpoint.since,
                live=endpoint.live,
                owner=endpoint.owner,
            )
        )
        edges.append(Edge(endpoint.serves, name, LineageRole.SERVES))
    return Catalog(versions, edges, sources, sidecars)


def _parents_first(store: Store, digests: Iterable[str]) -> dict[str, Snapshot]:
    """Snapshots and all their inputs, every one after its inputs."""
    ordered: dict[str, Snapshot] = {}
    stack = [(digest, False) for digest in digests]
    while stack:
        digest, inputs_done = stack.pop()
        if digest in ordered:
            continue
        snapshot = store.snapshot(digest)
        if inputs_done:
            ordered[digest] = snapshot
        else:
            stack.append((digest, True))
            stack.extend((ref.snapshot, False) for ref in snapshot.inputs)
    return ordered


def _rows(snapshot: Snapshot) -> pa.Table | None:
    """Provenance columns of its rows; None if it has no row table."""
    tables = []
    for file in snapshot.files:
        if file.path in ROW_TABLES and file.rows is not None:
            tables.append(snapshot.read_table(file.path, columns=_PROVENANCE))
    return pa.concat_tables(tables) if tables else None


def _version(snapshot: Snapshot, rows: pa.Table | None, published_at: str | None) -> Version:
    facts = snapshot.facts
    return Version(
        snapshot=snapshot.digest,
        asset=snapshot.asset,
        created_at=published_at,
        live=published_at is not None and snapshot.asset.startswith(f"{RELEASES}/"),
        provenance_complete=rows is not None,
        n_rows=rows.num_rows if rows is not None else None,
        tokens=_whole(facts.get("tokens")),
        steps=_whole(facts.get("steps")),
        gpu_seconds=float(facts["gpu_seconds"]) if isinstance(facts.get("gpu_seconds"), (int, float)) else None,
        owner=facts["owner"] if isinstance(facts.get("owner"), str) else None,
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _role(role: str, child: str) -> LineageRole:
    """Role of a manifest's input. A role nobody told us about counts as ``rows``, which hides no influence."""
    family = child.split("/")[0]
    if family == "eval_results" and role in {"adapter", "base_model"}:
        return LineageRole.MEASURED
    if role == "adapter":
        return LineageRole.BASE_MODEL if family == ADAPTERS else LineageRole.SERVES
    return {"reserve": LineageRole.EVALUATES, "safety_mix": LineageRole.ROWS}.get(role) or (
        LineageRole(role) if role in set(LineageRole) else LineageRole.ROWS
    )
