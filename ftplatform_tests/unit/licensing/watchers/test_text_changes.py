"""Comparison of license texts, on 47 real ones."""

from __future__ import annotations

import gzip
import json
import random
import re
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.evidence import normalized_text_digest
from ftplatform.licensing.text_changes import compare_texts

_YEAR = re.compile(r"\[year\]|\[yyyy\]|<year>", re.IGNORECASE)


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> dict[str, str]:
    """Full texts of 47 licenses by SPDX id, with 2019 where a year belongs."""
    found = {}
    with gzip.open(shared_data / "choosealicense" / "licenses_frontmatter_and_text.jsonl.gz", "rt") as lines:
        for line in lines:
            _, front, body = json.loads(line)["text"].split("---\n", 2)
            found[yaml.safe_load(front)["spdx-id"]] = _YEAR.sub("2019", body)
    assert len(found) == 47
    return found


def _relaid(text: str) -> str:
    """Re-wrapped at 60 columns, headings in capitals, another year."""
    paragraphs = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        words = " ".join(paragraph.split())
        words = words.upper() if len(words) < 60 else words
        paragraphs.append("\n".join(textwrap.wrap(words, 60, break_long_words=False, break_on_hyphens=False)))
    return re.sub(r"(?i)(copyright (?:\(c\) )?)2019", r"\g<1>2031", "\n\n".join(paragraphs))


def test_layout_and_year_are_no_change_for_any_license(texts: dict[str, str]) -> None:
    """ADV: a comparison of SHA-256 raises an alarm for every one of them."""
    assert all(sha256_hex(_relaid(text).encode()) != sha256_hex(text.encode()) for text in texts.values())
    assert [name for name, text in texts.items() if not compare_texts(text, _relaid(text)).same_words] == []
    assert sum("2031" in _relaid(text) for text in texts.values()) >= 15, "the years really were changed"


def test_one_deleted_not_is_one_marked_change_in_every_license(texts: dict[str, str]) -> None:
    # Not the one in an address between angle brackets, which is markup.
    nots = {name: list(re.finditer(r"(?<![-\w])not(?![-\w]) ?", text, re.IGNORECASE)) for name, text in texts.items()}
    holding = {name: found for name, found in nots.items() if found}
    assert len(holding) >= 40
    for name, found in holding.items():
        text = texts[name]
        for match in random.Random(name).sample(found, min(3, len(found))):
            result = compare_texts(text, text[: match.start()] + text[match.end() :])
            assert not result.same_words, name
            assert len(result.changes) == 1, name
            assert re.search(r"\[-\W*not\W*-\]", result.changes[0].marked, re.IGNORECASE), (name, result.changes[0].marked)
            assert 0.85 < result.similarity < 1, name


def test_every_deleted_not_is_found(texts: dict[str, str]) -> None:
    checked = 0
    for text in texts.values():
        digest = normalized_text_digest(text)
        for match in re.finditer(r"(?<![-\w])not(?![-\w]) ?", text, re.IGNORECASE):
            checked += 1
            assert normalized_text_digest(text[: match.start()] + text[match.end() :]) != digest
    assert checked > 500


def test_different_licenses_differ_pairwise(texts: dict[str, str]) -> None:
    names = sorted(texts)
    assert not any(
        compare_texts(texts[a], texts[b]).same_words
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if len(texts[a] + texts[b]) < 9000
    )
    assert len({normalized_text_digest(text) for text in texts.values()}) == 47


def test_restrictions_that_appear_and_vanish_are_named() -> None:
    free = "1. You may use the data. 2. Give credit.\n\n3. No warranty."
    bound = "1. You may use the data for research purposes only. 2. Give credit.\n\n3. No warranty.\n\n4. Pay us."
    result = compare_texts(free, bound)
    assert [c.kind for c in result.appeared] == ["research only"]
    assert result.vanished == ()
    assert [c.kind for c in result.changes] == ["changed", "added"]
    assert "{+for research purposes only.+}" in result.changes[0].marked
    assert result.changes[1].marked == "{+4. Pay us.+}"
    assert result.changes[0].restrictions == ("research only",)
    back = compare_texts(bound, free)
    assert [c.kind for c in back.vanished] == ["research only"]
    assert [c.kind for c in back.changes] == ["changed", "removed"]


def test_restricting_changes_come_first_in_the_record() -> None:
    before = "\n\n".join(f"Clause {word} stands here as it is." for word in "abcdefghij")
    after = before.replace("as it is", "as it was").replace("Clause j stands here as it was", "Commercial use is prohibited")
    record = compare_texts(before, after).to_record(limit=2)
    assert (record["changes"], len(record["shown"])) == (11, 2), "nine changed, one removed, one added"
    assert record["shown"][0]["restrictions"] == ["non-commercial"]
    json.dumps(record)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_texts_compare(before: str, after: str) -> None:
    result = compare_texts(before, after)
    assert 0 <= result.similarity <= 1
    assert compare_texts(before, before).same_words
    if result.same_words:
        assert result.changes == ()


def test_changes_rebuild_both_texts(texts: dict[str, str]) -> None:
    """Nothing is lost: the marked text without its additions is the old clause, without its removals the new one."""
    result = compare_texts(texts["BSD-3-Clause"], texts["BSD-3-Clause-Clear"])
    assert result.changes
    for change in result.changes:
        old = re.sub(r"\{\+.*?\+\}", "", change.marked).replace("[-", "").replace("-]", "")
        new = re.sub(r"\[-.*?-\]", "", change.marked).replace("{+", "").replace("+}", "")
        assert re.findall(r"\w+", new) == re.findall(r"\w+", change.after)
        assert re.findall(r"\w+", old.casefold()) == re.findall(r"\w+", change.before.casefold())


@pytest.mark.parametrize("repeated", ["the same clause is here again. ", "Word. ", "a "])
def test_long_repetitive_texts_take_bounded_time(repeated: str) -> None:
    text = repeated * (600_000 // len(repeated))
    began = time.process_time()
    assert not compare_texts(text, "First. " + text.replace("again", "once").replace("Word", "Term")).same_words
    assert time.process_time() - began < 30
