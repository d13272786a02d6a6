"""Which packages were installed, and which of them a version number does not pin.

A distribution from an index is pinned by its name and version. One installed from a folder, a repository or a URL is not: PEP 610's
direct_url.json says so, and it is recorded as it is instead of being passed off as a version.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata


@dataclass(frozen=True, slots=True)
class DirectInstall:
    """A distribution that did not come from an index.

    Attributes:
        kind: "editable" (a working folder), "folder" (a copy of one), "vcs", or "archive" (a file by URL).
        pin: what fixes its content: the commit of a "vcs" install, "sha256=..." of an archive; None if nothing does.
    """

    name: str
    kind: str
    pin: str | None


@dataclass(frozen=True, slots=True)
class Packages:
    """Installed distributions.

    Attributes:
        versions: version by normalized name (PEP 503), sorted.
        direct: those that did not come from an index, sorted by name.
    """

    python: str
    implementation: str
    versions: Mapping[str, str]
    direct: tuple[DirectInstall, ...] = field(default=())

    @property
    def lock(self) -> bytes:
        """``name==version`` lines, sorted: the lock in its plainest form."""
        return "".join(f"{name}=={version}\n" for name, version in sorted(self.versions.items())).encode()


def installed_packages() -> Packages:
    """What is installed in this environment. Of a distribution found twice on the path, the one Python would import counts."""
    versions: dict[str, str] = {}
    direct: dict[str, DirectInstall] = {}
    for distribution in metadata.distributions():
        # A half-removed distribution leaves a folder without metadata; it cannot be imported by name and pins nothing.
        raw = distribution.metadata["Name"] if distribution.metadata is not None else None
        if raw is None or (name := normalized_name(raw)) in versions:
            continue
        versions[name] = distribution.version
        url = distribution.read_text("direct_url.json")
        if url is not None:
            direct[name] = _direct(name, url)
    return Packages(
        python=platform.python_version(),
        implementation=sys.implementation.name,
        versions=dict(sorted(versions.items())),
        direct=tuple(direct[name] for name in sorted(direct)),
    )


def normalized_name(name: str) -> str:
    """PEP 503: lower case, runs of ``-``, ``_`` and ``.`` become one ``-``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _direct(name: str, text: str) -> DirectInstall:
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        return DirectInstall(name, "archive", None)
    if "vcs_info" in record:
        return DirectInstall(name, "vcs", record["vcs_info"].get("commit_id"))
    if "archive_info" in record:
        hashes = record["archive_info"].get("hashes") or {}
        return DirectInstall(name, "archive", f"sha256={hashes['sha256']}" if "sha256" in hashes else None)
    return DirectInstall(name, "editable" if record.get("dir_info", {}).get("editable") else "folder", None)
