"""Which file kind a name says, and the raw records of a file of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from ftplatform.errors import InputDataError
from ftplatform.rows.csv_records import csv_records
from ftplatform.rows.decoding import ByteBudget, DecodedStream, HashingReader
from ftplatform.rows.json_document import json_document_records
from ftplatform.rows.limits import ReadLimits
from ftplatform.rows.parquet_records import parquet_records
from ftplatform.rows.raw_records import IsRecord, RawItems, jsonl_records, text_records
from ftplatform.rows.sources import SourceFile, content_digest, open_raw


class FileKind(StrEnum):
    """How records are laid out in a file."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    TEXT = "text"


_SUFFIXES = {
    ".jsonl": FileKind.JSONL,
    ".ndjson": FileKind.JSONL,
    ".json": FileKind.JSON,
    ".csv": FileKind.CSV,
    ".tsv": FileKind.TSV,
    ".parquet": FileKind.PARQUET,
    ".pq": FileKind.PARQUET,
    ".txt": FileKind.TEXT,
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def file_kind(file: SourceFile) -> tuple[FileKind, str | None]:
    """Kind and compression (``gzip``, ``zstd`` or None) by the file's suffixes, whatever their case.

    Raises:
        InputDataError: unknown suffix.
    """
    name = urlsplit(file.path).path if file.protocol in ("http", "https") else file.path
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    kind = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None:
        raise InputDataError(
            f"{file.uri}: the name does not say what the file is.",
            remedy=f"Give it one of the suffixes {', '.join(_SUFFIXES)}, with .gz or .zst after it if it is compressed.",
        )
    return kind, compression


@dataclass(slots=True)
class OpenFile:
    """A file being read.

    Attributes:
        file: what it is.
        stream: its decoded bytes.
        kind: its kind.
        local: path of the file, if it is local and not compressed; None otherwise.
    """

    file: SourceFile
    stream: DecodedStream
    kind: FileKind
    local: str | None
    _hashed: HashingReader
    _digest: str | None = None

    def digest(self) -> str:
        """SHA-256 (hex) of the stored bytes that were read."""
        return self._digest if self._digest is not None else self._hashed.finish()


@contextmanager
def open_file(file: SourceFile, limits: ReadLimits, budget: ByteBudget | None = None) -> Iterator[OpenFile]:
    """Opens a file for reading records, or for a named reader.

    Raises:
        InputDataError: unknown suffix, or as `open_raw`.
    """
    kind, compression = file_kind(file)
    local = file.path if file.protocol == "file" and compression is None else None
    # Parquet is read out of order, so its bytes cannot be hashed on the way.
    digest = content_digest(file) if local is not None and kind is FileKind.PARQUET else None
    with open_raw(file) as raw:
        hashed = HashingReader(raw)
        stream = DecodedStream(
            hashed, name=file.uri, compression=compression, limits=limits, budget=budget or ByteBudget(limits.total_bytes)
        )
        yield OpenFile(file, stream, kind, local, hashed, digest)


def _never(_value: object) -> bool:
    return False


def raw_records(opened: OpenFile, is_record: IsRecord = _never) -> RawItems:
    """The raw records of an open file: parsed values and refused records, in file order.

    Args:
        opened: from `open_file`.
        is_record: tells whether a `.json` document that is one object is itself a record.

    Raises:
        InputDataError: the file as a whole is unusable.
    """
    match opened.kind:
        case FileKind.JSONL:
            return jsonl_records(opened.stream)
        case FileKind.JSON:
            return json_document_records(opened.stream, is_record)
        case FileKind.CSV:
            return csv_records(opened.stream, ",")
        case FileKind.TSV:
            return csv_records(opened.stream, "\t")
        case FileKind.PARQUET:
            return parquet_records(opened.stream, opened.local)
        case FileKind.TEXT:
            return text_records(opened.stream)
