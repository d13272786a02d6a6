"""What an artifact was made from, as plain data: the input of the removal check. Whoever knows the store fills it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.errors import CorruptArtifact, InputDataError
from ftplatform.licensing.rights import EdgeRole

#: Rows per table when a row set is read: bounds memory, and is large enough for one join or one near-duplicate search.
CHUNK = 1 << 16

#: A Parquet file, or a callable that yields the rows anew at every call.
Source = Path | Callable[[], Iterable[pa.RecordBatch | pa.Table]]

#: Roles through which rows or weights shape an artifact. `SELECTION` only dropped other rows; `EVALUATES` touches claims, not weights.
SHAPING = frozenset(EdgeRole) - {EdgeRole.SELECTION, EdgeRole.EVALUATES}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSet:
    """Rows that stand in a closure.

    Attributes:
        name: asset, e.g. ``splits/support``.
        snapshot: digest of the snapshot the rows are read from. That its bytes still hash to it is the store's business.
        read: the rows; columns of `ROW_SCHEMA`, of which `row_id`, `origins`, `parents` and (for matching) `messages` are used.
        role: how they were used.
    """

    name: str
    snapshot: str
    read: Source
    role: EdgeRole = EdgeRole.ROWS

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows in order, at most `CHUNK` at a time.

        Raises:
            InputDataError: if a column is missing or the file is not there. CorruptArtifact: if the file is damaged.
        """
        return read_tables(self.name, self.read, columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Something computed from rows that outlives a run: a dedup index, a tokenizer, a folder of downloads.

    Attributes:
        kind: for people, e.g. ``dedup index``.
        snapshot: digest of its content.
        read: at least the `row_id` of every row it was computed from; None if nobody knows them.
    """

    name: str
    kind: str
    snapshot: str
    read: Source | None


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A model another one came out of.

    Attributes:
        role: `CONTINUED_ADAPTER`, `TEACHER`, `REWARD_MODEL`, `BASE_MODEL`, ...
        closure: what it was made from itself; None for a model from outside.
    """

    name: str
    role: EdgeRole
    snapshot: str
    closure: Closure | None = None


@dataclass(frozen=True, kw_only=True)
class Closure:
    """Everything one artifact was made from.

    Attributes:
        artifact: asset, e.g. ``adapters/support``.
        snapshot: digest of the artifact.
        weights: digest of its tensors; None if not recorded.
        row_sets: rows with the role they had.
        lineage: further row sets in which parents and other origins of rows are looked up (raw snapshots before an exclusion list
            was applied). They were not used as they are, so they may hold banned rows.
        ancestors: models it came out of, directly.
        caches: what its making may have read besides.
        mitigations: treatments meant to make trained weights forget (``gradient_ascent``, ``projection``, ...). They are no removal.
    """

    artifact: str
    snapshot: str
    weights: str | None = None
    row_sets: tuple[RowSet, ...] = ()
    lineage: tuple[RowSet, ...] = ()
    ancestors: tuple[Ancestor, ...] = ()
    caches: tuple[Cache, ...] = ()
    mitigations: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the description; the rows enter by their snapshots."""
        return digest(self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "artifact": self.artifact,
            "snapshot": self.snapshot,
            "weights": self.weights,
            "row_sets": sorted([rows.name, rows.snapshot, str(rows.role)] for rows in self.row_sets),
            "lineage": sorted([rows.name, rows.snapshot] for rows in self.lineage),
            "ancestors": sorted([a.name, str(a.role), a.snapshot, a.closure.digest if a.closure else ""] for a in self.ancestors),
            "caches": sorted([cache.name, cache.kind, cache.snapshot, cache.read is not None] for cache in self.caches),
            "mitigations": sorted(self.mitigations),
        }

    def walk(self) -> Iterator[tuple[str, Closure]]:
        """This closure and those of all ancestors that shaped it, each once, with the path that leads there.

        Paths read ``adapters/new < continued_adapter adapters/old``.
        """
        queue: list[tuple[str, Closure]] = [(self.artifact, self)]
        seen = {self.digest}
        while queue:
            path, closure = queue.pop()
            yield path, closure
            for ancestor in closure.ancestors:
                if ancestor.role in SHAPING and ancestor.closure is not None and ancestor.closure.digest not in seen:
                    seen.add(ancestor.closure.digest)
                    queue.append((f"{path} < {ancestor.role} {ancestor.name}", ancestor.closure))


def read_tables(name: str, read: Source, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a source in tables of bounded size; see `RowSet.tables`."""
    waiting: list[pa.Table] = []
    rows = 0
    for piece in _pieces(name, read, columns):
        waiting.append(piece)
        rows += piece.num_rows
        if rows >= CHUNK:
            whole = pa.concat_tables(waiting)
            full = rows - rows % CHUNK
            yield from (whole.slice(start, CHUNK) for start in range(0, full, CHUNK))
            waiting, rows = [whole.slice(full)], rows - full
    if rows:
        yield pa.concat_tables(waiting)


def _pieces(name: str, read: Source, columns: Sequence[str]) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    remedy = "Give rows with the columns of the row schema."
    if not isinstance(read, Path):
        for piece in read():
            table = pa.Table.from_batches([piece]) if isinstance(piece, pa.RecordBatch) else piece
            if missing := set(columns) - set(table.column_names):
                raise InputDataError(f"rows of {name} lack {', '.join(sorted(missing))}.", remedy=remedy)
            yield table.select(list(columns))
        return
    try:
        with pq.ParquetFile(read) as file:
            if missing := set(columns) - set(file.schema_arrow.names):
                raise InputDataError(f"{read.name} of {name} lacks {', '.join(sorted(missing))}.", remedy=remedy)
            for batch in file.iter_batches(batch_size=CHUNK, columns=list(columns)):
                yield pa.Table.from_batches([batch])
    except FileNotFoundError as error:
        raise InputDataError(f"{read.name} of {name} is not there.", remedy="Restore the snapshot.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptArtifact(f"{read.name} of {name} cannot be read: {error}", remedy="Restore the snapshot.") from error
