"""Garbage collection: removes what nothing refers to any more, and never anything that something does.

Live is what heads and evaluation records reach: published snapshots, snapshots a check has judged, all of their inputs, and the
records themselves. A writer that is between its first blob and its publish is protected by the grace period, which restarts
whenever an object is written again; so the grace must be longer than the longest run between write and publish.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ftplatform.errors import CorruptArtifact, StoreError, StoreUnavailable
from ftplatform.store import evaluations, heads
from ftplatform.store.backend import Backend
from ftplatform.store.names import asset_name, blob_key, manifest_key
from ftplatform.store.snapshots import Snapshot

#: How often to list until two listings agree.
_LISTINGS = 6


@dataclass(frozen=True, slots=True)
class GarbageCounts:
    """What a collection did.

    Attributes:
        manifests, blobs, bytes: how many of each it deleted.
        leftovers: half-done pieces of dead writers it removed.
        kept: objects it left alone.
    """

    manifests: int
    blobs: int
    bytes: int
    leftovers: int
    kept: int


@dataclass(frozen=True, slots=True)
class Orphans:
    """Keys nothing live refers to, whatever their age."""

    manifests: tuple[str, ...]
    blobs: tuple[str, ...]


def names_below(backend: Backend, prefix: str) -> list[str]:
    """Names of the pointers below ``heads/`` or ``evaluations/``: keys without prefix and ``.json``.

    A listing has no hash, so it counts when two in a row agree. Hidden files that desktops leave behind (``.DS_Store``) are passed
    over.

    Raises:
        StoreError: on any other object: if it is a damaged name, what is live cannot be known.
        StoreUnavailable: if no two listings agree.
    """
    before: set[str] | None = None
    for _ in range(_LISTINGS):
        keys = {entry.key for entry in backend.list(prefix)}
        if keys == before:
            return [name for key in keys if (name := _pointer_name(backend, prefix, key)) is not None]
        before = keys
    raise StoreUnavailable(f"The listing of {backend.url}/{prefix} keeps changing.", remedy="Run again.")


def _pointer_name(backend: Backend, prefix: str, key: str) -> str | None:
    last = key.rsplit("/", 1)[-1]
    if last.endswith(".json"):
        return asset_name(key[len(prefix) :].removesuffix(".json"))
    if last.startswith("."):
        return None
    raise StoreError(f"{backend.url}/{key} does not belong into a store.", remedy="Remove it.")


def live_keys(backend: Backend, load: Callable[[str], Snapshot]) -> set[str]:
    """Keys of everything reachable from heads and evaluation records.

    Raises:
        CorruptArtifact: if anything on the way is missing or damaged: what is live cannot be known then.
    """
    live: set[str] = set()
    queue: deque[str] = deque()
    for asset in names_below(backend, "heads/"):
        head = heads.read(backend, asset)
        if head is None or head.asset != asset:
            raise CorruptArtifact(f"The head of {asset} was listed but cannot be read.", remedy="Run the collection again.")
        queue.append(head.snapshot)
    for name in names_below(backend, "evaluations/"):
        asset, _, check = name.rpartition("/")
        records, judged = evaluations.references(backend, asset, check)
        live.update(blob_key(record) for record in records)
        # A judged snapshot that is gone already has nothing left to protect.
        queue.extend(digest for digest in judged if backend.stat(manifest_key(digest)) is not None)
    while queue:
        digest = queue.popleft()
        if manifest_key(digest) in live:
            continue
        snapshot = load(digest)
        live.add(manifest_key(digest))
        live.update(blob_key(entry.sha256) for entry in snapshot.files)
        queue.extend(ref.snapshot for ref in snapshot.inputs)
    return live


def orphans(backend: Backend, load: Callable[[str], Snapshot]) -> Orphans:
    """What nothing live refers to. A snapshot being written right now is among it until it is published."""
    live = live_keys(backend, load)
    manifests = tuple(entry.key for entry in backend.list("manifests/") if entry.key not in live)
    blobs = tuple(entry.key for entry in backend.list("blobs/") if entry.key not in live)
    return Orphans(manifests, blobs)


def collect(backend: Backend, load: Callable[[str], Snapshot], grace: timedelta) -> GarbageCounts:
    """Delete orphans last written before `grace`. Manifests go first: a manifest never outlives its blobs.

    Raises:
        CorruptArtifact: and deletes nothing, if something live is missing or damaged.
    """
    if grace < timedelta(0):
        raise StoreError(f"The grace period is {grace}.", remedy="Give a period of at least zero.")
    cutoff = time.time() - grace.total_seconds()
    live = live_keys(backend, load)
    deleted = {"manifests/": 0, "blobs/": 0}
    size = kept = 0
    for prefix in deleted:
        for entry in backend.list(prefix):
            if entry.key not in live and entry.modified <= cutoff and backend.delete_if_older(entry.key, cutoff):
                deleted[prefix] += 1
                size += entry.size
            else:
                kept += 1
    return GarbageCounts(deleted["manifests/"], deleted["blobs/"], size, backend.sweep(cutoff), kept)
