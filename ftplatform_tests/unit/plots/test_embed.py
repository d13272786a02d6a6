"""Data URIs and Markdown images, read back by a Markdown parser."""

from __future__ import annotations

import base64

import pytest
from markdown_it import MarkdownIt

from ftplatform.plots import bars, data_uri, markdown_image

SVG = bars([("ä <b>", 1.0)])


def test_the_uri_holds_the_document():
    head, payload = data_uri(SVG).split(",")
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(payload).decode("utf-8") == SVG


@pytest.mark.parametrize(
    "alt",
    [
        "Loss by category",
        "](javascript:alert(1))",
        "![x](http://example.org/x.png)",
        "a\n\n<script>alert(1)</script>",
        "ends with a backslash \\",
        "`code` *bold* | cell <b>",
        "",
    ],
)
def test_the_alternative_text_cannot_break_out(alt):
    parser = MarkdownIt("commonmark", {"html": True})
    parser.validateLink = lambda url: True  # it refuses data URIs by default
    tokens = parser.parse(markdown_image(SVG, alt))
    assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert [t.type for t in children] == ["image"]
    assert children[0].attrs["src"] == data_uri(SVG)
    shown = "".join(t.content for t in children[0].children or [])
    assert shown == " ".join(alt.split())
