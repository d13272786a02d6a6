"""The index behind the blast radius: what the store's manifests, the project's endpoints and past training runs tell it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ftplatform.defs.costs import training_cost
from ftplatform.defs.exposure import Exposure, exposure_of
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.ledger import ledger_url
from ftplatform.defs.plan import Plan
from ftplatform.licensing.blast_radius.catalog import Endpoint, read_store
from ftplatform.licensing.blast_radius.index import GraphIndex
from ftplatform.licensing.blast_radius.lineage import SourceRows, Version
from ftplatform.licensing.blast_radius.sidecar import rows_of_source
from ftplatform.store import Store
from ftplatform.store.urls import default_cache


@contextmanager
def lineage_index(plan: Plan, store: Store) -> Iterator[GraphIndex]:
    """The index, brought up to date with the store. It lies beside the ledger's, and like it can be built again at any time."""
    index = GraphIndex(ledger_url(plan.root))
    try:
        with provenance_folder(store) as folder:
            exposures = _exposures(plan, store, folder)
            tokens = {digest: exposure.rows.select("row_id", "tokens") for digest, exposure in exposures.items()}
            catalog = read_store(store, folder, endpoints=_endpoints(plan, store), tokens=tokens)
            sources = [_with_steps(entry, exposures, catalog.sidecars) for entry in catalog.sources]
            versions = [_with_cost(store, version, exposures) for version in catalog.versions]
        index.load(versions, catalog.edges, sources, replace=True)
        yield index
    finally:
        index.close()


@contextmanager
def provenance_folder(store: Store) -> Iterator[Path]:
    """Where the provenance of snapshots is kept sorted by source; it can be made again, so it lies with the store's other copies."""
    cache = default_cache(store.backend)
    if cache is not None:
        yield cache / "provenance"
        return
    with tempfile.TemporaryDirectory(prefix="ftplatform-provenance-") as folder:
        yield Path(folder)


def _exposures(plan: Plan, store: Store, folder: Path) -> dict[str, Exposure]:
    """What the current adapters' training runs saw, by snapshot."""
    current = [asset_name(Family.ADAPTERS, name) for name in plan.project.adapters]
    found = {}
    for adapter in (store.current(asset) for asset in current if store.head(asset)):
        if (exposure := exposure_of(store, adapter, folder)) is not None:
            found[adapter.digest] = exposure
    return found


def _with_steps(entry: SourceRows, exposures: Mapping[str, Exposure], sidecars: Mapping[str, Path]) -> SourceRows:
    if entry.version not in exposures:
        return entry
    rows = rows_of_source([sidecars[entry.version]], entry.source)
    return replace(entry, step_share=exposures[entry.version].step_share(rows["row_id"]))


def _with_cost(store: Store, version: Version, exposures: Mapping[str, Exposure]) -> Version:
    if not version.asset.startswith(f"{Family.ADAPTERS}/"):
        return version
    if version.snapshot in exposures:
        version = replace(version, tokens=exposures[version.snapshot].tokens)
    cost = training_cost(store, store.snapshot(version.snapshot))
    return version if cost is None else replace(version, steps=cost.steps, gpu_seconds=cost.seconds)


def _endpoints(plan: Plan, store: Store) -> Iterator[Endpoint]:
    """Endpoints serve the release of their adapter, or the adapter itself if it was never released."""
    for name, endpoint in plan.project.endpoints.items():
        if endpoint.adapter is None:
            continue
        for family in (Family.RELEASES, Family.ADAPTERS):
            head = store.head(asset_name(family, endpoint.adapter))
            if head is not None:
                yield Endpoint(name=name, serves=head.snapshot, since=head.published_at, owner=endpoint.owner)
                break
