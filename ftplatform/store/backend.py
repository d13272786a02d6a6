"""What the store needs from the place its bytes live in, and nothing more.

Two kinds of objects: *content-addressed* ones (blobs, manifests), written with `ensure` and never changed, and *pointers*
(heads, evaluation pointers), changed with `compare_and_swap`. A place that cannot swap atomically cannot hold a store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: Bytes read, hashed and sent at a time.
CHUNK = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as read: its bytes and the tag `compare_and_swap` recognizes it by."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as listed. `size` in bytes; `modified` in seconds since 1970 by the clock of the place."""

    key: str
    size: int
    modified: float


class Backend(Protocol):
    """A place for objects. Keys come from `names.py`. All methods raise `StoreError` subclasses and nothing else.

    Every method is safe to call from several threads and processes at once.
    """

    @property
    def url(self) -> str:
        """Where this is, for people; never holds credentials."""
        ...

    def get(self, key: str) -> Stored | None:
        """The whole object (small documents), or None where there is none. Never a torn one."""
        ...

    def stat(self, key: str) -> Entry | None:
        """Size and age of an object, or None where there is none."""
        ...

    def chunks(self, key: str) -> Iterator[bytes]:
        """The object's bytes in order, in pieces of at most `CHUNK` bytes; memory does not grow with the object.

        Raises:
            KeyError: if there is no such object.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this machine, or None if it lives elsewhere (or is absent)."""
        ...

    def ensure(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Afterwards the object durably holds the bytes of `source`, whatever was there before, and counts as new.

        For content-addressed objects only: an intact object is kept, a damaged one replaced, and its age restarts so that
        garbage collection spares it until the manifest that names it is published.

        Raises:
            StoreError: if `source` no longer hashes to `sha256`.
            StoreFull: if the space does not suffice; nothing is left behind.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create the object; False if there is one.

        `data` must be unique to the caller: that is how a write whose response was lost is told from somebody else's.
        """
        ...

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        """Replace the object if its tag still is `expected` (None: if it is absent).

        `data` must be unique to this call (carry a token). Returns the new tag, or None if the object was not as expected. After
        a lost response None may also mean "written, then overwritten by somebody else": `pointers.update` tells them apart.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key starts with `prefix` (which ends with '/'), in any order."""
        ...

    def delete_if_older(self, key: str, cutoff: float) -> bool:
        """Delete the object unless it was modified after `cutoff` (seconds since 1970) or is gone. True if it was deleted."""
        ...

    def sweep(self, cutoff: float) -> int:
        """Remove what dead writers left half-done before `cutoff`. Returns how many pieces."""
        ...
