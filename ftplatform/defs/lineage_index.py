"""The index behind the blast radius: what the store's manifests, the project's endpoints and past training runs tell it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ftplatform.canonical import canonical_json
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.ledger import ledger_url
from ftplatform.defs.plan import Plan
from ftplatform.licensing.blast_radius.catalog import Endpoint, read_store
from ftplatform.licensing.blast_radius.index import GraphIndex
from ftplatform.licensing.blast_radius.lineage import Version
from ftplatform.store import Store


@contextmanager
def lineage_index(plan: Plan, store: Store) -> Iterator[GraphIndex]:
    """The index, brought up to date with the store. It lies beside the ledger's, and like it can be built again at any time."""
    index = GraphIndex(ledger_url(plan.root))
    try:
        catalog = read_store(store, plan.root / ".ftplatform" / "provenance", endpoints=_endpoints(plan, store))
        index.load([_with_cost(store, v) for v in catalog.versions], catalog.edges, catalog.sources, replace=True)
        yield index
    finally:
        index.close()


def record_cost(store: Store, manifest: str, *, steps: int, seconds: float) -> None:
    """Keep what a training run took, under the hash of its manifest; time is no part of a snapshot. The first run counts."""
    store.backend.put_if_absent(_cost_key(manifest), canonical_json({"steps": steps, "seconds": seconds}))


def _with_cost(store: Store, version: Version) -> Version:
    if not version.asset.startswith(f"{Family.ADAPTERS}/"):
        return version
    stored = store.backend.get(_cost_key(store.snapshot(version.snapshot).facts["manifest"]))
    if stored is None:
        return version
    cost = json.loads(stored.data)
    return replace(version, steps=cost["steps"], gpu_seconds=cost["seconds"])


def _cost_key(manifest: str) -> str:
    return f"costs/{manifest}.json"


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
