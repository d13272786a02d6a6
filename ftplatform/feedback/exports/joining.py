"""Reading an export: every opinion beside the request it is about, in whatever order and files they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from ftplatform.feedback.events import EVENT_SCHEMA, CorrectionKind, EventSurface, Intent, check_event
from ftplatform.feedback.exports import formats
from ftplatform.feedback.exports.formats import Opinion, Parsed, Subject
from ftplatform.rows.decoding import ByteBudget
from ftplatform.rows.file_kinds import open_file, raw_records
from ftplatform.rows.limits import ReadLimits
from ftplatform.rows.quarantine import Malformed, Quarantined, QuarantineLog, Reason
from ftplatform.rows.raw_records import RawRecord
from ftplatform.rows.reading import ReadCounts
from ftplatform.rows.record_tables import one_of
from ftplatform.rows.sources import SourceFile


class ExportFormat(StrEnum):
    """Which tool an export is from."""

    THUMBS = "thumbs"
    LANGFUSE = "langfuse"
    LANGSMITH = "langsmith"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a person says of an export because its tool does not.

    Attributes:
        surface: where all of it was gathered; None leaves it unsaid, and curation then rejects it.
        surfaces: the same by the environment that the tool recorded ("staging" to "qa"); it goes before `surface`.
    """

    surface: EventSurface | None = None
    surfaces: Mapping[str, EventSurface] = field(default_factory=dict)

    def surface_of(self, environment: str | None) -> str | None:
        """The surface of a request made in `environment`."""
        found = self.surfaces.get(environment or "", self.surface)
        return None if found is None else str(found)


@dataclass(frozen=True, slots=True)
class ExportTable:
    """Attributes:
    table: the events, `EVENT_SCHEMA`.
    quarantine: opinions and requests that could not be read, `QUARANTINE_SCHEMA`.
    counts: of opinions, and of requests that could not be read: ``kept + quarantined == read``.
    without_feedback: requests that nobody said anything about; they are no events.
    """

    table: pa.Table
    quarantine: pa.Table
    counts: ReadCounts
    without_feedback: int


_PARSERS: dict[ExportFormat, Callable[[Mapping[str, Any]], Parsed]] = {
    ExportFormat.THUMBS: formats.thumbs,
    ExportFormat.LANGFUSE: formats.langfuse,
    ExportFormat.LANGSMITH: formats.langsmith,
}
#: What tells that a `.json` document which is one object is a record and not a container of records.
_RECORD_KEYS = frozenset({"input", "inputs", "traceId", "run_id", "event_id", "prompt", "question"})
_CODES = {"surface": one_of(*EventSurface), "intent_code": one_of(*Intent), "correction_kind": one_of(*CorrectionKind)}
_BATCH = 8_192


def read_export(
    files: Sequence[SourceFile],
    export: ExportFormat | str,
    *,
    source: str = "feedback",
    declared: Declared | None = None,
    limits: ReadLimits | None = None,
) -> ExportTable:
    """Events of an export. Nothing about intent is guessed.

    `intent_code` and `correction_kind` are null unless a flat export states them under these names; only where nothing but a comment
    was given the kind is `comment`, for that is what the tool calls it. Curation rejects what is not stated, and annotators state it.

    Args:
        files: JSON, JSONL or CSV. Requests and what was said of them may be in different files.
        export: the tool.
        source: name in quarantine entries.
        declared: what the tool does not say.
        limits: caps of the reading. Memory grows with the requests, of which prompt and answer are kept until all is read.

    Raises:
        InputDataError: a file as a whole is unusable.
    """
    declared, limits = declared or Declared(), limits or ReadLimits()
    parse = _PARSERS[ExportFormat(export)]
    subjects: dict[str, Subject] = {}
    waiting: list[tuple[str, RawRecord, Opinion, Subject | None]] = []
    read = 0
    with QuarantineLog(source) as log:
        for uri, item in _records(files, limits):
            if isinstance(item, Quarantined):
                read += 1
                log.add(uri, item)
                continue
            try:
                if not isinstance(item.value, dict):
                    raise Malformed(Reason.NOT_AN_OBJECT, f"a {type(item.value).__name__}, not an object")
                parsed = parse(item.value)
            except Malformed as malformed:
                read += 1
                log.add(uri, item.refuse(malformed, limits.excerpt_chars))
                continue
            read += len(parsed.opinions) + len(parsed.refused)
            for malformed in parsed.refused:
                log.add(uri, item.refuse(malformed, limits.excerpt_chars))
            if parsed.subject is not None:
                subjects[parsed.subject.key] = parsed.subject
            waiting += [(uri, RawRecord(item.position, dict(o.columns)), o, parsed.subject) for o in parsed.opinions]
        batches: list[pa.RecordBatch] = []
        events: list[dict[str, Any]] = []
        discussed: set[str] = set()
        for uri, record, opinion, subject in waiting:
            discussed.add(opinion.subject)
            try:
                events.append(_event(opinion, subject or subjects.get(opinion.subject), declared))
            except Malformed as malformed:
                log.add(uri, record.refuse(malformed, limits.excerpt_chars))
            if len(events) == _BATCH:
                batches.append(pa.RecordBatch.from_pylist(events, schema=EVENT_SCHEMA))
                events = []
        batches.append(pa.RecordBatch.from_pylist(events, schema=EVENT_SCHEMA))
        table = pa.Table.from_batches(batches, schema=EVENT_SCHEMA)
        by_reason = dict(sorted(log.by_reason.items()))
        counts = ReadCounts(read, table.num_rows, sum(by_reason.values()), by_reason)
        return ExportTable(table, log.table(), counts, len(subjects.keys() - discussed))


def _records(files: Sequence[SourceFile], limits: ReadLimits) -> Iterator[tuple[str, RawRecord | Quarantined]]:
    budget = ByteBudget(limits.total_bytes)
    for file in files:
        with open_file(file, limits, budget) as opened:
            for item in raw_records(opened, lambda value: bool(_RECORD_KEYS & value.keys())):
                yield file.uri, item


def _event(opinion: Opinion, subject: Subject | None, declared: Declared) -> dict[str, Any]:
    if subject is None:
        raise Malformed(Reason.MISSING_FIELD, f"is about {opinion.subject[:80]!r}, which is in none of the files")
    columns = dict(opinion.columns)
    if columns.get("comment") and not columns.get("correction") and not columns.get("correction_kind"):
        columns["correction_kind"] = str(CorrectionKind.COMMENT)
    for name, parse in _CODES.items():
        if columns.get(name) is not None:
            parse(name, columns[name])
    event = {
        **dict.fromkeys(EVENT_SCHEMA.names),
        "conversation": subject.conversation,
        "prompt": subject.prompt,
        "answer": subject.answer,
        "surface": declared.surface_of(subject.environment),
        **{name: value for name, value in columns.items() if value is not None},
    }
    event["actor"] = event["actor"] or subject.actor
    check_event(event)
    return event
