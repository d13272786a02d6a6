"""The removal diff as one HTML page to browse, and as a Markdown table.

Of a long diff the doubtful pairs are shown, every reason and slice among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

import polars as pl
import pyarrow as pa

from ftplatform.dedup.diff import EXACT_COPY, EXACT_EVAL, NEAR_EVAL, NEAR_TRAIN, REPEATED
from ftplatform.dedup.removal_page_assets import SCRIPT, STYLE
from ftplatform.dedup.review import diff_digest
from ftplatform.dedup.word_diff import marked_difference
from ftplatform.pages import page, plain
from ftplatform.rows.masking import excerpt

#: Pairs shown of each reason and slice, and in all: a page of 1,000 pairs is about 1 MB.
PER_STRATUM = 20
MAX_PAIRS = 1000
_TEXT = 400
_NAME = 80
_NO_SLICE = "(no slice)"
# Also what would turn an address into a link.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|&~$:]|(?<=www)\.)", re.IGNORECASE)
_REASONS = {
    EXACT_COPY: "exact copy",
    NEAR_TRAIN: "near-duplicate in training",
    NEAR_EVAL: "near-duplicate of an eval row",
    EXACT_EVAL: "word for word in the eval",
    REPEATED: "counts for less, not removed",
}


def removal_page(
    removal_diff: pa.Table,
    *,
    title: str = "Removed rows",
    note: str = "",
    per_stratum: int = PER_STRATUM,
    max_pairs: int = MAX_PAIRS,
) -> str:
    """A self-contained page of removed rows beside the rows kept for them, differences marked, to filter and sort.

    Args:
        removal_diff: table of `diff.REMOVAL_SCHEMA`.
        title, note: plain text; the note stands under the title (threshold, dataset).
        per_stratum: pairs of each reason and slice, least similar first: the doubtful ones.
        max_pairs: pairs in all, divided so that every stratum shows its first before any shows its next.

    Returns:
        HTML, the same for the same diff. Counts are of the whole diff.
    """
    strata = _strata(removal_diff)
    chosen = _chosen(strata, per_stratum, max_pairs)
    shown = removal_diff.take(chosen.to_arrow())
    by_reason = strata.group_by("reason").agg(rows=pl.col("at").n_unique()).sort("rows", "reason", descending=[True, False])
    by_slice = strata.group_by("slice").agg(rows=pl.col("at").n_unique()).sort("rows", "slice", descending=[True, False])
    slices = by_slice["slice"].to_list()
    numbers = {name: number for number, name in enumerate(slices)}
    pairs = "\n".join(_pair(record, numbers) for record in shown.to_pylist())
    if not pairs:
        pairs = '<p class="empty">Nothing was removed.</p>'
    total = removal_diff.num_rows
    counted = f"{total:,} rows beside the rows that stand for them; {shown.num_rows:,} shown, the least similar of every reason and slice."
    body = f"""<header>
<h1>{plain(title, _NAME)}</h1>
{f"<p>{plain(note, 400)}</p>" if note else ""}
<p>{counted} Marked: <del>in the first text only</del>, <ins>in the second only</ins>.</p>
<form id="filters">
<label>Reason <select id="reason">{_options(by_reason.iter_rows(), total)}</select></label>
<label>Slice <select id="slice">{_options(((str(numbers[n]), rows, n) for n, rows in by_slice.iter_rows()), total)}</select></label>
<label>Order <select id="order"><option value="1">least similar first</option>
<option value="-1">most similar first</option></select></label>
<output id="count" aria-live="polite"></output>
</form>
</header>
<main id="pairs">
{pairs}
</main>
<footer><p>Removal diff {diff_digest(removal_diff)}. Personal data is masked; long texts are cut.</p></footer>"""
    return page(title, body, style=STYLE, script=SCRIPT)


def removal_markdown(removal_diff: pa.Table, limit: int = 20) -> str:
    """A Markdown table of at most `limit` removals, chosen like those of the page, and a line with the counts of all."""
    strata = _strata(removal_diff)
    shown = removal_diff.take(_chosen(strata, PER_STRATUM, limit).to_arrow())
    counts = strata.group_by("reason").agg(rows=pl.col("at").n_unique()).sort("rows", "reason", descending=[True, False])
    said = ", ".join(f"{rows:,} {_escaped(_reason(reason), _NAME)}" for reason, rows in counts.iter_rows())
    if not removal_diff.num_rows:
        return "Nothing was removed."
    lines = [
        f"{removal_diff.num_rows:,} rows: {said}. {shown.num_rows} of them, the least similar of every reason and slice.",
        "",
        "| similarity | removed | kept | slices | reason |",
        "|---:|---|---|---|---|",
    ]
    for record in shown.to_pylist():
        slices = ", ".join(record["slices"][:5])
        cells = [record["removed_text"], record["kept_text"], slices, _reason(record["reason"])]
        lines.append(f"| {record['similarity']:.2f} | " + " | ".join(_escaped(cell, 160) for cell in cells) + " |")
    return "\n".join(lines)


def _strata(removal_diff: pa.Table) -> pl.DataFrame:
    """One line per removed row and slice: at, reason, slice, similarity, and whether its text was kept."""
    frame = pl.DataFrame(
        {
            "reason": removal_diff["reason"],
            "slice": pl.Series(removal_diff["slices"], dtype=pl.List(pl.String)),
            "similarity": removal_diff["similarity"],
            "row_id": removal_diff["row_id"],
            "told": pl.Series(removal_diff["removed_text"], dtype=pl.String) != "",
        }
    )
    return frame.with_row_index("at").explode("slice", empty_as_null=True).with_columns(pl.col("slice").fill_null(_NO_SLICE))


def _chosen(strata: pl.DataFrame, per_stratum: int, max_pairs: int) -> pl.Series:
    """Positions of the pairs to show, least similar first."""
    ordered = strata.sort("told", "similarity", "row_id", descending=[True, False, False])
    placed = ordered.with_columns(place=pl.int_range(pl.len()).over("reason", "slice")).filter(pl.col("place") < per_stratum)
    rows = placed.group_by("at").agg(pl.col("place").min(), pl.col("similarity", "row_id").first())
    return rows.sort("place", "similarity", "row_id").head(max_pairs).sort("similarity", "row_id")["at"]


def _pair(record: dict, numbers: dict[str, int]) -> str:
    slices = record["slices"] or [_NO_SLICE]
    heads = ("Counts for less", "Together with") if record["reason"] == REPEATED else ("Removed", "Kept")
    removed, kept = (excerpt(record[name], _TEXT) for name in ("removed_text", "kept_text"))
    one, other = marked_difference(removed, kept) if removed or kept else ("(text not stored)", "(text not stored)")
    reason = record["reason"]
    tags = "".join(f"<li>{plain(name, _NAME)}</li>" for name in slices[:8])
    more = f"<li>and {len(slices) - 8} more</li>" if len(slices) > 8 else ""
    held = " ".join(str(numbers[name]) for name in slices)
    return (
        f'<article data-similarity="{record["similarity"]:.6f}" data-reason="{escape(reason, quote=True)}" data-slices="{held}">'
        f"<h2><b>{record['similarity']:.2f}</b> {plain(_reason(reason), _NAME)}</h2><ul>{tags}{more}</ul>"
        f"<div><section><h3>{heads[0]} <code>{plain(record['row_id'][:12])}</code></h3><p>{one}</p></section>"
        f"<section><h3>{heads[1]} <code>{plain(record['kept_row_id'][:12])}</code></h3><p>{other}</p></section></div></article>"
    )


def _options(choices: Iterable[Sequence[str | int]], total: int) -> str:
    """Options of a selection: value, number of rows, and what is shown (by default the value)."""
    options = [f'<option value="">all ({total:,})</option>']
    for value, rows, *shown in choices:
        label = shown[0] if shown else _reason(str(value))
        options.append(f'<option value="{escape(str(value), quote=True)}">{plain(str(label), _NAME)} ({rows:,})</option>')
    return "".join(options)


def _reason(code: str) -> str:
    return _REASONS.get(code, code)


def _escaped(text: str, limit: int) -> str:
    """One masked line that cannot start markup or leave its table cell."""
    return _MARKDOWN.sub(r"\\\1", re.sub(r"\s+", " ", excerpt(text, limit)).strip())
