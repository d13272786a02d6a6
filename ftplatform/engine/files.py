"""Files that are there completely or not at all."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Names of files in the making begin with it.
UNFINISHED = ".unfinished-"


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; at the end of the block its bytes are on disk and it takes the place of `target`."""
    draft = target.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, is to survive a loss of power
        finally:
            os.close(folder)
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
