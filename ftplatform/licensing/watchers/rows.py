"""Rows that disappeared upstream: opt-outs arrive this way, without a letter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.licensing.watchers.look import Cursor, Look

#: A table, a stream of batches, or Parquet files; with a `row_id` column.
RowIds = pa.Table | Iterable[pa.RecordBatch] | Iterable[Path]


@dataclass(frozen=True, slots=True)
class RowDiff:
    """Acquired rows against the rows upstream has now; ids count once.

    Attributes:
        missing: ids acquired that upstream lacks, sorted.
        added: how many rows only upstream has.
        acquired, upstream: how many distinct ids each side has.
    """

    missing: tuple[str, ...]
    added: int
    acquired: int
    upstream: int


def compare_rows(acquired: RowIds, upstream: RowIds) -> RowDiff:
    """Which rows are gone, and how many came.

    Both must have been read in the same way: a row's id is the hash of its canonical messages, so a different column mapping makes
    every row another one.

    Returns:
        The difference. Only the ids are held in memory, whatever else the rows carry: about 270 bytes for each id of either side.

    Raises:
        InputDataError: without a `row_id` column, or with a null in it.
    """
    ours, theirs = _ids(acquired, "the acquired rows"), _ids(upstream, "the upstream rows")
    missing = ours.join(theirs, on="row_id", how="anti").sort("row_id")["row_id"].to_list()
    common = ours.height - len(missing)
    return RowDiff(tuple(missing), theirs.height - common, ours.height, theirs.height)


class UpstreamRowsWatcher:
    """Watches the rows of one source.

    Args:
        source: name of the source in the project.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def look(
        self, acquired: RowIds, upstream: RowIds, cursor: Cursor | None, now: datetime, *, revision: str | None = None
    ) -> Look:
        """Compare and report: `WITHDRAWN_ROWS` with exactly the missing ids when that set changed, `ACTIVE` when it became empty.

        An empty upstream is a failed reading, not a withdrawal. If upstream has rows but none of ours, all of ours are reported and
        `problem` says so: either everything was withdrawn, or the files are laid out differently now.
        """
        cursor = cursor or {}
        found = compare_rows(acquired, upstream)
        if found.upstream == 0 or found.acquired == 0:
            side = "upstream" if found.upstream == 0 else "what was acquired"
            return Look(source=self.source, cursor=cursor, looked=False, problem=f"{side} has no rows: nothing to compare")
        problem = None
        if len(found.missing) == found.acquired:
            problem = "upstream has none of the acquired rows: all were withdrawn, or they are laid out differently now"
        missing = digest(list(found.missing))
        following: dict[str, Any] = {**cursor, "missing": missing, "count": len(found.missing), "revision": revision}
        if missing == cursor.get("missing", digest([])):
            return Look(source=self.source, cursor=following, looked=True, problem=problem)
        observation = TermsObservation(
            source=self.source,
            state=State.WITHDRAWN_ROWS if found.missing else State.ACTIVE,
            valid_from=now,
            observed_at=now,
            watcher="rows",
            revision=revision,
            rows=found.missing,
            detail={
                "missing": len(found.missing),
                "missing_before": int(cursor.get("count", 0)),
                "added": found.added,
                "acquired": found.acquired,
                "upstream": found.upstream,
            },
        )
        return Look(source=self.source, cursor=following, looked=True, observations=(observation,), problem=problem)


def _ids(rows: RowIds, what: str) -> pl.DataFrame:
    """Distinct ids of one side, one column `row_id`."""
    columns = [pl.Series("row_id", [], dtype=pl.String)]
    try:
        columns += [pl.Series("row_id", pl.from_arrow(column)).cast(pl.String) for column in _columns(rows)]
    except (KeyError, OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputDataError(
            f"{what} have no readable row_id ({reason}).", remedy="Give rows as the platform stores them."
        ) from error
    ids = pl.concat(columns, rechunk=False)
    if ids.null_count():
        raise InputDataError(f"{what} hold a row without row_id.", remedy="Give rows as the platform stores them.")
    return ids.to_frame().unique()


def _columns(rows: RowIds) -> Iterator[pa.Array | pa.ChunkedArray]:
    import pyarrow.parquet as pq

    parts: Iterable[Any] = [rows] if isinstance(rows, pa.Table) else rows
    for part in parts:
        if isinstance(part, Path):
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                for batch in file.iter_batches(columns=["row_id"]):
                    yield batch.column("row_id")
        else:
            yield part.column("row_id")
