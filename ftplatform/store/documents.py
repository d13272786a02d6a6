"""JSON documents of the store: canonical bytes whose errors name the offending key, and seals for documents that may change.

A blob or manifest is named by its hash, so damage shows. A head is not; therefore it carries the hash of itself (its seal),
and a flipped bit in a response can never turn one snapshot digest into another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, StoreError

#: RFC 8785 (through RFC 7493) has no integers beyond this.
_MAX_INTEGER = 2**53 - 1


def plain(value: Any, what: str, where: str = "") -> Any:
    """`value` as plain JSON types: mappings become dicts, tuples lists, NumPy scalars Python numbers.

    Args:
        what: names the document in errors.
        where: path of `value` inside it.

    Raises:
        StoreError: naming the key, if the value has no portable JSON form (NaN, infinity, integers beyond 2^53, other types).
    """
    place = f"{what}: {where or 'the value'}"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"{place} is not valid Unicode ({error.reason}).", remedy="Replace the lone surrogate.") from error
        return str(value)
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise StoreError(f"{place} is {value}, beyond 2^53.", remedy="Store it as text.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"{place} is {value}, which JSON cannot hold.", remedy="Use None for an undefined number.")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StoreError(f"{place} has the key {key!r}, which is not text.", remedy="Use text keys.")
        return {
            plain(key, what, f"key of {where}"): plain(item, what, f"{where}.{key}" if where else key)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, what, f"{where}[{position}]") for position, item in enumerate(value)]
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        return plain(value.item(), what, where)
    raise StoreError(f"{place} is a {type(value).__name__}, which JSON cannot hold.", remedy="Convert it to plain values first.")


def encode(value: Any, what: str) -> bytes:
    """RFC 8785 bytes of `value` (see `plain` for what is accepted)."""
    return canonical_json(plain(value, what))


def seal(document: Mapping[str, Any], what: str) -> bytes:
    """Canonical bytes of `document` with ``seal``, the SHA-256 of the rest."""
    body = {key: value for key, value in document.items() if key != "seal"}
    return encode({**body, "seal": sha256_hex(encode(body, what))}, what)


def unseal(data: bytes, schema: str, what: str) -> dict[str, Any]:
    """The document of `data`, its seal and schema checked.

    Raises:
        CorruptArtifact: if the bytes are not a sealed document.
        StoreError: if it is intact but of another schema (a newer version of the platform wrote it).
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptArtifact(f"{what} is not valid JSON: {error}.") from error
    if not isinstance(document, dict) or "seal" not in document:
        raise CorruptArtifact(f"{what} carries no seal.")
    sealed = document.pop("seal")
    try:
        expected = sha256_hex(encode(document, what))
    except StoreError as error:
        raise CorruptArtifact(f"{what} does not match its seal ({error.message}).") from error
    if sealed != expected:
        raise CorruptArtifact(f"{what} does not match its seal.")
    if document.get("schema") != schema:
        raise StoreError(
            f"{what} has the schema {document.get('schema')!r}; this version reads {schema!r}.",
            remedy="Use the version of ftplatform that wrote this store.",
        )
    return document
