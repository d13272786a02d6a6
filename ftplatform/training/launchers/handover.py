"""Files for a run on a machine that shares no disk with this one: through an object store, named by their hash, checked on arrival.

A blob that is there already (mostly the base model) is not sent again. Blobs stay; a lifecycle rule on the prefix removes old ones.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ftplatform.errors import CorruptArtifact
from ftplatform.store.backend import Backend
from ftplatform.training.base_model import file_sha256
from ftplatform.training.manifest import TrainingManifest

#: SHA-256 of a file by its path inside a folder.
Index = dict[str, str]


def send(backend: Backend, files: Mapping[str, Path]) -> Index:
    """Uploads files by the path they shall get; returns what `receive` needs."""
    index = {path: file_sha256(file) for path, file in files.items()}
    for path, sha256 in index.items():
        backend.ensure(_blob(sha256), files[path], sha256)
    return index


def receive(backend: Backend, index: Mapping[str, str], folder: Path) -> None:
    """Downloads files into `folder`.

    Raises:
        CorruptArtifact: a file is missing, has other bytes, or would lie outside of `folder`.
    """
    for path, sha256 in index.items():
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not _is_hash(sha256):
            raise CorruptArtifact(f"{path!r} is no file of a handover", remedy="Find out who wrote the handover; run again.")
        file = folder / pure
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with file.open("xb") as handle:
                for chunk in backend.chunks(_blob(sha256)):
                    digest.update(chunk)
                    handle.write(chunk)
        except KeyError:
            raise CorruptArtifact(f"{path} is not in {backend.url}", remedy="Run again; it is sent anew.") from None
        if digest.hexdigest() != sha256:
            raise CorruptArtifact(f"{path} in {backend.url} has other bytes than were sent", remedy="Run again; it is sent anew.")


def files_of(manifest: TrainingManifest) -> tuple[dict[str, Path], TrainingManifest]:
    """Everything `train` reads by the path it gets elsewhere, and the manifest that finds it there, relative to a folder."""
    base = Path(manifest.base_folder)
    files = {f"base/{path}": base / path for path, _ in manifest.base.files}
    files["rows.parquet"] = Path(manifest.rows_path)
    moved = {"base_folder": "base", "rows_path": "rows.parquet"}
    if manifest.initial_adapter is not None and manifest.initial_adapter_folder is not None:
        initial = Path(manifest.initial_adapter_folder)
        files |= {f"initial/{path}": initial / path for path, _ in manifest.initial_adapter}
        moved["initial_adapter_folder"] = "initial"
    for name in ("refusal_probes_path", "safe_probes_path"):
        if (path := getattr(manifest, name)) is not None:
            files[f"{name}.parquet"] = Path(path)
            moved[name] = f"{name}.parquet"
    return files, replace(manifest, **moved)


def located(manifest: TrainingManifest, folder: Path) -> TrainingManifest:
    """The manifest of `files_of` with its locations in `folder`."""
    names = ("base_folder", "rows_path", "initial_adapter_folder", "refusal_probes_path", "safe_probes_path")
    given = {name: value for name in names if (value := getattr(manifest, name)) is not None}
    return replace(manifest, **{name: str(folder / value) for name, value in given.items()})


def write_document(backend: Backend, run: str, name: str, content: Mapping[str, Any]) -> None:
    """A small document of the run called `run`; the first one of a name stays."""
    backend.put_if_absent(_document(run, name), json.dumps({"run": run, **content}).encode())


def read_document(backend: Backend, run: str, name: str) -> dict[str, Any] | None:
    """What `write_document` wrote; None if it did not.

    Raises:
        CorruptArtifact: it is no document of this run.
    """
    stored = backend.get(_document(run, name))
    if stored is None:
        return None
    try:
        content = json.loads(stored.data)
        if content["run"] == run:
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise CorruptArtifact(f"the {name} of {run} in {backend.url} is damaged", remedy="Run again.")


def forget(backend: Backend, run: str) -> None:
    """Removes the documents of a run."""
    for entry in list(backend.list(f"runs/{run}/")):
        backend.delete_if_older(entry.key, time.time() + 86_400)


def _blob(sha256: str) -> str:
    return f"blobs/{sha256}"


def _document(run: str, name: str) -> str:
    return f"runs/{run}/{name}.json"


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
