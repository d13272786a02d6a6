"""The store in a folder: temporary file, fsync, rename, fsync of the folder; pointers change under a kernel lock.

A reader sees the old file or the new one, never a torn one, whenever the writer is killed and whatever the disk does.
Locks are `flock` on files that are never deleted; the kernel releases them with the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ftplatform.canonical import sha256_hex
from ftplatform.errors import StoreError, StoreFull, StoreUnavailable
from ftplatform.store import scratch
from ftplatform.store.backend import CHUNK, Entry, Stored

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN}


@contextlib.contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Turns the operating system's errors into the store's; `what` names the file or task."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error} [errno {error.errno}]"
        if error.errno in _FULL:
            raise StoreFull(
                f"No space to write {what}: {reason}. What was published before is untouched.",
                remedy="Free space (or raise the quota or file size limit) and run again.",
            ) from error
        if error.errno in _AWAY:
            raise StoreUnavailable(
                f"{what}: {reason}.", remedy="Check that the disk is mounted and healthy, then run again."
            ) from error
        raise StoreError(f"{what}: {reason}.", remedy="Check the path and its permissions.") from error


class LocalBackend:
    """Objects are files below `root`; see `Backend` for the contract."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._scratch = scratch.ScratchSpace(root / "tmp")
        if root.exists() and not root.is_dir():
            raise StoreError(f"The store {root} is a file.", remedy="Name a folder.")

    @property
    def url(self) -> str:
        return str(self.root)

    def get(self, key: str) -> Stored | None:
        with typed_errors(f"{self.url}/{key}"):
            try:
                data = self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Stored(data, sha256_hex(data))

    def stat(self, key: str) -> Entry | None:
        with typed_errors(f"{self.url}/{key}"):
            try:
                found = self._path(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Entry(key, found.st_size, found.st_mtime)

    def chunks(self, key: str) -> Iterator[bytes]:
        with typed_errors(f"{self.url}/{key}"):
            try:
                file = self._path(key).open("rb", buffering=0)
            except FileNotFoundError:
                raise KeyError(key) from None
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

    def local_path(self, key: str) -> Path | None:
        path = self._path(key)
        return path if path.is_file() else None

    def ensure(self, key: str, source: Path | bytes, sha256: str) -> None:
        final = self._path(key)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with typed_errors(f"{self.url}/{key}"):
            # Shared against the collector's exclusive lock: an object found here cannot be deleted between look and touch.
            with self._lock("objects", shared=True):
                try:
                    intact = final.stat().st_size == size and hash_file(final) == sha256
                except FileNotFoundError:
                    intact = False
                if intact:
                    with contextlib.suppress(PermissionError):  # another user's: then ours replaces it below
                        os.utime(final)
                        return
            self._install(final, source, sha256)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.compare_and_swap(key, data, None) is not None

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        with typed_errors(f"{self.url}/{key}"), self._lock(key, shared=False):
            current = self.get(key)
            if (current.etag if current else None) != expected:
                return None
            digest = sha256_hex(data)
            self._install(self._path(key), data, digest)
            return digest

    def list(self, prefix: str) -> Iterator[Entry]:
        with typed_errors(f"{self.url}/{prefix}"):
            for folder, folders, files in os.walk(self._path(prefix.rstrip("/"))):
                folders.sort()
                for name in sorted(files):
                    path = Path(folder, name)
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue  # deleted since it was listed
                    yield Entry(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def delete_if_older(self, key: str, cutoff: float) -> bool:
        path = self._path(key)
        with typed_errors(f"{self.url}/{key}"), self._lock("objects", shared=False):
            try:
                if path.stat().st_mtime > cutoff:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            return True

    def sweep(self, cutoff: float) -> int:
        return scratch.sweep(self.root / "tmp", cutoff)

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key.split("/"))

    def _install(self, final: Path, source: Path | bytes, sha256: str) -> None:
        _make_folder(self.root)
        temporary = self._scratch.file()
        try:
            with temporary.open("xb", buffering=0) as file:
                if copy_into(file.fileno(), source) != sha256:
                    raise StoreError(f"{source} changed while it was stored.", remedy="Keep the file still and run again.")
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o444)  # never written again; readable as umask says
                os.fsync(file.fileno())
            _make_folder(final.parent)
            os.replace(temporary, final)
            _sync_folder(final.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    @contextlib.contextmanager
    def _lock(self, name: str, *, shared: bool) -> Iterator[None]:
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_into(descriptor: int, source: Path | bytes) -> str:
    """Write `source` to an open file and return the SHA-256 (hex) of what was written."""
    hasher = hashlib.sha256()
    if isinstance(source, bytes):
        pieces: Iterator[bytes] = iter((source,))
        return _write(descriptor, pieces, hasher)
    with source.open("rb", buffering=0) as file:
        return _write(descriptor, iter(lambda: file.read(CHUNK), b""), hasher)


def _write(descriptor: int, pieces: Iterator[bytes], hasher: hashlib._Hash) -> str:
    for piece in pieces:
        hasher.update(piece)
        view = memoryview(piece)
        while view:  # a nearly full disk accepts a part of a write
            view = view[os.write(descriptor, view) :]
    return hasher.hexdigest()


def _make_folder(path: Path) -> None:
    """Create a folder and its missing parents, each durably: a rename into a folder that a crash forgets is lost."""
    missing = []
    folder = path
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
