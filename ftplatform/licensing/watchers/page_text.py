"""The words a reader of a web page sees, without what changes at every visit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

#: Larger pages are no terms.
MAX_HTML_BYTES = 1024 * 1024

# A complete tag. No "<" or ">" in attribute values, so that a match never reaches behind the next one: linear time.
_TAG = re.compile(r"""</?[A-Za-z](?:[^<>"']|"[^"<>]*"|'[^'<>]*')*>""")

_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
_INVISIBLE = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "select", "button", "title", "head"})
#: Menus hold counters, user names and the date.
_NAVIGATION = frozenset({"nav", "menu"})
_INLINE = frozenset(
    {
        "a",
        "abbr",
        "b",
        "bdi",
        "cite",
        "code",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "mark",
        "q",
        "s",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "u",
    }
)

_RAW = re.compile(r"<(script|style)\b")


@dataclass(frozen=True, slots=True)
class Page:
    """Visible text (paragraphs apart by an empty line), and what `<meta name=...>` says, names in lower case."""

    text: str
    meta: dict[str, str] = field(default_factory=dict)


def read_page(html: str) -> Page:
    """Extract the visible text of HTML. Menus are left out unless the page consists of them. Time grows with the length."""
    html = "".join(_complete_tags(html))
    parser = _Visible(_INVISIBLE | _NAVIGATION)
    parser.feed(html)
    parser.close()
    if not parser.text():
        parser = _Visible(_INVISIBLE)
        parser.feed(html)
        parser.close()
    return Page(parser.text(), parser.meta)


def _complete_tags(html: str) -> Iterator[str]:
    """The same without comments and declarations, each "<" that begins no complete tag escaped: html.parser looks for the end of
    an unfinished one again and again, in time that grows with the square of the length."""
    position, lower = 0, html.lower()
    if len(lower) != len(html):  # a few letters grow in lower case
        lower = html
    while (start := html.find("<", position)) >= 0:
        yield html[position:start]
        if html.startswith("<!--", start):
            end = html.find("-->", start + 4)
            position = end + 3 if end >= 0 else len(html)
        elif html.startswith(("<!", "<?"), start):
            end = html.find(">", start)
            position = end + 1 if end >= 0 else len(html)
        elif tag := _TAG.match(html, start):
            yield tag[0]
            position = tag.end()
            if raw := _RAW.match(lower, start):
                # Code holds "<" and "<!--" that mean nothing.
                end = lower.find(f"</{raw[1]}", position)
                position = end if end >= 0 else len(html)
        else:
            yield "&lt;"
            position = start + 1
    yield html[position:]


class _Visible(HTMLParser):
    def __init__(self, skipped: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.skipped = skipped
        self.meta: dict[str, str] = {}
        self._inside: str | None = None  # the skipped element we are in, and how many of its name are open
        self._depth = 0
        self._parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "meta" and attributes.get("name"):
            self.meta.setdefault(attributes["name"].strip().lower(), attributes.get("content", "").strip())
        if tag == "body" and self._inside == "head":
            self._inside = None  # its end tag may be left out
        if self._inside is None:
            hidden = tag in self.skipped or "hidden" in attributes or attributes.get("aria-hidden") == "true"
            self._inside, self._depth = (tag, 1) if hidden and tag not in _VOID else (None, 0)
        elif tag == self._inside:
            self._depth += 1
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._depth -= 1
            if self._depth == 0:
                self._inside = None
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self._parts.append(data)

    def _break(self, tag: str) -> None:
        if tag not in _INLINE and self._inside is None:
            self._parts.append("\n\n" if tag != "br" else "\n")

    def text(self) -> str:
        """Paragraphs with single spaces."""
        paragraphs = (" ".join(part.split()) for part in "".join(self._parts).split("\n\n"))
        return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
