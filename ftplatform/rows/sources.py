"""Where bytes come from: local files and globs, s3://, https://, hf://. Paths are hostile input until this module has read them.

No shell, no second decoding, no expansion of `~` or variables. What the user wrote literally is opened; what a glob finds must
lie below the folder the glob starts from, links resolved.
"""

from __future__ import annotations

import fnmatch
import hashlib
import ipaddress
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ftplatform.errors import InputDataError

#: Schemes that are read; everything else is refused by name.
REMOTE_SCHEMES = ("s3", "https", "http", "hf")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Encoded dot, slash, backslash, percent and NUL: a later layer would decode them into a path nobody checked.
_ENCODED = re.compile(r"%(?:2e|2f|5c|25|00)", re.IGNORECASE)
_MAGIC = re.compile(r"[*?\[]")
_MAX_LENGTH = 4_096
_MAX_MATCHES = 100_000
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read.

    Attributes:
        uri: the name people see in messages and quarantine: relative as the user wrote it, or the URL.
        protocol: ``file``, ``s3``, ``https``, ``http`` or ``hf``.
        path: what the filesystem opens: an absolute path, or the URL.
        options: options of the filesystem (endpoint, anonymous access). May hold credentials, so it is never shown.
    """

    uri: str
    protocol: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def list_files(uris: Sequence[str], base_dir: Path, options: Mapping[str, Any] | None = None) -> list[SourceFile]:
    """The files `uris` name: in the order given, the matches of a glob sorted, each file once.

    Args:
        uris: local paths (relative ones start at `base_dir`), local or s3 globs (``*``, ``?``, ``[ ]``, ``**``), URLs.
        base_dir: folder of the project file.
        options: filesystem options for remote files, as fsspec takes them.

    Raises:
        InputDataError: unusable path, unsupported scheme, nothing there, or a glob that leads out of its folder through a link.
    """
    files: dict[tuple[str, str], SourceFile] = {}
    for uri in uris:
        scheme = _check(uri)
        found = _local_files(uri, base_dir) if scheme is None else _remote_files(uri, scheme, dict(options or {}))
        for file in found:
            files.setdefault((file.protocol, os.path.realpath(file.path) if file.protocol == "file" else file.path), file)
    return list(files.values())


def _check(uri: str) -> str | None:
    """The scheme of a usable URI, None for a local path."""
    shown = repr(uri[:200])
    if not uri or len(uri) > _MAX_LENGTH:
        raise InputDataError(f"path {shown} is empty or longer than {_MAX_LENGTH} characters.", remedy="Correct the path.")
    if _CONTROL.search(uri):
        raise InputDataError(
            f"path {shown} holds control characters.", remedy="Remove them; rename the file if they are in its name."
        )
    match = _SCHEME.match(uri)
    if match is None:
        return None
    scheme = match.group(1).lower()
    if scheme not in REMOTE_SCHEMES:
        raise InputDataError(
            f"{shown}: scheme {scheme!r} is not supported.",
            remedy="Use a local path, s3://, https:// or hf:// (a local file is written as a path, without file://).",
        )
    rest = uri[match.end() :]
    if "::" in rest or "\\" in rest or "#" in rest or ";" in rest or _ENCODED.search(rest):
        raise InputDataError(
            f"{shown}: '::', backslash, '#', ';' and encoded dots, slashes or percent signs are refused in URLs.",
            remedy="Write the plain address of the file.",
        )
    path = rest.partition("?")[0] if scheme in ("http", "https") else rest
    segments = path.split("/")
    if any(segment in (".", "..") for segment in segments) or "" in segments[1:]:
        raise InputDataError(
            f"{shown}: '.', '..' and empty segments are refused in URLs.", remedy="Write the plain address of the file."
        )
    if "@" in segments[0]:
        raise InputDataError(
            f"URL on host {segments[0].rpartition('@')[2]!r} holds credentials.",
            remedy="Put them into the environment, not into the path.",
        )
    if not segments[0]:
        raise InputDataError(f"{shown}: names no host or bucket.", remedy="Write the plain address of the file.")
    return scheme


# --- local ------------------------------------------------------------------------------------------------------------------
def _local_files(text: str, base_dir: Path) -> list[SourceFile]:
    target = base_dir / text
    if os.path.lexists(target):
        _require_regular(target, text)
        return [SourceFile(os.path.normpath(text), "file", os.path.abspath(target))]
    if not _MAGIC.search(text):
        raise InputDataError(
            f"{text}: no such file.", remedy="Correct the path; relative paths start at the project file's folder."
        )
    parts = Path(text).parts
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    pattern = parts[first:]
    if ".." in pattern:
        raise InputDataError(f"{text}: '..' after a wildcard is refused.", remedy="Write '..' before the first wildcard only.")
    prefix = Path(*parts[:first]) if first else Path()
    root = base_dir / prefix
    found: list[SourceFile] = []
    if root.is_dir():
        for relative in _expand(root, "", pattern, root.resolve(), text):
            found.append(SourceFile(os.path.normpath(prefix / relative), "file", os.path.abspath(root / relative)))
            if len(found) > _MAX_MATCHES:
                raise InputDataError(f"{text}: matches more than {_MAX_MATCHES:,} files.", remedy="Narrow the pattern.")
    if not found:
        raise InputDataError(
            f"{text}: the pattern matches no file.", remedy="Correct it; relative paths start at the project file's folder."
        )
    return sorted(found, key=lambda file: file.uri)


def _expand(root: Path, relative: str, pattern: tuple[str, ...], inside: Path, text: str) -> Iterator[str]:
    """Relative paths of regular files below `root` that match; hidden entries only where the pattern begins with a dot."""
    part, rest = pattern[0], pattern[1:]
    if part == "**":
        yield from _expand(root, relative, rest or ("*",), inside, text)
    with os.scandir(root / relative) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = f"{relative}/{entry.name}" if relative else entry.name
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if part == "**":
            # Linked folders are not descended into: they can form loops.
            if entry.is_dir(follow_symlinks=False):
                yield from _expand(root, path, pattern, inside, text)
            continue
        if not fnmatch.fnmatchcase(entry.name, part):
            continue
        if entry.is_symlink() and not (root / path).resolve().is_relative_to(inside):
            raise InputDataError(
                f"{text}: {path} is a link to a place outside the pattern's folder.",
                remedy="Name the linked file itself if you mean it.",
            )
        if rest:
            if entry.is_dir():
                yield from _expand(root, path, rest, inside, text)
        elif entry.is_file():
            _require_regular(root / path, path)
            yield path


def _require_regular(path: Path, shown: str) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputDataError(
            f"{shown}: cannot be opened ({error.strerror}).", remedy="Correct the path or its permissions."
        ) from error
    if stat.S_ISDIR(mode):
        raise InputDataError(f"{shown}: is a folder.", remedy=f"Name its files, for example {shown.rstrip('/')}/*.jsonl")
    if not stat.S_ISREG(mode):
        raise InputDataError(
            f"{shown}: is not a regular file.", remedy="Devices, pipes and sockets are not read; copy the data to a file."
        )


# --- remote -----------------------------------------------------------------------------------------------------------------
def _remote_files(uri: str, scheme: str, options: dict[str, Any]) -> list[SourceFile]:
    if scheme in ("http", "https"):
        _require_allowed_url(uri)
        if re.search(r"[*\[\]]", uri):
            raise InputDataError(f"{uri}: wildcards do not work over HTTP.", remedy="List the files one by one.")
        return [SourceFile(uri, scheme, uri)]
    with _remote_errors(uri):
        filesystem = _filesystem(scheme, options)
        bare = uri.partition("://")[2]
        if _MAGIC.search(bare):
            matches = sorted(path for path, info in filesystem.glob(bare, detail=True).items() if info["type"] == "file")
            if not matches:
                raise InputDataError(f"{uri}: the pattern matches no object.", remedy="Correct the pattern, bucket or prefix.")
            if len(matches) > _MAX_MATCHES:
                raise InputDataError(f"{uri}: matches more than {_MAX_MATCHES:,} objects.", remedy="Narrow the pattern.")
            return [SourceFile(f"{scheme}://{path}", scheme, f"{scheme}://{path}", options) for path in matches]
        if filesystem.info(bare)["type"] != "file":
            raise InputDataError(f"{uri}: is a folder.", remedy=f"Name its files, for example {uri.rstrip('/')}/*.jsonl")
    return [SourceFile(uri, scheme, uri, options)]


def _require_allowed_url(url: str) -> None:
    """https anywhere; plain http on this machine's loopback only, where nobody can listen in."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if parts.scheme != "http" or not loopback:
        raise InputDataError(
            f"{url[:200]}: refused, data read over an unprotected connection can be changed on its way.", remedy="Use https://."
        )


def _filesystem(protocol: str, options: Mapping[str, Any]) -> Any:
    import fsspec

    if protocol not in ("http", "https"):
        return fsspec.filesystem(protocol, **options)
    import aiohttp

    async def client(**kwargs: Any) -> aiohttp.ClientSession:
        async def check_redirect(_session: Any, _context: Any, params: aiohttp.TraceRequestRedirectParams) -> None:
            target = params.url.join(type(params.url)(params.response.headers.get("Location", "")))
            _require_allowed_url(str(target))

        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(check_redirect)
        kwargs.pop("loop", None)
        # Raw bytes as stored; no total deadline, large files take their time, but a silent server does not.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        return aiohttp.ClientSession(trace_configs=[trace], timeout=timeout, trust_env=True, auto_decompress=False, **kwargs)

    return fsspec.filesystem(protocol, get_client=client, skip_instance_cache=True, headers={"Accept-Encoding": "identity"})


@contextmanager
def open_raw(file: SourceFile) -> Iterator[BinaryIO]:
    """The stored bytes of a file, readable from start to end.

    Raises:
        InputDataError: missing, not readable, or the connection failed, also while reading inside the `with` block.
    """
    with _remote_errors(file.uri):
        if file.protocol == "file":
            # O_NONBLOCK: between listing and opening, a file may have become a pipe, which would block for ever.
            descriptor = os.open(file.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
            with os.fdopen(descriptor, "rb") as stream:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise InputDataError(f"{file.uri}: is not a regular file.", remedy="Copy the data to a file.")
                yield stream
        elif file.protocol in ("http", "https"):
            with _filesystem(file.protocol, file.options).open(file.path, "rb", block_size=0) as stream:
                yield stream
        else:
            filesystem = _filesystem(file.protocol, file.options)
            with filesystem.open(file.path, "rb", block_size=4 * _CHUNK, cache_type="readahead") as stream:
                yield stream


# Libraries whose exceptions mean "the remote side or the way to it failed"; they share no base class.
_REMOTE_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "fsspec", "httpx", "huggingface_hub", "requests", "s3fs"}


@contextmanager
def _remote_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except InputDataError:
        raise
    except FileNotFoundError as error:
        # fsspec reports whatever stopped its first request as "not found"; a refused redirect says so itself.
        if isinstance(error.__cause__, InputDataError):
            raise error.__cause__ from error
        raise InputDataError(f"{uri}: not found.", remedy="Correct the path or URL.") from error
    except PermissionError as error:
        raise InputDataError(
            f"{uri}: access denied.", remedy="Check the permissions or the credentials in the environment."
        ) from error
    except (OSError, TimeoutError) as error:
        raise InputDataError(
            f"{uri}: cannot be read ({_one_line(error)}).", remedy="Check the connection and try again."
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _REMOTE_LIBRARIES:
            raise
        raise InputDataError(
            f"{uri}: cannot be read ({_one_line(error)}).", remedy="Check the address and the credentials."
        ) from error


def _one_line(error: BaseException) -> str:
    from ftplatform.rows.masking import excerpt

    return excerpt(" ".join(f"{type(error).__name__}: {error}".split()), 200)


def content_digest(file: SourceFile) -> str:
    """SHA-256 (hex) of the stored bytes, streamed. Says whether content changed, whatever the modification time says.

    Raises:
        InputDataError: as `open_raw`.
    """
    total = hashlib.sha256()
    with open_raw(file) as stream:
        while data := stream.read(_CHUNK):
            total.update(data)
    return total.hexdigest()
