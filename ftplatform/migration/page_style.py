"""Style of the migration page. Its content security policy names the hash: it is written out byte for byte."""

from __future__ import annotations

#: Decisions differ by word as well as by color; all pairs of colors reach 4.5:1.
STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #57606a; --paper: #ffffff; --card: #f6f8fa; --edge: #d0d7de;
  --bad: #82071e; --good: #0a4b22; --open: #7a3e00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9aa4ae; --paper: #0d1117; --card: #161b22; --edge: #30363d;
    --bad: #ffb3ad; --good: #9be9a8; --open: #ffd8a8; } }
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
.insufficient_evidence { color: var(--open); }
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
