"""Canonical JSON against the examples of RFC 8785, and what it refuses."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.canonical import canonical_json, digest, sha256_hex

# Portable JSON: numbers within 2^53, no lone surrogates. (A *float* beyond that is written as the integer it is, which a reader
# that tells the two apart, as Python's does, cannot write again.)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
scalar = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2.0**53) + 1, 2.0**53 - 1) | text
value = st.recursive(scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12)


def test_the_example_of_the_rfc():
    # RFC 8785, section 3.2.2 and 3.2.3.
    source = r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(json.loads(source)) == expected.encode("utf-8")


def test_keys_sort_by_utf16_code_units():
    # RFC 8785, section 3.2.3: an emoji (a surrogate pair, from D83D) sorts before U+FB33, unlike in order of code points.
    keys = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "ö": 7}
    ordered = [v for _, v in json.loads(canonical_json(keys), object_pairs_hook=list)]
    assert ordered == [2, 4, 6, 7, 1, 5, 3]
    assert sorted(keys)[-1] == "\U0001f600"  # the naive order differs


# RFC 8785, appendix B: IEEE 754 bits and their text.
@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
    ],
)
def test_numbers_of_appendix_b(bits, expected):
    import struct

    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == expected.encode()


@settings(deadline=None)
@given(value)
def test_it_is_json_of_the_same_value_and_stable(v):
    data = canonical_json(v)
    again = json.loads(data)
    assert again == v
    assert canonical_json(again) == data


@settings(deadline=None)
@given(st.dictionaries(text, scalar, min_size=2, max_size=6))
def test_insertion_order_does_not_matter(mapping):
    assert digest(mapping) == digest(dict(reversed(mapping.items())))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        2**53,
        -(2**53),
        {1: "a"},
        {"a": {None: 1}},
        "\ud800",
        {"\udfff": 1},
        b"x",
        object(),
    ],
)
def test_what_has_no_portable_form_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        canonical_json(value)


def test_digests_are_sha256_of_the_canonical_bytes():
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert digest({"b": 1, "a": [True]}) == hashlib.sha256(b'{"a":[true],"b":1}').hexdigest()
