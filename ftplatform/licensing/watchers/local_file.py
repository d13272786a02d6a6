"""License files beside a local corpus, and other local files that a conclusion rests on."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ftplatform.licensing.evidence import MAX_EVIDENCE_BYTES
from ftplatform.licensing.policy import Policy, default_policy
from ftplatform.licensing.watchers.license_files import LicenseFile, is_license_file, look_at_files, read_license_file
from ftplatform.licensing.watchers.look import Archive, Cursor, Look, no_archive


class LocalFileWatcher:
    """Watches license files in a folder.

    Args:
        source: name of the source in the project.
        root: folder of the project; paths are shown relative to it.
        folder: folder of the corpus, relative to `root`; its LICENSE*, COPYING*, README* files are watched. None: only `files`.
        files: further files by path relative to `root` (contracts, letters).
        policy: decides which of two statements is stricter.
    """

    def __init__(
        self, source: str, root: Path, *, folder: str | None = None, files: Sequence[str] = (), policy: Policy | None = None
    ) -> None:
        self.source = source
        self.root = root
        self.folder = folder
        self.files = tuple(files)
        self.policy = policy or default_policy()

    def look(self, cursor: Cursor | None, now: datetime, archive: Archive = no_archive, *, concluded: bool = False) -> Look:
        """Read the files and judge them; see `license_files.look_at_files`. A file that is gone is a change of the terms."""
        cursor = cursor or {}
        found: list[LicenseFile] = []
        problems: list[str] = []
        try:
            paths = dict.fromkeys([*self._beside(), *self.files])
        except OSError as error:
            problem = f"{self.folder} cannot be listed ({error.strerror})"
            return Look(source=self.source, cursor=cursor, looked=False, problem=problem)
        for path in paths:
            problem = None
            try:
                data = read_regular(self.root / path)
                found.append(read_license_file(path, data))
                if len(data) > MAX_EVIDENCE_BYTES:
                    problem = f"{path} has more than {MAX_EVIDENCE_BYTES:,} bytes, too many for terms"
            except FileNotFoundError:
                problems.append(f"{path} does not exist")
            except OSError as error:
                # Not readable is not gone: nothing is concluded from it.
                problem = f"{path} cannot be read ({error.strerror})"
            if problem is not None:
                return Look(source=self.source, cursor=cursor, looked=False, problem=problem)
        if not found and "files" not in cursor:
            problem = "; ".join(problems) or "no license file was found"
            return Look(source=self.source, cursor=cursor, looked=False, problem=problem)
        return look_at_files(
            self.source,
            found,
            cursor,
            now,
            watcher="local_file",
            policy=self.policy,
            archive=archive,
            concluded=concluded,
            problem="; ".join(problems) or None,
        )

    def _beside(self) -> list[str]:
        if self.folder is None:
            return []
        names = sorted(
            entry.name for entry in os.scandir(self.root / self.folder) if is_license_file(entry.name) and entry.is_file()
        )
        return [os.path.normpath(f"{self.folder}/{name}") for name in names]


def read_regular(path: Path, limit: int = MAX_EVIDENCE_BYTES) -> bytes:
    """Bytes of a regular file, at most `limit` + 1 of them, so that a larger one is recognized; never blocks on a pipe.

    Raises:
        OSError: if it is missing, not readable, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        return stream.read(limit + 1)
