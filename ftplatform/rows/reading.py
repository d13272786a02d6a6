"""Reading: files in, rows out, everything accounted for. The public entry of this package."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from ftplatform.errors import InputDataError
from ftplatform.rows.building import NO_TARGET_NEEDED, RowBuilder, RowDefaults
from ftplatform.rows.decoding import ByteBudget
from ftplatform.rows.file_kinds import OpenFile, open_file, raw_records
from ftplatform.rows.formats import Converter
from ftplatform.rows.limits import ReadLimits
from ftplatform.rows.named_readers import Reader, load_reader
from ftplatform.rows.quarantine import QUARANTINE_SCHEMA, Malformed, Quarantined, QuarantineLog, Reason, raw_excerpt
from ftplatform.rows.raw_records import RawRecord
from ftplatform.rows.records import Record
from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface
from ftplatform.rows.sources import SourceFile, list_files

__all__ = [
    "QUARANTINE_SCHEMA",
    "ROW_SCHEMA",
    "Quarantined",
    "ReadCounts",
    "ReadLimits",
    "ReadSpec",
    "Reason",
    "Record",
    "RowReader",
    "read_rows",
    "read_table",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSpec:
    """What to read and how.

    Attributes:
        paths: local paths, globs and URLs (see `sources.list_files`).
        source: name of the source; becomes `source` and `origins` of every row.
        base_dir: folder relative paths and project-local readers start from.
        format: a layout of `formats.LAYOUTS`, or ``auto``.
        reader: named reader (`star`, `taskmaster`, an entry point of group ``ftplatform.readers``, or ``module:function``);
            replaces `format`.
        fields: our names to the file's keys, e.g. ``{"user": "utterance", "group": "conversation_id"}``.
        surface: where the rows came into being; a record's own `surface` wins. Eval and debug rows are never trainable.
        first_seen_at: when the platform first saw them; naive times are UTC.
        parents: rows or teachers all rows were derived from, e.g. ``("teacher:gpt-4",)``; a record's own `parents` are added.
        slice_field: record key whose value becomes a slice tag.
        require_target: whether a row needs an assistant turn. None: yes for curation and synthetic rows, no for real inputs,
            eval and debug rows.
        options: options of remote filesystems, as fsspec takes them.
        limits: caps; see `ReadLimits`.
    """

    paths: Sequence[str]
    source: str
    base_dir: Path = Path()
    format: str = "auto"
    reader: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    surface: Surface = Surface.CURATION
    first_seen_at: datetime.datetime | None = None
    parents: Sequence[str] = ()
    slice_field: str | None = None
    require_target: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    limits: ReadLimits = field(default_factory=ReadLimits)

    @property
    def needs_target(self) -> bool:
        """`require_target`, resolved."""
        return self.surface not in NO_TARGET_NEEDED if self.require_target is None else self.require_target


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """How many records were read and where they went: ``kept + quarantined == read``.

    Raises:
        ValueError: if they do not add up; then the reader lost a record, which is a bug.
    """

    read: int
    kept: int
    quarantined: int
    by_reason: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.kept + self.quarantined != self.read or sum(self.by_reason.values()) != self.quarantined:
            raise ValueError(
                f"records do not add up: {self.kept} kept + {self.quarantined} quarantined of {self.read} ({self.by_reason})"
            )


class RowReader:
    """Iterates over record batches of `ROW_SCHEMA`, once. Counts and quarantine are complete when the iteration is.

    Use it as a context manager, or read it to the end: it holds open files and a temporary one.

    Attributes:
        files: what will be read.
        digests: SHA-256 (hex) of the stored bytes of every file read so far, by `SourceFile.uri`: of the very bytes the rows
            came from.
    """

    def __init__(self, spec: ReadSpec) -> None:
        self.spec = spec
        self.files: list[SourceFile] = list_files(spec.paths, spec.base_dir, spec.options)
        self.digests: dict[str, str] = {}
        self._reader: Reader | None = load_reader(spec.reader, spec.base_dir) if spec.reader is not None else None
        self._log = QuarantineLog(spec.source)
        self._read = self._kept = 0
        self._batches = self._iterate()
        # Built now, so that an unknown layout is an error before anything is read.
        self._converter()

    def _converter(self) -> Converter:
        # Text that nobody answers was typed by a user; text to learn from is the assistant's.
        text_role = Role.ASSISTANT if self.spec.needs_target else Role.USER
        return Converter(self.spec.format, self.spec.fields, text_role)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def _iterate(self) -> Iterator[pa.RecordBatch]:
        spec = self.spec
        first_seen = spec.first_seen_at
        if first_seen is not None and first_seen.tzinfo is None:
            first_seen = first_seen.replace(tzinfo=datetime.UTC)
        builder = RowBuilder(
            RowDefaults(
                source=spec.source,
                surface=Surface(spec.surface),
                first_seen_at=first_seen,
                parents=spec.parents,
                slice_field=spec.slice_field,
                require_target=spec.needs_target,
            )
        )
        budget = ByteBudget(spec.limits.total_bytes)
        for file in self.files:
            before = self._read
            with open_file(file, spec.limits, budget) as opened:
                for item in self._items(opened):
                    self._read += 1
                    if self._read > spec.limits.records:
                        raise InputDataError(
                            f"{file.uri}: reading stopped after {spec.limits.records:,} records.",
                            remedy="Raise the limit records if there are really so many, or split the source.",
                        )
                    self._account(file, item, builder)
                    if builder.full:
                        batch = builder.take()
                        if batch is not None:
                            yield batch
                self.digests[file.uri] = opened.digest()
            if self._read == before:
                raise InputDataError(f"{file.uri}: holds no records.", remedy="Remove the empty file, or correct the path.")
        batch = builder.take()
        if batch is not None:
            yield batch
        # Raises if a record got lost.
        _ = self.counts

    def _items(self, opened: OpenFile) -> Iterator[Record | Quarantined]:
        if self._reader is not None:
            yield from self._reader(opened)
            return
        converter = self._converter()
        limit = self.spec.limits.excerpt_chars
        for item in raw_records(opened, converter.is_record):
            if isinstance(item, Quarantined):
                yield item
                continue
            try:
                yield converter.convert(item)
            except Malformed as malformed:
                yield item.refuse(malformed, limit)

    def _account(self, file: SourceFile, item: Record | Quarantined, builder: RowBuilder) -> None:
        if isinstance(item, Record):
            try:
                builder.add(item)
            except Malformed as malformed:
                item = _refused(item, malformed, self.spec.limits.excerpt_chars)
            else:
                self._kept += 1
                return
        self._log.add(file.uri, item)

    @property
    def counts(self) -> ReadCounts:
        """Counts so far."""
        by_reason = dict(sorted(self._log.by_reason.items()))
        return ReadCounts(self._read, self._kept, sum(by_reason.values()), by_reason)

    def quarantine(self) -> pa.Table:
        """The refused records so far, with `QUARANTINE_SCHEMA`."""
        return self._log.table()

    def quarantine_batches(self) -> Iterator[pa.RecordBatch]:
        """The same in batches, for quarantines larger than memory."""
        return self._log.batches()

    def close(self) -> None:
        """Ends the reading and frees files."""
        self._batches.close()  # type: ignore[attr-defined]
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _refused(record: Record, malformed: Malformed, excerpt_chars: int) -> Quarantined:
    raw = record.raw
    if isinstance(raw, RawRecord):
        refused = raw.refuse(malformed, excerpt_chars)
        return Quarantined(refused.reason, record.position, refused.message, refused.excerpt)
    text = raw if isinstance(raw, bytes | str) else "\n".join(f"{message.role}: {message.content}" for message in record.messages)
    return Quarantined(malformed.reason, record.position, malformed.message, raw_excerpt(text, excerpt_chars))


def read_rows(spec: ReadSpec) -> RowReader:
    """Starts reading.

    Raises:
        InputDataError: a path is unusable. While iterating: a file as a whole is unusable (missing, empty, damaged, a bomb).
        ProjectError: unknown layout or reader.
    """
    return RowReader(spec)


def read_table(spec: ReadSpec) -> tuple[pa.Table, pa.Table, ReadCounts]:
    """Reads everything into memory: rows (`ROW_SCHEMA`), quarantine (`QUARANTINE_SCHEMA`), counts.

    Raises:
        InputDataError, ProjectError: as `read_rows`.
    """
    with read_rows(spec) as reader:
        rows = pa.Table.from_batches(list(reader), schema=ROW_SCHEMA)
        return rows, reader.quarantine(), reader.counts
