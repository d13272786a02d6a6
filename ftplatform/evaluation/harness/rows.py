"""Items of a harness task as rows, so that every check on eval sets reads them: contamination, exposure, license."""

from __future__ import annotations

import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.harness.task import HarnessTask
from ftplatform.rows.building import RowBuilder, RowDefaults
from ftplatform.rows.quarantine import Malformed
from ftplatform.rows.records import Message, Record
from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface


def item_rows(task: HarnessTask, *, source: str, slice_field: str | None = None) -> pa.Table:
    """One row per item, in the order in which they are asked: question and right answer, as table of `ROW_SCHEMA`.

    Args:
        source: name that becomes `source` and `origins` of the rows.
        slice_field: key of a document whose value becomes the row's slice.

    Raises:
        HarnessMissing: if lm-eval is not installed.
        EvaluationError: an item asks nothing or has no answer; then the task cannot be scored item by item.
    """
    builder = RowBuilder(
        RowDefaults(
            source=source, surface=Surface.EVAL, first_seen_at=None, parents=(), slice_field=slice_field, require_target=True
        )
    )
    batches = []
    for number, (item, document) in enumerate(zip(task.items(), task.asked, strict=True), start=1):
        messages = [Message(Role.USER, item.prompt), Message(Role.ASSISTANT, item.answer)]
        fields = {slice_field: document.get(slice_field)} if slice_field is not None else {}
        try:
            builder.add(Record(messages, {**fields, "item": number - 1}, number))
        except Malformed as malformed:
            raise EvaluationError(
                f"Item {number} of task {task.name} cannot be a row: {malformed.message}.",
                remedy="Correct its document or template.",
            ) from malformed
        if builder.full and (batch := builder.take()) is not None:
            batches.append(batch)
    if (batch := builder.take()) is not None:
        batches.append(batch)
    return pa.Table.from_batches(batches, ROW_SCHEMA)
