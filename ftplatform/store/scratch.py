"""Folders for half-made files that vanish with their owner, even if the owner is killed.

The owner holds a lock on its folder; the kernel drops the lock when the process dies, however it dies. Whoever opens the
store next removes unlocked folders after a grace period.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
import uuid
import weakref
from pathlib import Path

#: A folder this long untouched (seconds) whose owner is dead is litter. The period covers file systems that keep locks to one
#: machine: a writer elsewhere touches its folder far more often.
GRACE_S = 3600.0

_OWNER = ".owner"


def drafts_folder() -> Path:
    """Parent of the folders in which drafts build their files: below the system's temporary folder (TMPDIR moves it)."""
    folder = Path(tempfile.gettempdir()) / f"ftplatform-drafts-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    with contextlib.suppress(OSError):
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="ftplatform-drafts-"))  # somebody else took the name


class Scratch:
    """A private folder below `parent`, removed when this object is collected or the interpreter exits."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.path = parent / uuid.uuid4().hex
        self.path.mkdir(mode=0o700)
        self.pid = os.getpid()
        lock = os.open(self.path / _OWNER, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._finalizer = weakref.finalize(self, _remove, self.path, lock, self.pid)

    def close(self) -> None:
        """Remove the folder now."""
        self._finalizer()


class ScratchSpace:
    """Hands out paths in one scratch folder below `parent`, created on first use; a forked child gets its own."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._folder: Scratch | None = None
        self._lock = threading.Lock()

    def file(self) -> Path:
        """A new path; nothing is created there."""
        with self._lock:
            if self._folder is None or self._folder.pid != os.getpid():
                self._folder = Scratch(self.parent)
            return self._folder.path / uuid.uuid4().hex

    def close(self) -> None:
        """Remove the folder now."""
        with self._lock:
            if self._folder is not None:
                self._folder.close()


def _remove(path: Path, lock: int, owner: int) -> None:
    if os.getpid() != owner:  # a forked child must not remove its parent's files
        return
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.close(lock)


def sweep(parent: Path, cutoff: float) -> int:
    """Remove the folders below `parent` untouched since `cutoff` (seconds since 1970) whose owner is dead; returns how many."""
    removed = 0
    try:
        candidates = [entry for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return 0  # no such folder, or not ours to clean
    for folder in candidates:
        with contextlib.suppress(OSError):  # somebody else sweeps at the same time
            if _last_touched(folder.path) > cutoff:
                continue
            lock = os.open(os.path.join(folder.path, _OWNER), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder.path, ignore_errors=True)
                removed += 1
            finally:
                os.close(lock)
    return removed


def _last_touched(folder: str) -> float:
    return max([os.stat(folder).st_mtime, *(entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(folder))])


def default_cutoff() -> float:
    """Now minus the grace period."""
    return time.time() - GRACE_S
