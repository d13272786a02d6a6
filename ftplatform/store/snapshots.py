"""A snapshot: one immutable version of an asset, read through verified bytes only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from ftplatform.errors import StoreError
from ftplatform.store import tables
from ftplatform.store.blobs import BlobReader
from ftplatform.store.manifests import FileEntry, InputRef, Manifest

#: Rows per batch of `iter_batches`.
BATCH_ROWS = 4096


class Snapshot:
    """One version of an asset. Equal to any snapshot with the same digest. Get one from a `Store`.

    Every reader raises `CorruptArtifact`, naming asset, file and blob, if the stored bytes do not hash to their name.
    """

    __slots__ = ("_blobs", "_files", "_manifest")

    def __init__(self, manifest: Manifest, blobs: BlobReader) -> None:
        self._manifest = manifest
        self._blobs = blobs
        self._files = {entry.path: entry for entry in manifest.files}

    @property
    def asset(self) -> str:
        """Name of the asset, such as ``splits/support``."""
        return self._manifest.asset

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the manifest: the name of this version."""
        return self._manifest.digest

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest as parsed JSON. Treat as read-only."""
        return self._manifest.document

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Files by path."""
        return self._manifest.files

    @property
    def inputs(self) -> tuple[InputRef, ...]:
        """The snapshots this one was built from, by role and asset."""
        return self._manifest.inputs

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the builder recorded about it. Treat as read-only."""
        return self._manifest.facts

    @property
    def code_version(self) -> str:
        """Version of the code that built it."""
        return self._manifest.code_version

    @property
    def config_hash(self) -> str:
        """Hash of the configuration that built it."""
        return self._manifest.config_hash

    @property
    def environment(self) -> str:
        """Hash of the environment that built it."""
        return self._manifest.environment

    def file(self, path: str) -> FileEntry:
        """The entry of a file; StoreError lists what there is if it does not exist."""
        entry = self._files.get(path)
        if entry is None:
            raise StoreError(f"{self} has no file {path!r}.", remedy=f"Its files are {', '.join(self._files) or '(none)'}.")
        return entry

    def read_table(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file as a table, all columns or those named."""
        return tables.read_table(self._local(path), columns, self._what(path))

    def iter_batches(
        self, path: str, columns: Sequence[str] | None = None, *, batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """A Parquet file as record batches in order; memory stays near one row group whatever its size."""
        return tables.iter_batches(self._local(path), columns, batch_rows, self._what(path))

    def read_schema(self, path: str) -> pa.Schema:
        """Arrow schema of a Parquet file."""
        return tables.read_schema(self._local(path), self._what(path))

    def read_bytes(self, path: str) -> bytes:
        """A whole file."""
        return self._local(path).read_bytes()

    def read_json(self, path: str) -> Any:
        """A JSON file's value."""
        try:
            return orjson.loads(self.read_bytes(path))
        except orjson.JSONDecodeError as error:
            raise StoreError(f"{self._what(path)} is not JSON: {error}.", remedy="Read it with read_bytes.") from error

    def local_path(self, path: str) -> Path:
        """A verified local file with the same name, for libraries that read files (safetensors). Do not write to it."""
        return self._blobs.named(self.digest, self.file(path), str(self))

    def local_folder(self, prefix: str = "") -> Path:
        """A local folder with verified copies of all files below `prefix` (empty: all). Do not write to it."""
        front = f"{prefix}/" if prefix else ""
        entries = [entry for entry in self.files if entry.path.startswith(front)]
        if not entries:
            raise StoreError(
                f"{self} has no files below {prefix!r}.", remedy=f"Its files are {', '.join(self._files) or '(none)'}."
            )
        for entry in entries:
            self._blobs.named(self.digest, entry, str(self))
        return self._blobs.folder(self.digest).joinpath(*prefix.split("/")) if prefix else self._blobs.folder(self.digest)

    def _local(self, path: str) -> Path:
        return self._blobs.path(self.file(path), str(self))

    def _what(self, path: str) -> str:
        return f"{self}: file {path!r} (blob {self.file(path).sha256})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        return f"{self.asset}@{self.digest[:12]}"

    def __repr__(self) -> str:
        return f"Snapshot({self.asset!r}, {self.digest!r})"
