"""A draft: the files of a snapshot to be, built on local disk before the store sees any of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from ftplatform.canonical import sha256_hex
from ftplatform.errors import StoreError
from ftplatform.store import scratch
from ftplatform.store.documents import encode
from ftplatform.store.local import hash_file, typed_errors
from ftplatform.store.manifests import FileEntry, InputRef
from ftplatform.store.names import asset_name, file_path
from ftplatform.store.tables import write_table


@dataclass(frozen=True, slots=True)
class DraftFile:
    """An entry of the manifest and where its bytes are now."""

    entry: FileEntry
    source: Path | bytes


class SnapshotDraft:
    """Collects files, inputs and facts; `Store.write` turns it into a snapshot.

    Tables and streams are written at once, so a generator may count as it goes and `facts` be filled afterwards. Local files
    given to `add_file` are hashed now and copied by `Store.write`, which refuses if they changed in between. Temporary files
    live below `scratch_folder` (the system's temporary folder by default) and vanish with the draft, or with `with`.
    """

    def __init__(
        self,
        asset: str,
        *,
        code_version: str,
        config_hash: str,
        environment: str,
        inputs: Sequence[InputRef] = (),
        facts: Mapping[str, Any] | None = None,
        scratch_folder: Path | None = None,
    ) -> None:
        self.asset = asset_name(asset)
        self.code_version = code_version
        self.config_hash = config_hash
        self.environment = environment
        self.inputs = list(inputs)
        self.facts: dict[str, Any] = dict(facts or {})
        self.files: dict[str, DraftFile] = {}
        self._scratch = scratch.ScratchSpace(scratch_folder or scratch.drafts_folder())

    def add_table(self, path: str, data: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema | None = None) -> FileEntry:
        """Write a table, or a stream of record batches row group by row group, as Parquet (see `tables.write_table`)."""
        self._check_new(path)
        what = f"Table {path!r} of {self.asset}"
        with typed_errors(what):
            local = self._scratch.file()
            try:
                rows = write_table(local, data, schema, what)
            except BaseException:
                local.unlink(missing_ok=True)
                raise
            entry = FileEntry(path, hash_file(local), local.stat().st_size, rows)
        return self._add(entry, local)

    def add_bytes(self, path: str, data: bytes) -> FileEntry:
        """Add a small file from memory."""
        self._check_new(path)
        return self._add(FileEntry(path, sha256_hex(data), len(data)), bytes(data))

    def add_json(self, path: str, value: Any) -> FileEntry:
        """Add a JSON value as RFC 8785 bytes. StoreError names the key of a value that has no JSON form (NaN, for one)."""
        return self.add_bytes(path, encode(value, f"File {path!r} of {self.asset}"))

    def add_file(self, path: str, local: Path) -> FileEntry:
        """Add a file from disk, of any size. It must not change until `Store.write` returns."""
        self._check_new(path)
        with typed_errors(f"File {local} for {self.asset}"):
            if not local.is_file():
                raise StoreError(f"{local} is not a file.", remedy="Give an existing regular file.")
            entry = FileEntry(path, hash_file(local), local.stat().st_size)
        return self._add(entry, local)

    def add_folder(self, prefix: str, local: Path) -> tuple[FileEntry, ...]:
        """Add every file below a local folder under `prefix` (empty: at the top).

        Links to files are followed, links to folders refused.
        """
        found: list[Path] = []
        with typed_errors(f"Folder {local} for {self.asset}"):
            if not local.is_dir():
                raise StoreError(f"{local} is not a folder.", remedy="Give an existing folder.")
            for folder, folders, files in os.walk(local):
                for name in folders:
                    if Path(folder, name).is_symlink():
                        raise StoreError(f"{Path(folder, name)} is a link to a folder.", remedy="Copy the folder it points to.")
                found.extend(Path(folder, name) for name in files)
        if not found:
            raise StoreError(f"{local} holds no files.", remedy="Give a folder with the files to store.")
        front = f"{prefix}/" if prefix else ""
        return tuple(self.add_file(front + path.relative_to(local).as_posix(), path) for path in sorted(found))

    def close(self) -> None:
        """Remove the temporary files. The draft cannot be written afterwards."""
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _check_new(self, path: str) -> None:
        if file_path(path) in self.files:
            raise StoreError(f"The draft of {self.asset} already has a file {path!r}.", remedy="Give every file its own path.")

    def _add(self, entry: FileEntry, source: Path | bytes) -> FileEntry:
        self.files[entry.path] = DraftFile(entry, source)
        return entry
