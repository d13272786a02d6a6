"""HTML pages for people: one file each, which loads nothing, and whose text could run nothing.

The content security policy of a page names its style sheet and its script, if it has one, by hash. So a hostile slice name, template
or row could not run or load anything even if it got past the escaping. Texts are masked here once more, whoever wrote them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

from ftplatform.rows.masking import escape_controls, excerpt

_CELL = 200

#: Decisions differ by word as well as by color; all pairs of colors reach 4.5:1 in both schemes.
STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #57606a; --paper: #ffffff; --card: #f6f8fa; --edge: #d0d7de;
  --bad: #82071e; --bad-back: #ffebe9; --good: #0a4b22; --open: #7a3e00; --other: #0a4b8c; --other-back: #ddf4ff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9aa4ae; --paper: #0d1117; --card: #161b22; --edge: #30363d;
    --bad: #ffb3ad; --bad-back: #4a1414; --good: #9be9a8; --open: #ffd8a8; --other: #a5d3ff; --other-back: #0c2d52; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 0 1rem 2rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 1rem 0 .2rem; font-size: 1.35rem; overflow-wrap: anywhere; }
h2 { margin: 1.6rem 0 .4rem; font-size: 1.05rem; }
.verdict { padding: .6rem .8rem; border: 1px solid var(--edge); border-left: .4rem solid currentColor; border-radius: 8px;
  background: var(--card); overflow-wrap: anywhere; }
.verdict span { color: var(--ink); font-weight: 400; }
.fail, .worse, .yes { color: var(--bad); font-weight: 600; }
.pass, .better, .same { color: var(--good); }
.warn, .insufficient_evidence { color: var(--open); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--edge); text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { overflow-wrap: normal; }
td[class] { white-space: nowrap; }
td { min-width: 5.5rem; }
td.number, th.number { min-width: 0; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { padding: .6rem .8rem; overflow-x: auto; font-size: .8rem; background: var(--card); border: 1px solid var(--edge);
  border-radius: 8px; }
svg { display: block; max-width: 100%; height: auto; margin: .6rem 0; }
p.note, footer { color: var(--muted); font-size: .85rem; overflow-wrap: anywhere; }
"""


class Marked(str):
    """A cell whose text is a word of ours and becomes its class: a decision, for one."""

    __slots__ = ()


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole page; the same for the same content.

    Args:
        title: plain text.
        body: markup, escaped by whoever made it: with `plain`, `block`, `table` and `section`.
        style: rules after `STYLE`.
        script: runs when the page is there.
    """
    sheet = STYLE + style
    allowed = [f"style-src '{_hash(sheet)}'", *([f"script-src '{_hash(script)}'"] if script else [])]
    policy = "; ".join(("default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{plain(title)}</title>
<style>{sheet}</style>
</head>
<body>
{body}
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def section(title: str, anchor: str, body: str) -> str:
    """A part of a page under a heading; `body` is markup, `anchor` a word of ours."""
    return f'<section id="{anchor}"><h2>{plain(title)}</h2>{body}</section>\n'


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = ()) -> str:
    """A table of plain texts that scrolls by itself where it is wide; columns `numbers` are set to the right."""
    right = set(numbers)

    def cell(tag: str, at: int, value: object) -> str:
        kind = "number" if at in right else escape(value, quote=True) if isinstance(value, Marked) else ""
        classed = f' class="{kind}"' if kind else ""
        return f"<{tag}{classed}>{plain(str(value), 1000)}</{tag}>"

    head = "".join(cell("th", at, text) for at, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell('td', at, value) for at, value in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def block(lines: Sequence[str]) -> str:
    """Lines for a `pre`, escaped."""
    return escape("\n".join(escape_controls(line) for line in lines), quote=True)


def plain(text: str, limit: int = _CELL) -> str:
    """Text for a page: masked, cut to `limit` characters, escaped."""
    return escape(excerpt(text, limit), quote=True)


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
