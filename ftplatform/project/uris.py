"""The URI guard: the one place where text that names a file becomes something that may be opened.

A URI in a project file, a ledger or a manifest is treated as hostile. It is validated once, into a typed value, and never
decoded again: most bypasses of path filters work by a second decoding, or by two parsers that disagree about `#`, `;`, `\\`,
`//` and `%2e`. So every character on which parsers disagree is refused, also where one scheme could tolerate it.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ftplatform.errors import ProjectError
from ftplatform.project.credentials import credential_in, shown

Scheme = Literal["file", "s3", "hf", "https", "http"]

MAX_LENGTH = 2048
SOURCE_SCHEMES: tuple[str, ...] = ("file", "s3", "hf", "https", "http")
STORE_SCHEMES: tuple[str, ...] = ("file", "s3")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_GLOB = frozenset("*?[")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
#: Decoded, these would change which file is meant: controls, `# % . / : ; ? @ \` and DEL.
_ENCODED_REFUSED = frozenset({*range(0x20), *b"#%./:;?@\\", 0x7F})
_STRUCTURAL = frozenset("#%./:;?@\\")
# Amazon S3 user guide, "General purpose bucket naming rules".
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_IPV6_HOST = re.compile(r"^https?://\[[0-9A-Fa-f:.]+\]")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HUB_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_HUB_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,99}")


class UnsafeUri(ProjectError):
    """Text that does not name a file in a way every parser agrees on."""


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A validated URI.

    Attributes:
        text: what was written.
        scheme: `file` for local paths, else the URL's scheme.
        host: bucket of `s3`, host (and port) of `https`; empty for `file` and `hf`.
        path: local path as written, or the part behind the host without leading slash and query.
        query: query of `https`; empty else.
    """

    text: str
    scheme: Scheme
    host: str
    path: str
    query: str = ""

    @property
    def is_local(self) -> bool:
        return self.scheme == "file"

    @property
    def is_glob(self) -> bool:
        """Whether the path is a pattern (`*`, `?`, `[`) to be expanded."""
        return self.scheme in ("file", "s3", "hf") and not _GLOB.isdisjoint(self.path)

    def local(self, root: Path) -> Path:
        """The local path, relative ones below `root`. Symlinks are not followed here.

        Raises:
            ValueError: for a remote URI.
        """
        if not self.is_local:
            raise ValueError(f"{self.text} is not a local path")
        return root / self.path

    def resolved(self, root: Path) -> str:
        """What to open: an absolute local path, or the URL as written."""
        return str(self.local(root)) if self.is_local else self.text


def parse_source_uri(
    text: str, *, schemes: Collection[str] = SOURCE_SCHEMES, within: Sequence[Path] | None = None, root: Path | None = None
) -> SourceUri:
    """Validate a URI.

    Args:
        text: a local path (used literally, nothing in it is decoded), ``file:///absolute/path``, ``s3://bucket/key``,
            ``hf://datasets/org/name[@revision]/file``, ``https://host/path[?query]``; ``http://`` only for this machine.
        schemes: schemes that are accepted.
        within: if given, a local path must lie below one of these folders after symlinks were followed. For URIs from strangers
            (ledgers, manifests, catalogs); the owner of a project file may point anywhere on their own disk.
        root: folder that relative paths start from when `within` is checked; the working directory by default.

    Raises:
        UnsafeUri: whatever else the text is; no other exception escapes, whatever the text.
    """
    _check_characters(text)
    found = _SCHEME.match(text)
    if found is None:
        uri = _local(text, text)
    elif len(found[1]) == 1:
        raise UnsafeUri(f"{shown(text)} starts with a Windows drive letter.", remedy="Give a path relative to the project file.")
    else:
        uri = _remote(text, found[1])
    if uri.scheme not in schemes:
        raise UnsafeUri(f"{shown(text)}: the scheme {uri.scheme!r} is not accepted here.", remedy=f"Use one of {_listed(schemes)}.")
    if within is not None and uri.is_local:
        _check_inside(uri, within, root or Path.cwd())
    return uri


def parse_store_uri(text: str) -> SourceUri:
    """Validate the place of a store: a local folder or ``s3://bucket/prefix``, no pattern.

    Raises:
        UnsafeUri: on anything else.
    """
    uri = parse_source_uri(text, schemes=STORE_SCHEMES)
    if not _GLOB.isdisjoint(uri.path):
        raise UnsafeUri(f"{shown(text)} holds one of * ? [, so it would be read as a pattern.", remedy="Rename the folder.")
    return uri


def _check_characters(text: str) -> None:
    if not text or text.isspace():
        raise UnsafeUri("The path is empty.", remedy="Give a file, a pattern or a URL.")
    if len(text) > MAX_LENGTH:
        raise UnsafeUri(f"The path has {len(text):,} characters, {MAX_LENGTH:,} are accepted.", remedy="Use a shorter one.")
    for character in text:
        # `isprintable` is false for controls, line separators, bidirectional overrides, lone surrogates and unassigned characters.
        if not character.isprintable():
            raise UnsafeUri(f"{shown(text)} holds the invisible character U+{ord(character):04X}.", remedy="Remove it.")
    if text != text.strip():
        raise UnsafeUri(f"{shown(text)} starts or ends with a space.", remedy="Remove it.")
    for character, why in (
        ("\\", "a backslash, which is a separator for some programs and a character for others"),
        ("#", "'#', which cuts off the rest of a URL"),
        (";", "';', which separates parameters in a URL"),
        ("${", "'${'; environment variables are not substituted"),
    ):
        if character in text:
            raise UnsafeUri(f"{shown(text)} holds {why}.", remedy="Write the path without it; rename the file if need be.")
    if "::" in _IPV6_HOST.sub("", text):
        raise UnsafeUri(f"{shown(text)} holds '::', which chains file systems.", remedy="Unpack the file first.")
    for escape in _ENCODED.finditer(text):
        if int(escape[1], 16) in _ENCODED_REFUSED:
            raise UnsafeUri(f"{shown(text)} holds the percent-encoded character {escape[0]}.", remedy="Write the path without it.")


def _local(text: str, path: str) -> SourceUri:
    if path.startswith("//"):
        raise UnsafeUri(f"{shown(text)} starts with '//', which is a host for some programs.", remedy="Use a single '/'.")
    if path.startswith(("~", "$")):
        raise UnsafeUri(f"{shown(text)}: {path[0]!r} is not expanded.", remedy="Give a path relative to the project file.")
    if re.match(r"[A-Za-z]\|", path):
        raise UnsafeUri(f"{shown(text)} starts with a Windows drive letter.", remedy="Give a path relative to the project file.")
    return SourceUri(text, "file", "", path)


def _remote(text: str, scheme: str) -> SourceUri:
    if scheme not in SOURCE_SCHEMES:
        raise UnsafeUri(
            f"{shown(text)}: unknown scheme {shown(scheme, 20)}.", remedy=f"Use a local path or one of {_listed(SOURCE_SCHEMES)}."
        )
    if not text.startswith(f"{scheme}://"):
        raise UnsafeUri(f"{shown(text)}: '://' must follow the scheme.", remedy=f"Write {scheme}://...")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UnsafeUri(f"{shown(text)} is not a URL: {error}.", remedy="Correct it.") from None
    if kind := credential_in(text):
        raise UnsafeUri(f"The URL holds {kind}.", remedy="Credentials belong into the environment, not into a file.")
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise UnsafeUri(f"{shown(text)} holds a '%' that encodes nothing.", remedy="Write '%' only before two hexadecimal digits.")
    for character in text:
        # Full-width dots and slashes become ASCII ones wherever a name is normalized.
        if not character.isascii() and not _STRUCTURAL.isdisjoint(unicodedata.normalize("NFKC", character)):
            raise UnsafeUri(f"{shown(text)} holds {character!r}, a look-alike of a separator.", remedy="Write the path without it.")
    if "@" in parts.netloc:
        raise UnsafeUri(f"{shown(text)} holds a user name.", remedy="Credentials belong into the environment, not into a file.")
    authority, _, path = text[len(scheme) + 3 :].partition("/")
    # Only https has a query; a '?' in an object's key is a pattern and must not hide segments behind it.
    segments = (parts.path[1:] if scheme in ("https", "http") else path).split("/")
    if any(segment in (".", "..") for segment in segments):
        raise UnsafeUri(f"{shown(text)} holds a '.' or '..' segment.", remedy="Write the path out.")
    if any(segment == "" for segment in segments[:-1]):
        raise UnsafeUri(f"{shown(text)} holds '//' in its path.", remedy="Use a single '/'.")
    if scheme == "file":
        if parts.netloc:
            raise UnsafeUri(f"{shown(text)} names a host.", remedy="Write file:///absolute/path, or a plain path.")
        if "%" in parts.path or parts.query or "?" in text:
            raise UnsafeUri(f"{shown(text)}: a file URL may hold neither '%' nor '?'.", remedy="Write a plain path.")
        return _local(text, parts.path)
    if scheme == "s3":
        if not _BUCKET.fullmatch(authority):
            raise UnsafeUri(f"{shown(text)}: {shown(authority)} is not a bucket name.", remedy="Write s3://bucket/prefix.")
        return SourceUri(text, "s3", authority, path)
    if scheme == "hf":
        return _hub(text)
    _check_host(text, scheme, host, bracketed="[" in parts.netloc)
    if parts.netloc.endswith(":"):
        raise UnsafeUri(f"{shown(text)}: the port is missing.", remedy="Write it, or leave out the ':'.")
    name = f"[{host}]" if ":" in host else host
    address = name if port is None else f"{name}:{port}"
    return SourceUri(text, "https" if scheme == "https" else "http", address, parts.path[1:], parts.query)


def _hub(text: str) -> SourceUri:
    path = text[len("hf://") :]
    parts = path.split("/")
    if parts[0] in ("datasets", "models", "spaces"):
        parts = parts[1:]
    name, at, revision = parts[1].partition("@") if len(parts) > 1 else ("", "", "")
    if len(parts) < 3 or not _HUB_PART.fullmatch(parts[0]) or not _HUB_PART.fullmatch(name):
        raise UnsafeUri(f"{shown(text)} is not a file on the hub.", remedy="Write hf://datasets/org/name@commit/file.")
    if at and not _HUB_REVISION.fullmatch(revision):
        raise UnsafeUri(f"{shown(text)}: {shown(revision)} is not a revision.", remedy="Write hf://datasets/org/name@commit/file.")
    return SourceUri(text, "hf", "", path)


def _check_host(text: str, scheme: str, host: str, *, bracketed: bool) -> None:
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise UnsafeUri(f"{shown(text)}: {shown(host)} is not an address.", remedy="Correct it.") from None
    elif not _HOST.fullmatch(host):
        raise UnsafeUri(f"{shown(text)}: {shown(host)} is not a host name.", remedy="Write https://host/path.")
    if scheme == "http" and host not in _LOOPBACK:
        raise UnsafeUri(
            f"{shown(text)}: http can be changed on its way.",
            remedy="Use https; http is accepted for localhost and 127.0.0.1 only.",
        )


def _check_inside(uri: SourceUri, within: Sequence[Path], root: Path) -> None:
    try:
        place = uri.local(root).resolve()
        inside = any(place.is_relative_to(folder.resolve()) for folder in within)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnsafeUri(f"{shown(uri.text)} cannot be resolved: {error}.", remedy="Correct it.") from None
    if not inside:
        raise UnsafeUri(f"{shown(uri.text)} leads outside the accepted folders.", remedy="Keep the file inside the project.")


def _listed(schemes: Collection[str]) -> str:
    return ", ".join(f"{scheme}://" for scheme in schemes)
