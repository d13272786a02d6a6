"""Reading evidence: identity up to layout, and clauses that contradict a tag."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.evidence import (
    MAX_EVIDENCE_BYTES,
    find_clauses,
    find_statements,
    identify_text,
    missing_evidence,
    normalized_text_digest,
    read_evidence,
)
from ftplatform.licensing.expressions import parse_license

MIT = """\
MIT License

Copyright (c) 2019-2021 Example Authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software, to deal in the software without
restriction. The software is provided "as is", without warranty of any kind.
"""


@pytest.fixture(scope="module")
def license_texts(shared_data: Path) -> dict[str, str]:
    """Full texts of 47 licenses by SPDX id, all of which permit commercial use."""
    texts = {}
    with gzip.open(shared_data / "choosealicense" / "licenses_frontmatter_and_text.jsonl.gz", "rt") as lines:
        for line in lines:
            _, front, body = json.loads(line)["text"].split("---\n", 2)
            texts[yaml.safe_load(front)["spdx-id"]] = body
    assert len(texts) == 47
    return texts


def test_year_and_line_breaks_do_not_count_although_the_bytes_differ() -> None:
    """ADV: a watcher that compares hashes of bytes raises an alarm every January."""
    edited = re.sub(r"(?<=\w) (?=\w+ )", "\n", MIT.replace("2019-2021", "2019-2024").replace("MIT License", "# The *MIT* License"))
    edited = edited.replace("The MIT", "MIT").replace("# The *MIT*", "# *MIT*")
    assert sha256_hex(edited.encode()) != sha256_hex(MIT.encode())  # the naive comparison errs
    assert normalized_text_digest(edited) == normalized_text_digest(MIT)


@pytest.mark.parametrize(
    "notice",
    [
        "Copyright 2024 Example Authors",
        "Copyright (c) 2001, 2003-2005 and 2024 Example Authors",
        "copyright © Example Authors",
        "(C) 2022 Example Authors",
    ],
)
def test_forms_of_the_copyright_notice(notice: str) -> None:
    changed = normalized_text_digest(f"MIT License\n{notice}\nPermission")
    base = normalized_text_digest(f"MIT License\n{re.sub(r'[0-9]+', '1999', notice)}\nPermission")
    assert changed == base


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("without\nrestriction", "for research"),
        ("without warranty", "with warranty"),
        ("Example Authors", "Other Authors"),
        ("free of charge, ", ""),
    ],
)
def test_words_count(before: str, after: str) -> None:
    assert before in MIT
    assert normalized_text_digest(MIT.replace(before, after)) != normalized_text_digest(MIT)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1990, 2039))
def test_any_rewrapping_of_a_real_license_keeps_its_digest(license_texts: dict[str, str], random, year: int) -> None:
    text = license_texts["Apache-2.0"].replace("[yyyy]", "2020")
    words = text.replace("2020", str(year)).split()
    wrapped = "".join(word + random.choice([" ", "\n", "\r\n", "  ", "\t", "\n * ", "\n// "]) for word in words)
    wrapped = wrapped.upper() if random.random() < 0.3 else wrapped
    assert normalized_text_digest(wrapped) == normalized_text_digest(text)


def test_different_licenses_have_different_digests(license_texts: dict[str, str]) -> None:
    assert len({normalized_text_digest(text) for text in license_texts.values()}) == 47


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The data is released for non-commercial use.", "non-commercial"),
        ("For NonCommercial\nresearch purposes.", "non-commercial"),
        ("This dataset may not be used for commercial purposes.", "non-commercial"),
        ("Commercial use is strictly prohibited.".replace("strictly ", ""), "non-commercial"),
        ("No commercial use.", "non-commercial"),
        ("> **Not for commercial use**", "non-commercial"),
        ("non‑commercial license", "non-commercial"),
        ("intended and licensed for research use only", "research only"),
        ("available for academic research only", "research only"),
        ("The model is intended solely for use in research.", "research only"),
        ("Attribution-NoDerivs", "no derivatives"),
        ("You may not distribute modified versions of it.", "no derivatives"),
        ("No derivative works.", "no derivatives"),
        ("You may not use outputs to train other AI models.", "no model training"),
        ("You must not use the service to develop machine learning models.", "no model training"),
    ],
)
def test_restrictions_are_found(text: str, kind: str) -> None:
    assert kind in [clause.kind for clause in find_clauses(f"# Some corpus\n\n{text}\n\nHave fun.")]


@pytest.mark.parametrize(
    "text",
    [
        "Free for commercial and non-commercial use.",
        "You may use it for commercial as well as non-commercial purposes.",
        "Non-commercial or commercial use is welcome.",
        "Use is not limited to research.",
        "We research commercial vehicles.",
        "Our research team released it under Apache-2.0.",
        "The only research we know of is this.",
        "A derivative of this work must carry the notice.",
    ],
)
def test_harmless_sentences(text: str) -> None:
    assert find_clauses(text) == ()


def test_no_false_alarm_on_47_real_license_texts(license_texts: dict[str, str]) -> None:
    """Every one permits commercial use and derivatives, and several use the words (GPL: "only for noncommercial distribution")."""
    naive = {key for key, text in license_texts.items() if re.search(r"non-?commercial|no derivative", text, re.IGNORECASE)}
    assert {"GPL-2.0", "GPL-3.0", "LGPL-2.1"} <= naive  # the obvious search errs
    assert {key: found for key, text in license_texts.items() if (found := find_clauses(text))} == {}


def test_real_license_texts_are_identified_by_their_headings(license_texts: dict[str, str]) -> None:
    found = {key: identify_text(text) for key, text in license_texts.items()}
    wrong = {key: value for key, value in found.items() if value is not None and value != parse_license(key).expression}
    assert wrong == {}
    assert sum(value is not None for value in found.values()) >= 14


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("SPDX-License-Identifier: GPL-3.0-or-later\n", "GPL-3.0-or-later"),
        ("---\nlicense: cc-by-nc-4.0\ntags: [x]\n---\n", "CC-BY-NC-4.0"),
        ('{\n  "license": "Apache-2.0",\n}', "Apache-2.0"),
        ("The data is licensed under CC BY-NC-SA 4.0.", "CC-BY-NC-SA-4.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0", "CC-BY-NC-ND-4.0"),
        ("released under the GPL-2.0-only license", "GPL-2.0-only"),
    ],
)
def test_statements(text: str, statement: str) -> None:
    assert statement in find_statements(text)


def test_empty_huge_and_missing_files_prove_nothing() -> None:
    for data in (b"", b" \n\t"):
        assert read_evidence("LICENSE", data).problem == "is empty"
    assert "bytes" in str(read_evidence("LICENSE", b"a" * (MAX_EVIDENCE_BYTES + 1)).problem)
    assert missing_evidence("LICENSE", "does not exist").problem == "does not exist"


def test_a_large_hostile_file_is_read_in_bounded_time() -> None:
    for seed in (b"copyright,,,,", b"<<<<", b"non-", b"may not ", b"\n***", b"only for ", b"license:", b"commercial and "):
        read_evidence("LICENSE", (seed * 100_000)[:200_000])


def test_a_scanned_letter_is_evidence_by_its_bytes() -> None:
    letter = read_evidence("letter.pdf", b"%PDF-1.7\x00 non-commercial")
    assert letter.text_digest is None
    assert letter.clauses == ()
    assert letter.identity == letter.sha256
