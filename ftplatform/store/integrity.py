"""Following a snapshot down to the bytes: its lineage, and whether everything in it still hashes to its name."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ftplatform.errors import CorruptArtifact, NotMaterialized
from ftplatform.store.backend import Backend
from ftplatform.store.manifests import FileEntry
from ftplatform.store.names import blob_key
from ftplatform.store.snapshots import Snapshot

_READS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of a snapshot that does not verify.

    Attributes:
        kind: ``missing`` or ``corrupt`` bytes, or a ``mismatch`` between an input reference and what it points to.
        asset, snapshot: whose it is.
        path: the file, None if the manifest itself is concerned.
        blob: SHA-256 the bytes should have.
        message: one sentence.
    """

    kind: Literal["missing", "corrupt", "mismatch"]
    asset: str
    snapshot: str
    path: str | None
    blob: str
    message: str


def lineage(start: str, load: Callable[[str], Snapshot]) -> Iterator[Snapshot]:
    """`start` and everything it was built from, breadth first, each snapshot once."""
    seen = {start}
    queue = deque([start])
    while queue:
        digest = queue.popleft()
        try:
            snapshot = load(digest)
        except NotMaterialized as error:
            if digest == start:
                raise
            raise CorruptArtifact(f"{start} was built from {digest}, which is gone.", remedy="Restore it from a backup.") from error
        yield snapshot
        for ref in snapshot.inputs:
            if ref.snapshot not in seen:
                seen.add(ref.snapshot)
                queue.append(ref.snapshot)


def verify(backend: Backend, asset: str, start: str, load: Callable[[str], Snapshot]) -> list[Problem]:
    """Re-hash every file of `start` and, transitively, of its inputs, from the store itself and past every cache.

    Returns:
        All problems, breadth first; empty if everything hashes to its name.

    Raises:
        StoreUnavailable: if the store cannot be asked; that is no verdict on the bytes.
    """
    problems: list[Problem] = []
    checked: dict[str, str | None] = {}
    seen = {start}
    queue = deque([(asset, start)])
    while queue:
        expected, digest = queue.popleft()
        try:
            snapshot = load(digest)
        except NotMaterialized as error:
            problems.append(Problem("missing", expected, digest, None, digest, error.message))
            continue
        except CorruptArtifact as error:
            problems.append(Problem("corrupt", expected, digest, None, digest, error.message))
            continue
        if snapshot.asset != expected:
            message = f"{digest} is a snapshot of {snapshot.asset}, but is referred to as {expected}."
            problems.append(Problem("mismatch", expected, digest, None, digest, message))
        for entry in snapshot.files:
            if entry.sha256 not in checked:
                checked[entry.sha256] = _damage(backend, entry)
            if damage := checked[entry.sha256]:
                kind = "missing" if damage == "missing" else "corrupt"
                message = f"{snapshot}: file {entry.path!r} (blob {entry.sha256}): {damage}."
                problems.append(Problem(kind, snapshot.asset, digest, entry.path, entry.sha256, message))
        for ref in snapshot.inputs:
            if ref.snapshot not in seen:
                seen.add(ref.snapshot)
                queue.append((ref.asset, ref.snapshot))
    return problems


def _damage(backend: Backend, entry: FileEntry) -> str | None:
    damage = None
    for _ in range(_READS):
        hasher, size = hashlib.sha256(), 0
        try:
            for chunk in backend.chunks(blob_key(entry.sha256)):
                hasher.update(chunk)
                size += len(chunk)
        except KeyError:
            return "missing"
        if hasher.hexdigest() == entry.sha256 and size == entry.size:
            return None
        damage = f"it has {size} bytes (expected {entry.size}) and hashes to {hasher.hexdigest()}"
    return damage
