"""Strict JSON of one record: what two parsers could read differently is refused (RFC 7493, I-JSON, and a little more).

orjson parses; the standard library's slower parser is asked only about records that could hold what orjson lets through
(duplicate keys, integers beyond 64 bits) or to name the reason of a refusal.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from ftplatform.rows.quarantine import Malformed, Reason

# 19 digits are the first that can exceed a signed 64-bit integer.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_record(raw: bytes, max_depth: int) -> Any:
    """The value of one JSON text.

    Raises:
        Malformed: invalid UTF-8, not JSON, NaN or Infinity, integers outside 64 bits (they would silently lose digits), duplicate
            keys, nesting beyond `max_depth`, lone surrogates.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _explain(raw, max_depth, str(error)) from None
    if raw.count(b"[") + raw.count(b"{") > max_depth and _depth(value) > max_depth:
        raise Malformed(Reason.TOO_DEEP, f"nested deeper than {max_depth} levels")
    # A repeated key is missing from the parsed value together with its colon. Only an escaped colon in a string could hide that.
    suspicious = raw.count(b":") != orjson.dumps(value).count(b":") or _ESCAPED_COLON.search(raw) or _LONG_NUMBER.search(raw)
    if suspicious:
        _parse_slowly(raw)
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value] if isinstance(value, dict | list) else []
    while level:
        depth += 1
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
    return depth


def _parse_slowly(raw: bytes) -> Any:
    return json.loads(
        raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_int64, parse_float=_finite
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed(Reason.DUPLICATE_KEY, f"key {key[:80]!r} occurs more than once in one object")
            seen.add(key)
    return result


def _refuse_constant(name: str) -> Any:
    raise Malformed(Reason.NON_FINITE_NUMBER, f"{name} is not a JSON number")


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise Malformed(
            Reason.NUMBER_OUT_OF_RANGE, f"the integer {digits[:24]}{'…' if len(digits) > 24 else ''} does not fit 64 bits"
        )
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Malformed(Reason.NON_FINITE_NUMBER, f"the number {text[:24]} is infinite when read")
    return number


def _explain(raw: bytes, max_depth: int, message: str) -> Malformed:
    """The reason why orjson refused, by a second opinion."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Malformed(Reason.INVALID_UTF8, f"byte 0x{raw[error.start]:02x} at offset {error.start} is not valid UTF-8")
    try:
        value = _parse_slowly(raw)
    except Malformed as malformed:
        return malformed
    except RecursionError:
        return Malformed(Reason.TOO_DEEP, f"nested deeper than {max_depth} levels")
    except json.JSONDecodeError as error:
        return Malformed(Reason.INVALID_JSON, f"{error.msg} at character {error.pos}")
    if _depth(value) > max_depth:
        return Malformed(Reason.TOO_DEEP, f"nested deeper than {max_depth} levels")
    if _SURROGATE.search(json.dumps(value, ensure_ascii=False)) or _SURROGATE.search(text):
        return Malformed(Reason.LONE_SURROGATE, "half of a surrogate pair: this text has no UTF-8 form")
    return Malformed(Reason.INVALID_JSON, message[:200])
