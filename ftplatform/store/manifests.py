"""The manifest: what a snapshot consists of and came from, as RFC 8785 JSON named by its own hash.

It holds no time, host, path or run id, so the same build gives the same digest anywhere. When and by whom it was published is
the head's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ftplatform.canonical import sha256_hex
from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store.documents import encode
from ftplatform.store.names import asset_name, digest_name, file_path

SCHEMA = "ftplatform.manifest/1"


@dataclass(frozen=True, slots=True, order=True)
class InputRef:
    """A snapshot something was built from. `role` says in what capacity (``rows``, ``base_model``, ``eval``, ...)."""

    role: str
    asset: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a snapshot: its path there, the SHA-256 and size in bytes of its content, and its rows if it is a table."""

    path: str
    sha256: str
    size: int
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The parsed manifest. Build one with `build`, read one with `parse`; both check everything."""

    digest: str
    asset: str
    files: tuple[FileEntry, ...]
    inputs: tuple[InputRef, ...]
    code_version: str
    config_hash: str
    environment: str
    facts: Mapping[str, Any]
    document: Mapping[str, Any]


def build(
    asset: str,
    *,
    files: Sequence[FileEntry],
    inputs: Sequence[InputRef],
    code_version: str,
    config_hash: str,
    environment: str,
    facts: Mapping[str, Any],
) -> bytes:
    """Bytes of the manifest. Files are sorted by path and inputs by role, asset and snapshot, so their order never matters.

    Raises:
        StoreError: on invalid names, a path given twice or used as a folder, an input given twice, or facts without a JSON form.
    """
    what = f"Manifest of {asset}"
    document = {
        "schema": SCHEMA,
        "asset": asset_name(asset),
        "files": [
            {"path": file.path, "sha256": file.sha256, "size": file.size} | ({} if file.rows is None else {"rows": file.rows})
            for file in sorted(files, key=lambda file: file.path)
        ],
        "inputs": [{"role": ref.role, "asset": ref.asset, "snapshot": ref.snapshot} for ref in sorted(inputs)],
        "code_version": code_version,
        "config_hash": config_hash,
        "environment": environment,
        "facts": facts,
    }
    data = encode(document, what)
    parse(data, what)
    return data


def parse(data: bytes, what: str) -> Manifest:
    """The manifest in `data`; its digest is that of `data`.

    Raises:
        StoreError: naming what is wrong with it.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptArtifact(f"{what} is not valid JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise StoreError(
            f"{what} has the schema {found!r}; this version reads {SCHEMA!r}.",
            remedy="Use the version of ftplatform that wrote it.",
        )
    try:
        files = tuple(
            FileEntry(file_path(item["path"]), digest_name(item["sha256"]), _count(item["size"]), _rows(item))
            for item in document["files"]
        )
        inputs = tuple(
            InputRef(_text(item["role"]), asset_name(item["asset"]), digest_name(item["snapshot"])) for item in document["inputs"]
        )
        facts = document["facts"]
        if not isinstance(facts, dict):
            raise TypeError("facts is not an object")
        manifest = Manifest(
            digest=sha256_hex(data),
            asset=asset_name(document["asset"]),
            files=files,
            inputs=inputs,
            code_version=_text(document["code_version"]),
            config_hash=_text(document["config_hash"]),
            environment=_text(document["environment"]),
            facts=facts,
            document=document,
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"{what} is malformed: {error}.") from error
    _check_paths(files, what)
    if len(set(inputs)) != len(inputs):
        raise StoreError(f"{what} names an input twice.", remedy="Give each input once per role.")
    return manifest


def _check_paths(files: Sequence[FileEntry], what: str) -> None:
    paths = [file.path for file in files]
    if len(set(paths)) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise StoreError(f"{what} has two files named {twice!r}.", remedy="Give every file its own path.")
    folders = {path[:position] for path in paths for position, sign in enumerate(path) if sign == "/"}
    if both := folders.intersection(paths):
        raise StoreError(f"{what} uses {min(both)!r} both as a file and as a folder.", remedy="Rename one of them.")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a count")
    return value


def _rows(item: Mapping[str, Any]) -> int | None:
    return _count(item["rows"]) if "rows" in item else None
