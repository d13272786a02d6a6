"""From the `store` line of the project file to a backend, refusing places that cannot keep the promises."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ftplatform.errors import StoreError
from ftplatform.store import scratch
from ftplatform.store.backend import Backend
from ftplatform.store.local import LocalBackend
from ftplatform.store.memory import MemoryBackend

_MEMORY = re.compile(r"[A-Za-z0-9_./-]*")


def open_backend(url: str, options: Mapping[str, str]) -> Backend:
    """The backend of a URL: a folder (path or ``file://``), ``s3://bucket/prefix``, or ``memory://name``.

    Raises:
        StoreError: for other schemes (through fsspec they offer no compare-and-swap), and for options a place does not have.
    """
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme in {"s3", "s3a"}:
        from ftplatform.store.s3 import open_s3

        return open_s3(url, options)
    if options:
        raise StoreError(
            f"The store {url} takes no options, but got {', '.join(sorted(options))}.", remedy="Remove 'store_options'."
        )
    if scheme == "memory":
        name = url.split("://", 1)[1].strip("/")
        if not _MEMORY.fullmatch(name):
            raise StoreError(f"{url!r} is not a valid memory store.", remedy="Use memory:// and a simple name.")
        return MemoryBackend(name)
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
            raise StoreError(f"{url!r} is not a local folder.", remedy="Use file:///absolute/path.")
        return _local(unquote(parts.path))
    if scheme:
        raise StoreError(
            f"The store {url!r} cannot be used: {scheme}:// offers no atomic compare-and-swap through fsspec, so two runs could"
            " overwrite each other.",
            remedy="Use a folder, or s3://bucket/prefix (S3 or a compatible server with conditional writes).",
        )
    return _local(url)


def default_cache(backend: Backend) -> Path | None:
    """Where verified copies go: inside a folder store, else in the user's cache folder; None for memory stores."""
    if isinstance(backend, LocalBackend):
        return backend.root / "cache"
    if isinstance(backend, MemoryBackend):
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "ftplatform"


def _local(path: str) -> Backend:
    if not path or "\x00" in path:
        raise StoreError(f"{path!r} is not a folder.", remedy="Name the folder of the store.")
    backend = LocalBackend(Path(path).expanduser().absolute())
    backend.sweep(scratch.default_cutoff())
    return backend
