"""A store in this process's memory, shared by everybody who opens the same ``memory://`` URL. For tests and trials."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ftplatform.canonical import sha256_hex
from ftplatform.errors import StoreError
from ftplatform.store.backend import CHUNK, Entry, Stored

_lock = threading.RLock()
_spaces: dict[str, dict[str, tuple[bytes, float]]] = {}


class MemoryBackend:
    """Objects are bytes in a dictionary; see `Backend` for the contract."""

    def __init__(self, name: str) -> None:
        self._name = name
        with _lock:
            self._objects = _spaces.setdefault(name, {})

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def get(self, key: str) -> Stored | None:
        with _lock:
            found = self._objects.get(key)
        return Stored(found[0], sha256_hex(found[0])) if found else None

    def stat(self, key: str) -> Entry | None:
        with _lock:
            found = self._objects.get(key)
        return Entry(key, len(found[0]), found[1]) if found else None

    def chunks(self, key: str) -> Iterator[bytes]:
        with _lock:
            data = self._objects[key][0]
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    def local_path(self, key: str) -> Path | None:
        return None

    def ensure(self, key: str, source: Path | bytes, sha256: str) -> None:
        data = source if isinstance(source, bytes) else source.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"{source} changed while it was stored.", remedy="Keep the file still and run again.")
        with _lock:
            self._objects[key] = (data, time.time())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.compare_and_swap(key, data, None) is not None

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        with _lock:
            current = self.get(key)
            if (current.etag if current else None) != expected:
                return None
            self._objects[key] = (data, time.time())
        return sha256_hex(data)

    def list(self, prefix: str) -> Iterator[Entry]:
        with _lock:
            found = sorted((key, len(data), modified) for key, (data, modified) in self._objects.items() if key.startswith(prefix))
        return (Entry(*item) for item in found)

    def delete_if_older(self, key: str, cutoff: float) -> bool:
        with _lock:
            found = self._objects.get(key)
            if found is None or found[1] > cutoff:
                return False
            del self._objects[key]
            return True

    def sweep(self, cutoff: float) -> int:
        return 0
