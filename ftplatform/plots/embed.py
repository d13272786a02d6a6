"""Carrying an SVG inside Markdown, where Dagster's UI shows it."""

from __future__ import annotations

import base64
import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|&~$])")


def data_uri(svg: str) -> str:
    """The document as `data:image/svg+xml;base64,...`. As an image source it can neither run scripts nor load anything."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")


def markdown_image(svg: str, alt: str) -> str:
    """A Markdown image of the document; `alt` is escaped, so that it cannot end the image or start markup."""
    text = _MARKDOWN.sub(r"\\\1", re.sub(r"\s+", " ", alt).strip())
    return f"![{text}]({data_uri(svg)})"
