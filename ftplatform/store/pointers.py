"""Documents that move: read sealed, changed by compare-and-swap, with lost responses told apart by a token.

Every version of a pointer carries a random token and those of the versions before it. A writer who does not know whether its
write arrived looks for its token: present means written, even if others have moved the pointer on since.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ftplatform.errors import CorruptArtifact, PublishConflict
from ftplatform.store.backend import Backend
from ftplatform.store.documents import seal, unseal

#: How many versions back a lost write can be recognized.
_TOKENS = 32

#: Seconds of losing every race before a writer gives up.
CONTENTION_LIMIT_S = 120.0

#: A bit flipped on the wire is gone on the next read.
_READS = 3


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer as read or written. `etag` is empty for a version of ours that others have already replaced."""

    document: Mapping[str, Any]
    etag: str


class Unchanged(Exception):
    """Raised by a `change` function that finds nothing to change."""


def read(backend: Backend, key: str, schema: str) -> Pointer | None:
    """The pointer under `key`, or None.

    Raises:
        CorruptArtifact: if it still does not match its seal after reading it again.
    """
    what = f"{backend.url}/{key}"
    for attempt in range(_READS):
        stored = backend.get(key)
        if stored is None:
            return None
        try:
            return Pointer(unseal(stored.data, schema, what), stored.etag)
        except CorruptArtifact as error:
            if attempt == _READS - 1:
                raise CorruptArtifact(
                    error.message, remedy="Restore it from a backup, or delete it and materialize and check the asset again."
                ) from error
    raise AssertionError("unreachable")


def swap(backend: Backend, key: str, schema: str, current: Pointer | None, document: Mapping[str, Any]) -> Pointer | None:
    """Replace `current` (None: nothing there) by `document`; None if somebody else was faster."""
    token = uuid.uuid4().hex
    tokens = [token, *(current.document["tokens"] if current else ())][:_TOKENS]
    version = {**document, "schema": schema, "tokens": tokens}
    etag = backend.compare_and_swap(key, seal(version, f"{backend.url}/{key}"), current.etag if current else None)
    if etag is not None:
        return Pointer(version, etag)
    now = read(backend, key, schema)
    return Pointer(version, "") if now is not None and token in now.document["tokens"] else None


def update(backend: Backend, key: str, schema: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]) -> Pointer:
    """Apply `change` to the pointer on top of whatever is there, again and again until it sticks.

    Args:
        change: from the current document (None: absent) to the next one; raises `Unchanged` to leave it as it is.

    Raises:
        PublishConflict: if others were faster for `CONTENTION_LIMIT_S`.
    """
    give_up = time.monotonic() + CONTENTION_LIMIT_S
    pause = 0.005
    while True:
        current = read(backend, key, schema)
        try:
            document = change(current.document if current else None)
        except Unchanged:
            if current is None:
                raise
            return current
        written = swap(backend, key, schema, current, document)
        if written is not None:
            return written
        if time.monotonic() > give_up:
            raise PublishConflict(
                f"{backend.url}/{key} is changed by others all the time.", remedy="Run again when fewer runs publish it."
            )
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, 0.5)
