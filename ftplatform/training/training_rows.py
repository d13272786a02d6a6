"""The rows of a run as a file: reading them, and the hash of their sequence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ftplatform.errors import TrainingError
from ftplatform.rows.schema import row_id


def read_rows(path: Path) -> pa.Table:
    """The columns training reads: `row_id`, `messages` and, where they are there, `weight` and `masked`.

    Raises:
        TrainingError: not a Parquet file with these columns.
    """
    try:
        there = pq.read_schema(path).names
        columns = ["row_id", "messages", *(name for name in ("weight", "masked") if name in there)]
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise TrainingError(
            f"{path} cannot be read as training rows: {error}", remedy="Give a Parquet file of the row schema."
        ) from error


def sequence_sha256(rows: pa.Table) -> str:
    """SHA-256 of the *sequence* of rows: their texts, loss masks, weights (where not 1) and masked parts (where any), in this order.

    Identities are computed from the texts, not taken from the `row_id` column. The same rows in another order give another adapter
    (measured: weight change of cosine 0.63), so they get another hash.
    """
    state = hashlib.sha256()
    weights = rows.column("weight").to_pylist() if "weight" in rows.column_names else [1.0] * rows.num_rows
    masked = rows.column("masked").to_pylist() if "masked" in rows.column_names else [None] * rows.num_rows
    for messages, weight, parts in zip(rows.column("messages").to_pylist(), weights, masked, strict=True):
        mask = "".join("1" if m["trainable"] else "0" for m in messages)
        counted = "" if weight == 1.0 else f" {weight!r}"
        unlearned = "".join(f" {part['turn']}:{part['start']}-{part['end']}" for part in parts or ())
        state.update(f"{row_id(messages)} {mask}{counted}{unlearned}\n".encode())
    return state.hexdigest()


def read_named_rows(path: str, expected: str, what: str) -> pa.Table:
    """The rows in `path` if their sequence hashes to `expected`.

    Raises:
        TrainingError: they cannot be read, are others, or stand in another order; `what` names them.
    """
    rows = read_rows(Path(path))
    if sequence_sha256(rows) != expected:
        raise TrainingError(
            f"the {what} in {path} are not those of the manifest, or stand in another order",
            remedy="Restore the file, or prepare a new manifest.",
        )
    return rows
