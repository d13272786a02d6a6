"""Applying accepted edits: to trainable assistant turns only, all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.errors import InputDataError
from ftplatform.rows.rewriting import with_texts
from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.targets.variants.edits import Decision, Edit
from ftplatform.targets.variants.words import Rows, batches

#: Where a corpus keeps its rows as they were before its diff was applied.
UNCLEANED_FILE = "uncleaned.parquet"


class StaleEdit(InputDataError):
    """An accepted edit does not fit the rows it is applied to."""


@dataclass(slots=True)
class CleaningCounts:
    """What happened, for whoever reads about it later.

    Attributes:
        accepted, rejected, pending: edits by decision. applied: places changed.
        rows: rows read. rows_changed: rows with a new identity; `renamed` maps the old to the new.
    """

    accepted: int = 0
    rejected: int = 0
    pending: int = 0
    applied: int = 0
    rows: int = 0
    rows_changed: int = 0
    renamed: dict[str, str] = field(default_factory=dict)

    def to_record(self) -> dict[str, int]:
        """The counts alone."""
        return {name: getattr(self, name) for name in ("accepted", "rejected", "pending", "applied", "rows", "rows_changed")}


def clean(rows: Rows, edits: Iterable[Edit]) -> tuple[Iterator[pa.Table], CleaningCounts]:
    """Rows with the accepted edits applied, as a stream of tables of `ROW_SCHEMA` in the old order, and counts that fill as it runs.

    A changed row gets the identity of its new text, keeps its origins, and names the row it was made from among its parents. All
    edits are compared with the rows before the first table is handed out: if one does not fit, nothing is applied.

    Args:
        rows: all columns of `ROW_SCHEMA`; a function that starts the batches is called twice.

    Raises:
        StaleEdit: the row is not there (it has changed, or was removed), the text at the place is another, the message is no
            trainable assistant turn, or two accepted edits overlap.
    """
    listed = list(edits)
    decided = Counter(edit.decision for edit in listed)
    counts = CleaningCounts(accepted=decided[Decision.ACCEPT], rejected=decided[Decision.REJECT], pending=decided[Decision.PENDING])
    accepted = _by_row([edit for edit in listed if edit.decision is Decision.ACCEPT])
    _require_fit(rows, accepted)
    return _applied(rows, accepted, counts), counts


def clean_table(rows: pa.Table, edits: Iterable[Edit]) -> tuple[pa.Table, CleaningCounts]:
    """`clean` for a table in memory."""
    stream, counts = clean(rows, edits)
    return pa.concat_tables([ROW_SCHEMA.empty_table(), *stream]), counts


def _by_row(edits: Sequence[Edit]) -> dict[str, list[Edit]]:
    found: dict[str, list[Edit]] = {}
    # Copies of a row have the same id and are proposed the same edits.
    once = {(edit.place, edit.after): edit for edit in edits}
    for edit in sorted(once.values(), key=lambda edit: edit.place):
        found.setdefault(edit.row_id, []).append(edit)
    for own in found.values():
        for first, second in pairwise(own):
            if first.message == second.message and second.start < first.end:
                raise StaleEdit(
                    f"Two accepted edits of row {first.row_id} overlap: {first.before!r} and {second.before!r} of message {first.message}.",
                    remedy="Accept one of them.",
                )
    return found


def _touched(table: pa.Table, edits: Mapping[str, Sequence[Edit]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of the rows that have accepted edits."""
    wanted = pc.is_in(table["row_id"], value_set=pa.array(list(edits), pa.string()))
    return np.flatnonzero(wanted.to_numpy())


def _require_fit(rows: Rows, edits: Mapping[str, Sequence[Edit]]) -> None:
    missing = set(edits)
    for table in batches(rows):
        for row in table.select(["row_id", "messages"]).take(pa.array(_touched(table, edits))).to_pylist():
            missing.discard(row["row_id"])
            for edit in edits[row["row_id"]]:
                _require_place(edit, row["messages"])
    if missing:
        raise StaleEdit(
            f"{len(missing)} edited rows are not in the data any more, such as {min(missing)}.",
            remedy="Propose the edits again on the rows as they are now; decisions on unchanged rows are kept.",
        )


def _require_place(edit: Edit, messages: Sequence[Mapping[str, Any]]) -> None:
    said = messages[edit.message] if edit.message < len(messages) else None
    if said is None or said["role"] != Role.ASSISTANT or not said["trainable"]:
        raise StaleEdit(
            f"The edit of row {edit.row_id} names message {edit.message}, which is no trainable assistant turn.",
            remedy="Only targets are cleaned; reject this edit.",
        )
    if said["content"][edit.start : edit.end] != edit.before:
        raise StaleEdit(
            f"Row {edit.row_id}, message {edit.message} does not say {edit.before!r} at {edit.start} to {edit.end}.",
            remedy="Propose the edits again.",
        )


def _applied(rows: Rows, edits: Mapping[str, Sequence[Edit]], counts: CleaningCounts) -> Iterator[pa.Table]:
    for table in batches(rows):
        table = table.select(ROW_SCHEMA.names).cast(ROW_SCHEMA)
        touched = _touched(table, edits)
        counts.rows += table.num_rows
        if not len(touched):
            yield table
            continue
        old = table.take(pa.array(touched)).select(["row_id", "messages"]).to_pylist()
        lengths = pc.list_value_length(table["messages"]).to_numpy()
        starts = (np.cumsum(lengths) - lengths)[touched].tolist()
        texts: dict[int, str] = {}
        for start, row in zip(starts, old, strict=True):
            own = edits[row["row_id"]]
            texts |= {start + message: text for message, text in _edited(row["messages"], own).items()}
            counts.applied += len(own)
        cleaned = with_texts(table, list(texts), pa.array(texts.values(), pa.string()))
        after = cleaned["row_id"].take(pa.array(touched)).to_pylist()
        counts.renamed |= {row["row_id"]: new for row, new in zip(old, after, strict=True)}
        counts.rows_changed += len(touched)
        yield cleaned


def _edited(messages: Sequence[Mapping[str, Any]], edits: Sequence[Edit]) -> dict[int, str]:
    """The texts of the edited messages, by position, in their order."""
    texts: dict[int, str] = {edit.message: messages[edit.message]["content"] for edit in edits}
    # From the end, so that earlier places keep their positions.
    for edit in reversed(edits):
        text = texts[edit.message]
        texts[edit.message] = text[: edit.start] + edit.after + text[edit.end :]
    return texts
