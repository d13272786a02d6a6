"""The page and the table of removals: escaped, masked, bounded, counted."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from ftplatform.dedup import diff
from ftplatform.dedup.removal_page import removal_markdown, removal_page
from ftplatform.dedup.word_diff import marked_difference
from ftplatform_tests.unit.dedup.test_review import removal, table

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> | `code` [link](javascript:alert(1))"
    " https://evil.example www.evil.example"
)


class Reader(HTMLParser):
    """Elements and attributes of a document."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_words_that_differ_are_marked_and_everything_is_escaped() -> None:
    one, other = marked_difference("where is <b>my</b> order", "where was <b>my</b> order")
    assert one == "where <del>is</del> &lt;b&gt;my&lt;/b&gt; order"
    assert other == "where <ins>was</ins> &lt;b&gt;my&lt;/b&gt; order"
    assert marked_difference("same", "same") == ("same", "same")
    assert marked_difference("", "new & old") == ("", "<ins>new &amp; old</ins>")
    long = "word " * 3_000
    assert "<del>" not in marked_difference(long, "other")[0]


def test_the_marks_give_back_both_texts() -> None:
    pairs = [("a b c", "a x c d"), ("naïve café!", "naive café?"), ("one\ntwo  three", "one two three")]
    for left, right in pairs:
        one, other = marked_difference(left, right)
        assert (re.sub("</?del>", "", one), re.sub("</?ins>", "", other)) == (left, right)


def test_a_hostile_row_adds_no_element_and_the_policy_names_style_and_script() -> None:
    rows = [removal(0, [HOSTILE], text=HOSTILE), removal(1, ['"><script>'], reason='"onload="x', text="ok")]
    page = removal_page(table(rows), title=HOSTILE, note=HOSTILE)
    read = Reader(page)
    assert len(read.all("script")) == len(read.all("style")) == 1
    assert not read.all("img")
    assert not read.all("link")
    assert not any(name.startswith("on") or name in ("src", "href") for _, attributes in read.elements for name in attributes)
    policy = next(m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content.group(1).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_personal_data_is_masked_even_in_a_diff_that_was_not() -> None:
    rows = table([removal(0, ["jo@example.org"], text="call 4111 1111 1111 1111 or jo@example.org")])
    for shown in (removal_page(rows), removal_markdown(rows)):
        assert "jo@example.org" not in shown
        assert "4111" not in shown
        assert "EMAIL" in shown


def large() -> pa.Table:
    rows = [removal(i, [f"slice {i % 3}"]) for i in range(3_000)]
    rows += [removal(5_000 + i, ["rare", "slice 0"]) for i in range(4)]
    return table(rows + [removal(9_000 + i, [], diff.EXACT_COPY) for i in range(500)])


def test_a_large_diff_is_sampled_by_reason_and_slice_and_counted_whole() -> None:
    page = removal_page(large(), per_stratum=20, max_pairs=50)
    pairs = Reader(page).all("article")
    assert len(pairs) == 50
    assert "3,504 rows" in page
    assert "slice 0 (1,004)" in page
    assert "exact copy (500)" in page
    # The first fifty by similarity are all of the large slices: four rows of a rare one would not be seen.
    naive = sorted(large().to_pylist(), key=lambda r: r["similarity"])[:50]
    assert sum("rare" in r["slices"] for r in naive) < 4
    number = re.search(r'<option value="(\d+)">rare \(4\)', page)
    assert number is not None
    assert sum(number.group(1) in (p["data-slices"] or "").split() for p in pairs) == 4
    similar = [float(p["data-similarity"] or 0) for p in pairs]
    assert similar == sorted(similar)
    assert len(Reader(removal_page(large(), per_stratum=20)).all("article")) == 3 * 20 + 4 + 20


def test_the_page_is_the_same_for_the_same_diff_in_another_order() -> None:
    pairs = large()
    turned = pairs.take(pa.array(range(pairs.num_rows - 1, -1, -1)))
    assert removal_page(pairs) == removal_page(turned)
    assert removal_markdown(pairs) == removal_markdown(turned)


def test_an_empty_diff_and_a_text_that_was_not_stored() -> None:
    empty = diff.REMOVAL_SCHEMA.empty_table()
    assert "Nothing was removed" in removal_page(empty)
    assert removal_markdown(empty) == "Nothing was removed."
    untold = table([removal(0, []) | {"removed_text": "", "kept_text": ""}])
    assert "(text not stored)" in removal_page(untold)


@pytest.mark.parametrize("kind", ["gfm-like", "commonmark"])
def test_the_markdown_table_keeps_its_shape_whatever_a_row_says(kind: str) -> None:
    rows = table([removal(0, [HOSTILE], text=HOSTILE), removal(1, ["a\nb"], text="two\nlines")])
    text = removal_markdown(rows)
    options = {"linkify": False}
    rendered = MarkdownIt(kind, options).enable("table").render(text)
    assert rendered.count("<tr>") == 3
    assert rendered.count("<td") == 2 * 5
    assert not re.search("<(script|img|a|code)[ >]", rendered)
    assert "https://" not in text
    assert "www.evil" not in text
