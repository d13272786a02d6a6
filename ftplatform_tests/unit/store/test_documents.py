"""JSON documents: portable values only, and seals that notice every flipped bit."""

from __future__ import annotations

import numpy as np
import pytest

from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store.documents import encode, seal, unseal


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, r"a\.b\[1\]"),
        ({"a": float("inf")}, "a"),
        ({"seed": 2**53}, "seed"),
        ({"a": {1: 2}}, "a"),
        ({"a": [object()]}, r"a\[0\]"),
        ({"text": "\ud800"}, "text"),
        ({"a": {1, 2}}, "a"),
    ],
)
def test_values_without_json_form_are_refused_by_key(value: object, place: str) -> None:
    with pytest.raises(StoreError, match=place):
        encode(value, "Facts of raw/a")


def test_numpy_numbers_and_tuples_become_plain() -> None:
    assert encode({"n": np.int64(3), "x": np.float32(0.5), "t": (1, True, None)}, "x") == b'{"n":3,"t":[1,true,null],"x":0.5}'


def test_key_order_does_not_matter() -> None:
    assert encode({"b": 1, "a": 2}, "x") == encode({"a": 2, "b": 1}, "x")


def test_no_single_flipped_bit_passes_the_seal() -> None:
    document = {"schema": "s/1", "snapshot": "0123456789abcdef" * 4, "generation": 7, "previous": None}
    data = seal(document, "head")
    assert unseal(data, "s/1", "head") == document
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        try:
            survived = unseal(bytes(damaged), "s/1", "head")
        except CorruptArtifact:
            continue
        pytest.fail(f"bit {position} went unnoticed: {survived}")


def test_an_unknown_schema_is_no_corruption() -> None:
    with pytest.raises(StoreError, match="s/2") as caught:
        unseal(seal({"schema": "s/2"}, "head"), "s/1", "head")
    assert not isinstance(caught.value, CorruptArtifact)
