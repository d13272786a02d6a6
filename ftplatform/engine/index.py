"""A folder of sketches that grows: what was deduplicated before meets what is new without being read again."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ftplatform.canonical import canonical_json
from ftplatform.engine.errors import IndexBusy, IndexDamaged
from ftplatform.engine.files import UNFINISHED, atomic
from ftplatform.engine.sketches import Sketch
from ftplatform.kernels.header import SketchHeader

SCHEMA = "ftplatform.sketch_index/1"
_MANIFEST = "manifest.json"
_REBUILD = "Build the index anew in another folder."


class SketchIndex:
    """Sketches in `folder`, in the order in which their parts were added. The manifest names those that count.

    A sketch is a file of its own and the manifest is replaced last: a crash in between leaves the old index as it was, and what was
    sketched is found when the parts are given again. Parts of the same bytes count once.
    """

    def __init__(self, folder: Path, header: SketchHeader) -> None:
        self.folder, self.header = folder, header
        self.sketches: tuple[Sketch, ...] = ()
        manifest = folder / _MANIFEST
        if not manifest.exists():
            return
        try:
            content = json.loads(manifest.read_bytes())
            if content["schema"] != SCHEMA:
                raise ValueError(content["schema"])
            stored = SketchHeader(**content["header"])
            self.sketches = tuple(_sketch(folder, part) for part in content["parts"])
        except (KeyError, TypeError, ValueError) as problem:
            raise IndexDamaged(f"{manifest} is no manifest of an index ({SCHEMA}).", remedy=_REBUILD) from problem
        stored.require(header, str(folder))

    def with_new(self, sketches: Sequence[Sketch]) -> tuple[Sketch, ...]:
        """Those of the index, then those of `sketches` that are not among them."""
        named = {sketch.name: sketch for sketch in self.sketches}
        for sketch in sketches:
            named.setdefault(sketch.name, sketch)
        return tuple(named.values())

    def replace(self, sketches: tuple[Sketch, ...]) -> None:
        """Have the index consist of these, atomically."""
        self.sketches = sketches
        parts = [{"name": sketch.name, "rows": sketch.rows, "source": sketch.source} for sketch in sketches]
        with atomic(self.folder / _MANIFEST) as draft:
            draft.write_bytes(canonical_json({"schema": SCHEMA, "header": asdict(self.header), "parts": parts}))


@contextmanager
def opened(folder: Path, header: SketchHeader) -> Iterator[SketchIndex]:
    """The index in `folder`, made where there is none; nobody else may open it meanwhile.

    Raises:
        IndexBusy: somebody else has.
        IndexDamaged: its manifest cannot be read.
        SketchMismatch: it was made with another header; names what differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IndexBusy(f"Another process is at work on {folder}.", remedy="Wait until it is done.") from None
        for draft in folder.glob(f"{UNFINISHED}*"):  # of a process that was killed
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        yield SketchIndex(folder, header)


def _sketch(folder: Path, part: dict[str, object]) -> Sketch:
    name, rows, source = part["name"], part["rows"], part["source"]
    if not isinstance(name, str) or not name.isalnum() or not isinstance(rows, int) or not isinstance(source, str):
        raise ValueError(part)
    return Sketch(folder, name, rows, source)
