"""Heads: which snapshot of an asset is current. The only mutable fact about data; it moves by compare-and-swap."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ftplatform.errors import PublishConflict
from ftplatform.store import pointers
from ftplatform.store.backend import Backend
from ftplatform.store.names import head_key

SCHEMA = "ftplatform.head/1"


class Unset(enum.Enum):
    """Type of `UNSET`."""

    UNSET = "unset"


#: "No expectation": publish on top of whatever is there. (None would mean: expect that nothing is there.)
UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Head:
    """Which snapshot is current.

    Attributes:
        asset: name of the asset.
        snapshot: digest of the current snapshot.
        generation: how often the head has moved, from 1.
        published_at: when it moved (ISO 8601, UTC).
        previous: digest of the snapshot before, None for the first.
    """

    asset: str
    snapshot: str
    generation: int
    published_at: str
    previous: str | None = None
    _etag: str = field(default="", repr=False, compare=False)


def now() -> str:
    """The current time, ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read(backend: Backend, asset: str) -> Head | None:
    """The asset's head, or None if nothing was published."""
    pointer = pointers.read(backend, head_key(asset), SCHEMA)
    return _head(pointer) if pointer else None


def move(backend: Backend, asset: str, snapshot: str, expected: Head | Literal[Unset.UNSET] | None) -> Head:
    """Move the head to `snapshot`.

    Publishing what is current already changes nothing and returns the head as it is.

    Raises:
        PublishConflict: if the head is not `expected` (when given).
    """

    def successor(current: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            "asset": asset,
            "snapshot": snapshot,
            "generation": current["generation"] + 1 if current else 1,
            "published_at": now(),
            "previous": current["snapshot"] if current else None,
        }

    if expected is UNSET:

        def change(current: Mapping[str, Any] | None) -> dict[str, Any]:
            if current is not None and current["snapshot"] == snapshot:
                raise pointers.Unchanged
            return successor(current)

        return _head(pointers.update(backend, head_key(asset), SCHEMA, change))

    current = pointers.read(backend, head_key(asset), SCHEMA)
    found = _head(current) if current else None
    if found != expected:
        raise _conflict(asset, expected, found)
    if found is not None and found.snapshot == snapshot:
        return found
    written = pointers.swap(backend, head_key(asset), SCHEMA, current, successor(current.document if current else None))
    if written is None:
        raise _conflict(asset, expected, read(backend, asset))
    return _head(written)


def _head(pointer: pointers.Pointer) -> Head:
    document = pointer.document
    return Head(
        document["asset"],
        document["snapshot"],
        document["generation"],
        document["published_at"],
        document["previous"],
        pointer.etag,
    )


def _conflict(asset: str, expected: Head | None, found: Head | None) -> PublishConflict:
    def name(head: Head | None) -> str:
        return f"generation {head.generation} ({head.snapshot[:12]})" if head else "nothing"

    return PublishConflict(
        f"{asset} was expected at {name(expected)} but is at {name(found)}.",
        remedy="Check again against the version that is current now, then publish.",
    )
