"""Which closure somebody means: an adapter, a version of one, or a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.closure.manifest import FOLDER
from ftplatform.errors import InputDataError, NotMaterialized, StoreError
from ftplatform.store import Snapshot, Store
from ftplatform.store.garbage import names_below
from ftplatform.store.names import blob_key

#: Asset family of adapters.
ADAPTERS = "adapters"
#: The manifest inside an adapter's snapshot.
CLOSURE_FILE = f"{FOLDER}/closure.json"

#: Fewest digits that may name a version.
_FEWEST = 8
_MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """A closure somebody named.

    Attributes:
        manifest: the JSON document.
        digest: SHA-256 of its canonical form, its name.
        snapshot: the adapter's snapshot that holds it; None for a file that no snapshot in the store has.
        origin: how to call it in messages.
    """

    manifest: Mapping[str, Any]
    digest: str
    snapshot: Snapshot | None
    origin: str


def find_closure(name: str, store: Store) -> Found:
    """The closure called `name`.

    Args:
        name: ``support`` or ``adapters/support`` (the current version), ``support@DIGEST`` (digits of a snapshot or of a closure, at
            least 8), or the path of a JSON file.

    Raises:
        InputDataError: no such version, several of them, or a file that holds no closure.
        NotMaterialized: the adapter was never trained.
    """
    path = Path(name)
    if name.endswith(".json") or path.is_file():
        return _from_file(path, store)
    asset, _, version = name.partition("@")
    asset = asset if "/" in asset else f"{ADAPTERS}/{asset}"
    return _of_snapshot(_version(store, asset, version) if version else store.current(asset))


def stored_document(store: Store, digest: str) -> dict[str, Any] | None:
    """The closure that is known by this hash, None if the store does not hold it intact.

    A closure's own bytes are a blob of its snapshot, so its name alone leads to what it said when it was named.
    """
    stored = store.backend.get(blob_key(digest))
    if stored is None or sha256_hex(stored.data) != digest:
        return None
    document = json.loads(stored.data)
    return document if isinstance(document, dict) else None


def _from_file(path: Path, store: Store) -> Found:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputDataError(f"{path} is larger than any closure.", remedy="Give the closure.json of an adapter.")
        manifest = json.loads(path.read_bytes())
        digest = sha256_hex(canonical_json(manifest))
    except (OSError, ValueError, RecursionError) as error:
        raise InputDataError(f"{path} is no closure: {error}.", remedy="Give the closure.json of an adapter.") from error
    if not isinstance(manifest, dict) or not str(manifest.get("schema", "")).startswith("ftplatform.closure/"):
        raise InputDataError(f"{path} is no closure: it names no schema of one.", remedy="Give the closure.json of an adapter.")
    return Found(manifest, digest, _holding(store, manifest, digest), str(path))


def _holding(store: Store, manifest: Mapping[str, Any], digest: str) -> Snapshot | None:
    """The snapshot of the named adapter with this closure; the current one is looked at first."""
    asset = manifest.get("asset")
    try:
        current = store.current(str(asset))
        if current.facts.get("closure") == digest:
            return current
        return next((s for s in _snapshots(store) if s.asset == asset and s.facts.get("closure") == digest), None)
    except NotMaterialized:
        return None
    except StoreError:
        if isinstance(asset, str) and store.backend.get(blob_key(digest)) is not None:
            raise
        return None


def _of_snapshot(snapshot: Snapshot) -> Found:
    data = snapshot.read_bytes(CLOSURE_FILE)
    manifest = json.loads(data)
    return Found(manifest, sha256_hex(canonical_json(manifest)), snapshot, str(snapshot))


def _version(store: Store, asset: str, version: str) -> Snapshot:
    if not re.fullmatch(rf"[0-9a-f]{{{_FEWEST},64}}", version):
        raise InputDataError(f"{version!r} names no version.", remedy=f"Give {_FEWEST} to 64 hexadecimal digits after the @.")
    of_asset = [s for s in _snapshots(store) if s.asset == asset]
    meant = [s for s in of_asset if s.digest.startswith(version) or str(s.facts.get("closure", "")).startswith(version)]
    if len(meant) != 1:
        known = ", ".join(s.digest[:12] for s in of_asset[:10]) or "none"
        problem = "has several versions" if meant else "has no version"
        raise InputDataError(f"{asset} {problem} {version}.", remedy=f"Its versions in the store: {known}.")
    return meant[0]


def _snapshots(store: Store) -> list[Snapshot]:
    """Every snapshot whose manifest is in the store, published or not."""
    return [store.snapshot(name.rsplit("/", 1)[-1]) for name in sorted(names_below(store.backend, "manifests/"))]
