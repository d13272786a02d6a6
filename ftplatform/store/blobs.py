"""Verified local copies of blobs: nothing is handed out whose bytes were not hashed by this process.

A blob of a folder store is hashed in place; one from elsewhere is downloaded once into a cache and hashed on the way. A file
that was verified counts as such until its size or modification time changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from ftplatform.errors import CorruptArtifact
from ftplatform.store import scratch
from ftplatform.store.backend import Backend
from ftplatform.store.local import hash_file, typed_errors
from ftplatform.store.manifests import FileEntry
from ftplatform.store.names import blob_key

#: A flipped bit on the wire is gone on the next read; one on disk is not.
_READS = 3

#: The cache of remote blobs is trimmed to this many bytes, oldest use first, sparing what was used within a day.
CACHE_LIMIT = 50 * 2**30
_CACHE_SPARE_S = 86_400.0

_REMEDY = "Restore the object from a backup, or materialize the asset again: writing replaces a damaged object."


class BlobReader:
    """Hands out verified local paths of blobs and of whole snapshot folders."""

    def __init__(self, backend: Backend, cache: Path | scratch.Scratch) -> None:
        self._backend = backend
        self._owner = cache  # a scratch folder vanishes with the last reader
        self._cache = cache.path if isinstance(cache, scratch.Scratch) else cache
        self._scratch = scratch.ScratchSpace(self._cache / "tmp")
        self._verified: dict[tuple[int, int], tuple[int, int, str]] = {}

    def path(self, entry: FileEntry, owner: str) -> Path:
        """A local file with the verified content of `entry`. Do not write to it.

        Args:
            owner: names the asset and snapshot in errors.

        Raises:
            CorruptArtifact: if the blob is missing or does not hash to its name, after reading it again.
        """
        what = f"{owner}: file {entry.path!r}"
        with typed_errors(what):
            local = self._backend.local_path(blob_key(entry.sha256))
            if local is not None:
                if not self._is_verified(local, entry):
                    raise _corrupt(what, entry, self._backend, f"it has {local.stat().st_size} bytes and another hash")
                return local
            cached = self._cache / "blobs" / entry.sha256[:2] / entry.sha256
            if cached.is_file():
                if self._is_verified(cached, entry):
                    os.utime(cached, ns=(time.time_ns(), cached.stat().st_mtime_ns))  # last use, for trimming
                    return cached
                cached.unlink(missing_ok=True)
            self._download(entry, cached, what)
            return cached

    def named(self, digest: str, entry: FileEntry, owner: str) -> Path:
        """Like `path`, but under its own name in a folder of the snapshot `digest`, for readers that go by file names."""
        blob = self.path(entry, owner)
        with typed_errors(f"{owner}: file {entry.path!r}"):
            view = self.folder(digest).joinpath(*entry.path.split("/"))
            view.parent.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder(digest))  # last use, for trimming
            with contextlib.suppress(FileNotFoundError):
                if view.samefile(blob) or self._is_verified(view, entry):
                    return view
            temporary = self._scratch.file()
            try:
                os.link(blob, temporary)
            except OSError:  # another device, or a file system without hard links
                shutil.copyfile(blob, temporary)
                _make_read_only(temporary)
            os.replace(temporary, view)
            temporary.unlink(missing_ok=True)  # renaming one link of a file onto another does nothing
            if not (view.samefile(blob) or self._is_verified(view, entry)):
                raise _corrupt(f"{owner}: file {entry.path!r}", entry, self._backend, f"its copy {view} differs")
        return view

    def folder(self, digest: str) -> Path:
        """Where `named` puts the files of a snapshot."""
        return self._cache / "views" / digest

    def drop_folders(self, grace: timedelta, keep: Callable[[str], bool]) -> None:
        """Remove folders made by `named` that nobody asked for during `grace`, unless `keep` says so of their digest."""
        cutoff = time.time() - grace.total_seconds()
        with typed_errors(str(self._cache)), contextlib.suppress(FileNotFoundError):
            for folder in os.scandir(self._cache / "views"):
                if folder.stat().st_mtime <= cutoff and not keep(folder.name):
                    shutil.rmtree(folder.path, ignore_errors=True)

    def _is_verified(self, path: Path, entry: FileEntry) -> bool:
        found = path.stat()
        seen = (found.st_size, found.st_mtime_ns, entry.sha256)
        if self._verified.get((found.st_dev, found.st_ino)) == seen:
            return True
        if found.st_size != entry.size or hash_file(path) != entry.sha256:
            return False
        self._remember(found, entry)
        return True

    def _download(self, entry: FileEntry, final: Path, what: str) -> None:
        key = blob_key(entry.sha256)
        problem = ""
        for _ in range(_READS):
            hasher, size = hashlib.sha256(), 0
            temporary = self._scratch.file()
            try:
                with temporary.open("xb") as file:
                    for chunk in self._backend.chunks(key):
                        hasher.update(chunk)
                        size += len(chunk)
                        file.write(chunk)
                if hasher.hexdigest() == entry.sha256:
                    _make_read_only(temporary)
                    final.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(temporary, final)
                    self._remember(final.stat(), entry)
                    self._trim()
                    return
                problem = f"it has {size} bytes and the hash {hasher.hexdigest()}"
            except KeyError:
                raise _corrupt(what, entry, self._backend, "it is missing") from None
            finally:
                temporary.unlink(missing_ok=True)
        raise _corrupt(what, entry, self._backend, problem)

    def _remember(self, found: os.stat_result, entry: FileEntry) -> None:
        self._verified[found.st_dev, found.st_ino] = (found.st_size, found.st_mtime_ns, entry.sha256)

    def _trim(self) -> None:
        used: list[tuple[float, int, str]] = []
        for folder in os.scandir(self._cache / "blobs"):
            for entry in os.scandir(folder.path):
                with contextlib.suppress(FileNotFoundError):  # another process trims, too
                    found = entry.stat()
                    used.append((found.st_atime, found.st_size, entry.path))
        total = sum(size for _, size, _ in used)
        if total <= CACHE_LIMIT:
            return
        spared = time.time() - _CACHE_SPARE_S
        self.drop_folders(timedelta(seconds=_CACHE_SPARE_S), lambda digest: False)  # they hold links to the same bytes
        for last, size, path in sorted(used):
            if total <= CACHE_LIMIT or last > spared:
                return
            Path(path).unlink(missing_ok=True)
            total -= size


def _make_read_only(path: Path) -> None:
    path.chmod(path.stat().st_mode & 0o444)


def _corrupt(what: str, entry: FileEntry, backend: Backend, problem: str) -> CorruptArtifact:
    return CorruptArtifact(
        f"{what} should have {entry.size} bytes and the hash {entry.sha256}, but {problem}"
        f" ({backend.url}/{blob_key(entry.sha256)}).",
        remedy=_REMEDY,
    )
