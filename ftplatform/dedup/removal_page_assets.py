"""Style and script of the removal page, on top of the style of all pages."""

from __future__ import annotations

#: Removed and added words differ by underline and strike-through as well as by color; all pairs of colors reach 4.5:1.
STYLE = """
body { max-width: 72rem; }
header { position: sticky; top: 0; padding: .75rem 0; background: var(--paper); border-bottom: 1px solid var(--edge); }
h1 { margin: 0; font-size: 1.35rem; }
header p { margin: .2rem 0; color: var(--muted); }
form { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; margin-top: .4rem; }
label { display: flex; gap: .4rem; align-items: center; }
select { max-width: 20rem; padding: .2rem .3rem; font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--edge); border-radius: 6px; }
output { margin-left: auto; color: var(--muted); }
article { margin: .8rem 0; padding: .6rem .8rem; background: var(--card); border: 1px solid var(--edge); border-radius: 8px; }
article[hidden] { display: none; }
h2 { display: inline; margin: 0 .6rem 0 0; font-size: .95rem; font-weight: 400; color: var(--muted); }
h2 b { color: var(--ink); font-variant-numeric: tabular-nums; }
ul { display: inline; margin: 0; padding: 0; }
li { display: inline-block; margin: 0 .3rem 0 0; padding: 0 .5rem; font-size: .85rem; border: 1px solid var(--edge);
  border-radius: 1rem; overflow-wrap: anywhere; }
article div { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.2rem; }
@media (max-width: 44rem) { article div { grid-template-columns: 1fr; } header { position: static; } }
section { min-width: 0; }
h3 { margin: .4rem 0 .1rem; font-size: .8rem; font-weight: 600; color: var(--muted); }
code { font-size: .8rem; font-weight: 400; }
section p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
del { color: var(--bad); background: var(--bad-back); text-decoration: line-through; }
ins { color: var(--other); background: var(--other-back); text-decoration: underline; }
.empty, footer { color: var(--muted); font-size: .85rem; overflow-wrap: anywhere; }
"""

SCRIPT = """
"use strict";
const list = document.getElementById("pairs"), pairs = Array.from(list.querySelectorAll("article"));
const [reason, slice, order] = ["reason", "slice", "order"].map(id => document.getElementById(id));
function show() {
  let count = 0;
  for (const pair of pairs) {
    const wanted = (!reason.value || pair.dataset.reason === reason.value)
      && (!slice.value || pair.dataset.slices.split(" ").includes(slice.value));
    pair.hidden = !wanted;
    count += wanted;
  }
  document.getElementById("count").textContent = count.toLocaleString("en") + " pairs shown";
}
function sort() {
  pairs.sort((a, b) => order.value * (a.dataset.similarity - b.dataset.similarity));
  list.append(...pairs);
}
reason.addEventListener("change", show);
slice.addEventListener("change", show);
order.addEventListener("change", sort);
document.getElementById("filters").addEventListener("submit", event => event.preventDefault());
show();
"""
