"""Events from whatever a project says they are in: our own layout, or the export of a tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ftplatform.feedback.events import EventSurface, read_events
from ftplatform.feedback.exports import Declared, ExportFormat, read_export
from ftplatform.rows.reading import ReadCounts
from ftplatform.rows.sources import SourceFile


@dataclass(frozen=True, slots=True)
class Intake:
    """Attributes:
    table: the events, `EVENT_SCHEMA`.
    quarantine: what could not be read, `QUARANTINE_SCHEMA`.
    counts: ``kept + quarantined == read``.
    without_feedback: requests of an export that nobody said anything about.
    """

    table: pa.Table
    quarantine: pa.Table
    counts: ReadCounts
    without_feedback: int = 0


def read_feedback(
    files: Sequence[SourceFile],
    *,
    source: str,
    export: str | None = None,
    fields: Mapping[str, str] | None = None,
    surface: str | None = None,
    surfaces: Mapping[str, str] | None = None,
) -> Intake:
    """Events of a `feedback:` block.

    Args:
        source: name in quarantine entries.
        export: one of `ExportFormat`; None reads our own layout.
        fields: column name to the file's key, of our own layout.
        surface, surfaces: of an export, see `exports.Declared`.

    Raises:
        InputDataError: a file as a whole is unusable.
    """
    if export is None:
        own = read_events(files, source=source, fields=fields)
        return Intake(own.table, own.quarantine, own.counts)
    declared = Declared(
        None if surface is None else EventSurface(surface), {name: EventSurface(s) for name, s in (surfaces or {}).items()}
    )
    found = read_export(files, ExportFormat(export), source=source, declared=declared)
    return Intake(found.table, found.quarantine, found.counts, found.without_feedback)
