"""Records of what people did: created once, named by their hash, never changed, read back verified.

    <folder>/<sha256>.json

A folder may hold further folders; each is read on its own. Documents carry a token, so that two equal acts are two records.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import orjson

from ftplatform.canonical import sha256_hex
from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store.backend import Backend
from ftplatform.store.documents import encode
from ftplatform.store.garbage import names_below
from ftplatform.store.names import asset_name, digest_name

#: A bit flipped on the wire is gone on the next read.
_READS = 3
#: Records are small, so reading many is waiting for answers, not for bytes.
_READERS = 16


def create(backend: Backend, folder: str, document: Mapping[str, Any], what: str) -> str:
    """Write `document`; returns its SHA-256.

    Args:
        folder: such as ``access/vault``, without the closing ``/``.
        what: names the record in errors.

    Raises:
        StoreError: if the folder is no valid name, the document has no JSON form, or the record exists already.
    """
    data = encode(document, what)
    digest = sha256_hex(data)
    key = _key(folder, digest)
    if not backend.put_if_absent(key, data):
        raise StoreError(f"{backend.url}/{key} exists already.", remedy="Record it again.")
    return digest


def read(backend: Backend, folder: str, digest: str) -> dict[str, Any]:
    """The document of a record.

    Raises:
        CorruptArtifact: if it is missing, does not hash to its name, or is no JSON object.
    """
    key = _key(folder, digest_name(digest))
    where = f"{backend.url}/{key}"
    for _ in range(_READS):
        stored = backend.get(key)
        if stored is not None and sha256_hex(stored.data) == digest:
            return _document(stored.data, where)
    raise CorruptArtifact(f"{where} is missing or does not hash to its name.", remedy="Restore it from a backup.")


def read_folder(backend: Backend, folder: str) -> dict[str, dict[str, Any]]:
    """Documents of all records right below a folder, by digest; errors as `read`."""
    digests = sorted(name for name in names_below(backend, f"{folder}/") if "/" not in name)
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(digests, pool.map(lambda digest: read(backend, folder, digest), digests), strict=True))


def utc(moment: datetime | None) -> datetime:
    """`moment`, the present by default, in UTC.

    Raises:
        ValueError: if it has no zone.
    """
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"the time {moment} has no zone")
    return (moment or datetime.now(UTC)).astimezone(UTC)


def time_to_text(moment: datetime) -> str:
    """RFC 3339 in UTC, with microseconds."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def text_to_time(text: str) -> datetime:
    """Inverse of `time_to_text`; ValueError on anything else."""
    return utc(datetime.fromisoformat(text))


def _document(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptArtifact(f"{where} is not valid JSON: {error}.", remedy="Remove it; somebody placed it by hand.") from error
    if not isinstance(document, dict):
        raise CorruptArtifact(f"{where} is no JSON object.", remedy="Remove it; somebody placed it by hand.")
    return document


def _key(folder: str, digest: str) -> str:
    # Checked as one name, so that a listing can always be read again.
    return f"{asset_name(f'{folder}/{digest}')}.json"
