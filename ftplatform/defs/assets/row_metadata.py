"""What the UI shows of an asset that was read from files."""

from collections.abc import Callable

import pyarrow as pa

from ftplatform.defs.access import labels_only
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.store import Snapshot


def describe_withheld(snapshot: Snapshot) -> Metadata:
    """`describe_rows` without a text of the rows."""
    return describe_rows(snapshot, shown=labels_only)


def describe_rows(snapshot: Snapshot, shown: Callable[[pa.Table], pa.Table] = lambda table: table) -> Metadata:
    """Rows, what was quarantined and why.

    Args:
        shown: what of a table may be shown.
    """
    first = next(iter(snapshot.iter_batches("rows.parquet")), None)
    head = pa.Table.from_batches([first]) if first is not None else ROW_SCHEMA.empty_table()
    quarantined = snapshot.read_table("quarantine.parquet").slice(0, 20)
    counts = snapshot.facts["counts"]
    masked = snapshot.facts.get("masked")
    return {
        **table_metadata(shown(head)),
        "dagster/row_count": snapshot.file("rows.parquet").rows or 0,
        "quarantined": counts["quarantined"],
        "quarantine": records_table(shown(quarantined).to_pylist()),
        **({} if masked is None else {"masked": records_table([{"kind": kind, "count": count} for kind, count in masked.items()])}),
    }
