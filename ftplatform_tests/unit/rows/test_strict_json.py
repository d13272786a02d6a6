"""Strict JSON: agreement with the standard parser on good records, the right reason for each kind of bad one."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.strict_json import parse_record

BAD = [
    (b'{"a": NaN}', Reason.NON_FINITE_NUMBER),
    (b'{"a": [1, -Infinity]}', Reason.NON_FINITE_NUMBER),
    (b'{"a": 1e999}', Reason.NON_FINITE_NUMBER),
    (b'{"a": 1, "a": 2}', Reason.DUPLICATE_KEY),
    (b'{"x": {"k": 1, "k": 1}}', Reason.DUPLICATE_KEY),
    # An escaped colon in a string must not hide the colon that a repeated key takes with it.
    (b'{"a": "\\u003a", "a": "\\u003a"}', Reason.DUPLICATE_KEY),
    (b'{"\\u0061": 1, "a": 2}', Reason.DUPLICATE_KEY),
    (b'{"a": 18446744073709551616}', Reason.NUMBER_OUT_OF_RANGE),
    (b'{"a": -9223372036854775809}', Reason.NUMBER_OUT_OF_RANGE),
    (b'{"a": ' + b"9" * 5_000 + b"}", Reason.NUMBER_OUT_OF_RANGE),
    (b'{"a": "\\ud800"}', Reason.LONE_SURROGATE),
    (b'{"a": "\xff"}', Reason.INVALID_UTF8),
    (b'{"a": "\xed\xa0\x80"}', Reason.INVALID_UTF8),
    (b"[" * 65 + b"]" * 65, Reason.TOO_DEEP),
    (b"[" * 100_000 + b"]" * 100_000, Reason.TOO_DEEP),
    (b'{"a": ' * 500_000, Reason.TOO_DEEP),
    (b"{'a': 1}", Reason.INVALID_JSON),
    (b'{"a": 1', Reason.INVALID_JSON),
    (b'{"a": 1} x', Reason.INVALID_JSON),
    (b"\xef\xbb\xbf{}", Reason.INVALID_JSON),
]


@pytest.mark.parametrize(("raw", "reason"), BAD, ids=[f"{reason}-{number}" for number, (_, reason) in enumerate(BAD)])
def test_refuses(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Malformed) as caught:
        parse_record(raw, 64)
    assert caught.value.reason is reason
    assert len(caught.value.message) < 300


def test_naive_parsers_let_these_through() -> None:
    assert json.loads('{"a": 1, "a": 2}') == {"a": 2}
    assert orjson.loads(b'{"a": 1, "a": 2}') == {"a": 2}
    assert json.loads('{"a": NaN}')["a"] != 1
    assert orjson.loads(b'{"a": 18446744073709551617}')["a"] == 1.8446744073709552e19  # digits lost


@pytest.mark.parametrize(
    "raw",
    [b'{"id": 18446744073709551615, "neg": -9223372036854775808}', b'{"a": "12345678901234567890:\\u003a"}', b"[" * 64 + b"]" * 64],
)
def test_accepts_what_only_looks_suspicious(raw: bytes) -> None:
    assert parse_record(raw, 64) == json.loads(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_agrees_with_the_standard_parser(value: object, ascii_only: bool) -> None:
    try:
        raw = json.dumps(value, ensure_ascii=ascii_only).encode()
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # lone surrogates have their own case above
    assert parse_record(raw, 64) == json.loads(raw)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])), min_size=1
    ),
    st.data(),
)
def test_every_repeated_key_is_found(members: dict[str, str], data: st.DataObject) -> None:
    repeated = data.draw(st.sampled_from(sorted(members)))
    body = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in [*members.items(), (repeated, "again")])
    with pytest.raises(Malformed) as caught:
        parse_record(b"{" + body.encode() + b"}", 64)
    assert caught.value.reason is Reason.DUPLICATE_KEY
