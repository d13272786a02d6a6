"""Declarations: what is understood, and what must stay unknown."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.licensing.expressions import HUB_TAGS, MAX_DEPTH, equivalent, known_license_keys, parse_license


@pytest.mark.parametrize(
    ("declared", "expression"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("MIT AND (Apache-2.0 OR GPL-2.0-only)", "MIT AND (Apache-2.0 OR GPL-2.0-only)"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("odc-by", "ODC-By-1.0"),
        ("ODbL", "ODbL-1.0"),
        ("c-uda", "C-UDA-1.0"),
        ("llama3.1", "LicenseRef-scancode-llama-3.1-license-2024"),
        ("Gemma", "LicenseRef-scancode-gemma-tou-2024-04-01"),
        ("LicenseRef-Proprietary-Own", "LicenseRef-Proprietary-Own"),
        ("DocumentRef-letter:LicenseRef-Vendor-7", "DocumentRef-letter:LicenseRef-Vendor-7"),
        (["mit", "cc-by-4.0"], "MIT AND CC-BY-4.0"),
    ],
)
def test_understood(declared: str | list[str], expression: str) -> None:
    parsed = parse_license(declared)
    assert parsed.expression == expression
    assert parsed.problem is None


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "",
        "  ",
        "other",
        "unknown",
        "openrail",
        "cc",
        "bsd",
        "gpl",
        "gfdl",
        "creativeml-openrail-m",
        "deepfloyd-if-license",
        "llama3",
        "apple-amlr",
        "Apache 2.0",
        "apache license 2.0",
        "the MIT license",
        "MIT OR",
        "MIT WITH Apache-2.0",
        "Classpath-exception-2.0",
        "MIT; see LICENSE",
        "NOASSERTION",
        "NONE",
        ["mit", "other"],
        [],
        "(" * (MAX_DEPTH + 1) + "MIT" + ")" * (MAX_DEPTH + 1),
        "MIT OR " * 400 + "MIT",
        " AND ".join(["MIT", "ISC"] * 40),
        "LicenseRef-",
        "LicenseRef-a b",
        "\x00",
        "MIT\u202eTIM",
    ],
)
def test_stays_unknown_with_a_reason(declared: str | list[str] | None) -> None:
    parsed = parse_license(declared)
    assert parsed.expression is None
    assert parsed.tree is None
    assert parsed.problem


def test_raw_text_is_kept_because_normalizing_changes_meaning() -> None:
    assert parse_license("gpl-3.0").raw == "gpl-3.0"
    assert parse_license(" Apache 2.0 ").raw == " Apache 2.0 "
    assert parse_license(["mit", "other"]).raw == "mit, other"


def test_a_near_miss_is_suggested_not_taken() -> None:
    assert "Apache-2.0" in (parse_license("Apache 2.0").problem or "")


def test_every_hub_tag_points_to_a_license_of_the_index() -> None:
    assert set(HUB_TAGS.values()) <= known_license_keys()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("MIT OR Apache-2.0", "Apache-2.0 OR MIT", True),
        ("MIT AND MIT", "mit", True),
        ("MIT OR (MIT AND GPL-2.0-only)", "MIT", True),
        ("MIT", "Apache-2.0", False),
        ("other", "other", False),
    ],
)
def test_equivalence(first: str, second: str, expected: bool) -> None:
    assert equivalent(parse_license(first), parse_license(second)) is expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_crashes_the_parser_and_the_outcome_is_all_or_nothing(text: str) -> None:
    parsed = parse_license(text)
    assert (parsed.expression is None) == (parsed.tree is None) == (parsed.problem is not None)
    assert parsed.raw == text


def test_all_licenses_of_the_public_index_parse_to_themselves(shared_data: Path) -> None:
    """2,579 entries of the ScanCode index: an SPDX key that license-expression knows must come back unchanged."""
    with gzip.open(shared_data / "licence_index" / "scancode-licensedb-index.json.gz") as file:
        index = json.load(file)
    known = known_license_keys()
    keys = [
        e["spdx_license_key"] for e in index if not e["is_exception"] and not e["is_deprecated"] and e["spdx_license_key"] in known
    ]
    assert len(keys) > 2000
    wrong = [key for key in keys if parse_license(key).expression != key]
    assert wrong == []
