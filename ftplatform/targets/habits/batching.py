"""Batches of rows, of a size that keeps every step of a scan in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

#: Rows that are read at once.
BATCH_ROWS = 8_000

#: A corpus: a table, or batches of one as a snapshot gives them.
Rows = pa.Table | Iterable[pa.RecordBatch]


def tables(rows: Rows) -> Iterator[pa.Table]:
    """The rows in order, as tables of at most `BATCH_ROWS`."""
    for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:  # pyright: ignore[reportAttributeAccessIssue]
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield pa.Table.from_batches([batch.slice(start, BATCH_ROWS)])
