"""Which code ran: the files of the package, and the commit of the project if it has one.

The package is identified by its files, not by its version number: an editable install, or a version that was edited in place,
differs while the number does not. Its files fit into a megabyte, so a closure carries them instead of trusting an index to do so.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import FtplatformError

#: Seconds git gets to answer. A repository that needs longer to tell whether it is dirty is recorded as unreadable.
GIT_TIMEOUT_S = 60

# Compiled files, caches, and the bundled example project (data, which a wheel carries and a working copy does not) are not code.
_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".venv", ".ftplatform", ".pytest_cache", ".ruff_cache", "examples"})
_SKIPPED_SUFFIXES = (".pyc", ".pyo", ".swp", "~")
_MAX_TREE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TreeIdentity:
    """The files of a package.

    Attributes:
        digest: SHA-256 of the canonical list of (path, sha256).
        files: (path with '/', sha256), sorted by path.
        archive: an uncompressed tar of the files with all metadata zeroed; the same files give the same bytes.
    """

    digest: str
    files: tuple[tuple[str, str], ...]
    archive: bytes


@dataclass(frozen=True, slots=True)
class ProjectIdentity:
    """Where the project file comes from.

    Attributes:
        vcs: "git" if the file is tracked and the commit could be read, else "none".
        commit: 40 (or 64) hexadecimal digits, None without git.
        dirty: tracked files of the repository differ from the commit; None without git.
        path: of the file inside the repository, None without git.
        data: the file's bytes, always.
    """

    vcs: str
    commit: str | None
    dirty: bool | None
    path: str | None
    data: bytes


def package_root() -> Path:
    """Folder of the installed `ftplatform` package."""
    return Path(__file__).resolve().parents[1]


def tree_identity(root: Path) -> TreeIdentity:
    """Hash and pack all files below `root`, compiled files and caches left out.

    Raises:
        FtplatformError: if the tree is empty, holds a link that leads out of it, or more than 64 MiB.
    """
    root = root.resolve()
    contents: dict[str, bytes] = {}
    total = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder, name)
            if name.endswith(_SKIPPED_SUFFIXES) or not path.is_file():
                continue
            if not path.resolve().is_relative_to(root):
                raise FtplatformError(
                    f"{path.relative_to(root)} is a link that leads out of {root.name}.", remedy="Replace it by a file."
                )
            total += path.stat().st_size
            if total > _MAX_TREE_BYTES:
                raise FtplatformError(
                    f"{root.name} holds more than {_MAX_TREE_BYTES:,} bytes.", remedy="Keep data out of the package."
                )
            contents[path.relative_to(root).as_posix()] = path.read_bytes()
    if not contents:
        raise FtplatformError(f"{root.name} holds no files.", remedy="Reinstall the package.")
    files = tuple((path, sha256_hex(contents[path])) for path in sorted(contents))
    return TreeIdentity(_digest_of(files), files, _pack(contents))


def unpack_tree(archive: bytes, folder: Path) -> None:
    """Write the files of a `TreeIdentity.archive` below `folder`, refusing anything that is not a plain file inside it."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        tar.extractall(folder, filter="data")


def archive_digest(archive: bytes) -> str:
    """The `TreeIdentity.digest` of the files in an archive.

    Raises:
        FtplatformError: if it is no tar archive of plain files.
    """
    files: list[tuple[str, str]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for entry in tar:
                stream = tar.extractfile(entry)
                if stream is None:
                    raise tarfile.TarError(f"{entry.name} is no plain file")
                files.append((entry.name, sha256_hex(stream.read())))
    except tarfile.TarError as error:
        raise FtplatformError(f"The code archive cannot be read: {error}.", remedy="Restore it from a backup.") from error
    return _digest_of(sorted(files))


def project_identity(file: Path) -> ProjectIdentity:
    """Commit and state of the repository that tracks `file`.

    Without git, outside a repository, for an untracked file, before the first commit, or if git refuses (a repository owned by
    somebody else), the file is its own identity: vcs "none".
    """
    file = file.resolve()
    data = file.read_bytes()
    without = ProjectIdentity("none", None, None, None, data)
    path = _git(file.parent, "ls-files", "--full-name", "--error-unmatch", "--", file.name)
    commit = _git(file.parent, "rev-parse", "--verify", "HEAD^{commit}")
    # Untracked files are left out: results and caches lie about in every working copy, and no import reaches them unless tracked.
    status = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none")
    if path is None or commit is None or status is None:
        return without
    return ProjectIdentity("git", commit.strip(), bool(status.strip()), path.strip(), data)


def _git(folder: Path, *arguments: str) -> str | None:
    """Standard output of git, None if it fails in any way. No shell, and no programs that the repository's configuration names."""
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-C", str(folder), *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _digest_of(files: Sequence[tuple[str, str]]) -> str:
    return sha256_hex(canonical_json([list(pair) for pair in files]))


def _pack(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(contents):
            entry = tarfile.TarInfo(path)
            entry.size = len(contents[path])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(contents[path]))
    return buffer.getvalue()
