"""Canonical bytes and digests: the one place that decides what "the same" means for JSON values.

RFC 8785 (JSON Canonicalization Scheme). It refuses NaN, integers beyond 2^53, non-string keys and lone surrogates, so a
value that cannot be hashed portably fails when it is written, not when somebody verifies it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value (dict with string keys, list, str, int, float, bool, None)."""
    return rfc8785.dumps(value)


def sha256_hex(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of `data` (64 characters)."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical bytes of a JSON value."""
    return sha256_hex(canonical_json(value))
