"""Manifests: the same build gives the same bytes, and nothing malformed gets in or out."""

from __future__ import annotations

import orjson
import pytest

from ftplatform.canonical import canonical_json
from ftplatform.errors import StoreError
from ftplatform.store.manifests import FileEntry, InputRef, build, parse

A, B = "a" * 64, "b" * 64
FILES = [FileEntry("x/rows.parquet", A, 10, 3), FileEntry("notes.txt", B, 0)]
INPUTS = [InputRef("rows", "raw/b", B), InputRef("rows", "raw/a", A), InputRef("base", "base_models/m", A)]


def make(**changes) -> bytes:
    fields = {
        "files": FILES,
        "inputs": INPUTS,
        "code_version": "1",
        "config_hash": "c",
        "environment": "e",
        "facts": {"n": 1},
    } | changes
    return build("splits/a", **fields)


def test_order_of_files_inputs_and_facts_does_not_matter() -> None:
    assert make(facts={"a": 1, "b": 2}) == make(files=FILES[::-1], inputs=INPUTS[::-1], facts={"b": 2, "a": 1})


def test_bytes_are_canonical_and_hold_exactly_the_documented_keys() -> None:
    document = orjson.loads(make())
    assert make() == canonical_json(document)
    assert set(document) == {"schema", "asset", "files", "inputs", "code_version", "config_hash", "environment", "facts"}
    assert document["files"] == [
        {"path": "notes.txt", "sha256": B, "size": 0},
        {"path": "x/rows.parquet", "rows": 3, "sha256": A, "size": 10},
    ]


def test_round_trip() -> None:
    manifest = parse(make(), "m")
    assert manifest.files == (FILES[1], FILES[0])
    assert manifest.inputs == tuple(sorted(INPUTS))
    assert manifest.facts == {"n": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"code_version": "2"},
        {"config_hash": "d"},
        {"environment": "f"},
        {"facts": {"n": 2}},
        {"inputs": INPUTS[1:]},
        {"inputs": [InputRef("eval", "raw/b", B), *INPUTS[1:]]},
        {"files": FILES[1:]},
        {"files": [FileEntry("x/rows.parquet", B, 10, 3), FILES[1]]},
        {"files": [FileEntry("x/rows.parquet", A, 10, 4), FILES[1]]},
    ],
)
def test_every_field_is_part_of_the_name(changes: dict) -> None:
    assert parse(make(**changes), "m").digest != parse(make(), "m").digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": [*FILES, FileEntry("notes.txt", A, 1)]}, "two files named 'notes.txt'"),
        ({"files": [*FILES, FileEntry("x", A, 1)]}, "'x' both as a file and as a folder"),
        ({"files": [FileEntry("../x", A, 1)]}, "not a valid file path"),
        ({"inputs": [INPUTS[0], INPUTS[0]]}, "input twice"),
        ({"facts": {"loss": float("nan")}}, "facts.loss is nan"),
        ({"environment": 3}, "3 is not text"),
    ],
)
def test_malformed_manifests_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        make(**changes)


def test_foreign_documents_are_refused() -> None:
    for data in (
        b"",
        b"[]",
        b'{"schema":"other/1"}',
        b'{"schema":"ftplatform.manifest/1"}',
        make().replace(b'"size":10', b'"size":-1'),
    ):
        with pytest.raises(StoreError):
            parse(data, "m")
