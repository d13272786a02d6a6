"""Folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A hidden sibling folder that becomes `out` by one rename when everything in it is written and on disk.

    Replaces an empty folder. On a folder that got filled meanwhile the rename fails, which is right.

    Raises:
        OSError: `out` is taken or cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    working = out.parent / f".{out.name}.{uuid.uuid4().hex}"
    working.mkdir()
    try:
        yield working
        for path in working.rglob("*"):
            _sync(path)
        _sync(working)
        working.rename(out)
        _sync(out.parent)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON with sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
