"""Names cannot leave the store."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import StoreError
from ftplatform.store import names

ESCAPES = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "/etc/passwd",
    "a//b",
    "a/",
    "/a",
    "a\\b",
    "..\\x",
    "C:/x",
    "a\x00b",
    "a\nb",
    "%2e%2e/x%00\x7f",
    "a/./b",
    "\ud800",
    "x" * 300,
    "a/\u2028b",
]


@pytest.mark.parametrize(
    "name", [*ESCAPES, "Splits/a", "a.b", "a b", "ä", "a%2fb", "~", "a/b/c/d/e/f/g/h/i", "heads/../../x", "a;b", "a#b"]
)
def test_bad_asset_names_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="not a valid asset name"):
        names.head_key(name)


@pytest.mark.parametrize("name", ESCAPES)
def test_bad_file_paths_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="not a valid file path"):
        names.file_path(name)


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_bad_digests_are_refused(digest: str) -> None:
    with pytest.raises(StoreError, match="not a snapshot digest"):
        names.blob_key(digest)


def test_trailing_newline_is_not_overlooked() -> None:
    # `$` in a regular expression also matches before a final newline.
    for check in (names.asset_name, names.check_name):
        with pytest.raises(StoreError):
            check("splits\n")


def test_ordinary_names_are_accepted() -> None:
    assert names.head_key("splits/support-v2") == "heads/splits/support-v2.json"
    assert names.evaluation_key("raw/a", "slice_survival") == "evaluations/raw/a/slice_survival.json"
    assert names.file_path("Modell (neu)/adapter_model.safetensors") == "Modell (neu)/adapter_model.safetensors"
    assert names.blob_key("ab" + "0" * 62) == f"blobs/sha256/ab/ab{'0' * 62}"


@given(st.text(max_size=40) | st.from_regex(re.compile(r"[./\\a-z0-9~%-]{0,30}"), fullmatch=True))
def test_whatever_is_accepted_stays_below_the_root(text: str) -> None:
    root = Path("/store/root")
    for make in (names.head_key, names.file_path, lambda name: names.evaluation_key("a", name)):
        try:
            key = make(text)
        except StoreError:
            continue
        resolved = Path(root, *key.split("/")).resolve()
        assert resolved.is_relative_to(root)
        assert str(PurePosixPath(key)) == key
