"""The license files of a git repository, at its tip, without a checkout.

A repository is hostile input: nothing of it is executed. There is no working tree (so no filters, no attributes), no hooks, no
submodules, no configuration but ours, one protocol, and limits on time and size. Addresses are checked as for HTTP, and curl is told
to connect to the checked one.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from ftplatform.errors import InputDataError
from ftplatform.licensing.evidence import MAX_EVIDENCE_BYTES
from ftplatform.licensing.policy import Policy, default_policy
from ftplatform.licensing.states import to_text, to_time
from ftplatform.licensing.watchers.addresses import Target, check_url, parse_url
from ftplatform.licensing.watchers.fetch import FetchFailed
from ftplatform.licensing.watchers.license_files import LicenseFile, is_license_file, look_at_files, read_license_file
from ftplatform.licensing.watchers.look import Archive, Cursor, Look, no_archive

MAX_FILES = 64
# `ulimit -f` counts 512-byte blocks (POSIX; bash counts 1,024): no file git writes gets larger than 256 MiB (512 MiB).
_MAX_BLOCKS = 512 * 1024
_REF = re.compile(r"HEAD|refs/(?:heads|tags)/[A-Za-z0-9_][A-Za-z0-9._/+-]{0,200}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitWatcher:
    """Watches one branch of one repository.

    Args:
        source: name of the source in the project.
        repository: https URL, or path of a repository on this machine.
        ref: ``HEAD``, ``refs/heads/...`` or ``refs/tags/...``.
        folders: folders whose files count; the root only by default.
        policy: decides which of two statements is stricter.
        allow: trusted ``host:port`` pairs, as for `fetch.HttpFetcher`; also permits http.
        timeout: seconds for each git command.

    Raises:
        InputDataError: for an unusable ref or repository.
    """

    def __init__(
        self,
        source: str,
        repository: str | Path,
        *,
        ref: str = "HEAD",
        folders: Sequence[str] = ("",),
        policy: Policy | None = None,
        allow: Collection[str] = (),
        timeout: float = 60.0,
    ) -> None:
        if not _REF.fullmatch(ref) or ".." in ref or ref.endswith((".lock", "/", ".")):
            raise InputDataError(f"{ref[:100]!r} is no ref.", remedy="Write HEAD, refs/heads/NAME or refs/tags/NAME.")
        self.source = source
        self.ref = ref
        self.folders = tuple(f"{folder.strip('/')}/" if folder.strip("/") else "" for folder in folders)
        self.policy = policy or default_policy()
        self.allow = frozenset(allow)
        self.timeout = timeout
        self.is_local = isinstance(repository, Path) or "://" not in repository
        if self.is_local:
            place = Path(repository).resolve()
            if not place.is_dir():
                raise InputDataError(f"{repository}: no such repository.", remedy="Correct the path.")
            self.url, self._shown = place.as_uri(), str(repository)
        else:
            self.url = self._shown = str(repository)
            target = parse_url(self.url, allow=self.allow)
            if target.scheme == "http" and target.host_and_port not in self.allow:
                raise InputDataError(
                    f"The repository of {source} is not at an https address.", remedy="Give an https URL or a path."
                )

    def look(self, cursor: Cursor | None, now: datetime, archive: Archive = no_archive, *, concluded: bool = False) -> Look:
        """Ask for the tip; if it moved, fetch its license files and judge them (see `license_files.look_at_files`).

        Raises:
            UnsafeAddress: if the URL leads into a private network.
        """
        cursor = cursor or {}
        try:
            target = None if self.is_local else check_url(self.url, allow=self.allow)
            with tempfile.TemporaryDirectory(prefix="ftplatform-git-") as folder:
                git = _Git(Path(folder), target, self.timeout)
                listed = git.run("ls-remote", "--", self.url, self.ref).decode("ascii", "replace")
                tips = [line.split("\t") for line in listed.splitlines()]
                tip = next((parts[0] for parts in tips if len(parts) == 2 and parts[1] == self.ref), None)
                if tip is None or not _COMMIT.fullmatch(tip):
                    return self._failed(cursor, f"{self._shown} has no {self.ref}")
                if tip == cursor.get("revision"):
                    return Look(source=self.source, cursor={**cursor, "looked": to_text(now)}, looked=True)
                revision, changed_at, files, problem = self._read(git)
        except (FetchFailed, ConnectionError) as error:
            return self._failed(cursor, f"transient: {error}")
        earliest = to_time(cursor["looked"]) if "looked" in cursor else None
        # The committer's clock is a claim; it counts only between the two looks.
        known = changed_at if earliest is not None and changed_at is not None and earliest <= changed_at <= now else None
        return look_at_files(
            self.source,
            files,
            cursor,
            now,
            watcher="git",
            policy=self.policy,
            archive=archive,
            concluded=concluded,
            revision=revision,
            changed_at=known,
            problem=problem,
        )

    def _read(self, git: _Git) -> tuple[str, datetime | None, list[LicenseFile], str | None]:
        """Commit, its time, its license files, and what could not be read."""
        git.run("init", "--bare", "--quiet", ".")
        git.run("remote", "add", "origin", self.url)
        git.run("fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "--no-recurse-submodules", "origin", self.ref)
        shown = git.run("log", "-1", "--format=%H %cI", "FETCH_HEAD").decode("ascii", "replace").split()
        revision = shown[0]
        entries: list[tuple[str, str]] = []
        for folder in self.folders:
            for entry in git.run("ls-tree", "-z", revision, *(["--", folder] if folder else [])).split(b"\0"):
                described, _, raw = entry.partition(b"\t")
                mode, _, rest = described.partition(b" ")
                path = raw.decode("utf-8", "replace")
                if mode in (b"100644", b"100755") and path.isprintable() and is_license_file(path.removeprefix(folder)):
                    entries.append((path, rest.split(b" ")[1].decode("ascii")))
        problem = f"{len(entries)} license files; only the first {MAX_FILES} were read" if len(entries) > MAX_FILES else None
        files = []
        for path, blob in sorted(entries)[:MAX_FILES]:
            if (size := int(git.run("cat-file", "-s", blob))) > MAX_EVIDENCE_BYTES:
                raise FetchFailed(f"{path} has {size:,} bytes, too many for terms.", remedy="Look at it yourself.")
            files.append(read_license_file(path, git.run("cat-file", "blob", blob)))
        return revision, to_time(shown[1]) if len(shown) > 1 else None, files, problem

    def _failed(self, cursor: Cursor, problem: str) -> Look:
        return Look(source=self.source, cursor=cursor, looked=False, problem=problem)


class _Git:
    """Runs git in one empty folder with nothing from outside."""

    def __init__(self, folder: Path, target: Target | None, timeout: float) -> None:
        self.folder = folder
        self.timeout = timeout
        settings = {
            "core.hooksPath": os.devnull,
            "core.fsmonitor": "false",
            "credential.helper": "",
            "fetch.recurseSubmodules": "false",
            "gc.auto": "0",
            "http.followRedirects": "false",
            "protocol.allow": "never",
            f"protocol.{'file' if target is None else target.scheme}.allow": "always",
        }
        if target is not None and target.addresses:
            settings["http.curloptResolve"] = f"{target.host}:{target.port}:{','.join(target.addresses)}"
        self.options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": "file" if target is None else target.scheme,
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

    def run(self, *arguments: str) -> bytes:
        """Standard output of one command.

        Raises:
            FetchFailed: if it fails or takes too long.
        """
        # The shell only sets the limit; every argument reaches git as it is.
        limited = ["/bin/sh", "-c", f'ulimit -f {_MAX_BLOCKS} && exec git "$@"', "git", *self.options, *arguments]
        try:
            done = subprocess.run(
                limited, cwd=self.folder, env=self.environment, capture_output=True, timeout=self.timeout, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise FetchFailed(f"git {arguments[0]} took longer than {self.timeout:.0f} s.", remedy="Try again.") from error
        if done.returncode != 0:
            reason = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
            raise FetchFailed(f"git {arguments[0]} failed: {reason}.", remedy="Check that the repository is there and readable.")
        return done.stdout
