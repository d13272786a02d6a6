"""Is it one person who teaches the model?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.feedback.meta_language import normalized
from ftplatform.plots import bars
from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "actor_concentration/1"

#: Largest share of rows by one actor.
MAX_SHARE = 0.10

#: Rows below which a share says nothing: with fewer than this even ten equal actors reach it by chance.
MIN_ROWS = 30

#: Rows without an actor may all be one person's.
UNKNOWN = "(unknown)"

#: Rows whose words are in memory at once.
_SLICE = 20_000

#: Words that are shown as typical of the top actor.
_TYPICAL = 8


def actor_concentration(rows: pa.Table, *, max_share: float = MAX_SHARE, min_rows: int = MIN_ROWS) -> Verdict:
    """Warn if one actor gave more than `max_share` of the rows.

    The rows are all there are, not a sample, so the shares are exact and have no interval. Rows without an actor count as one.

    Args:
        rows: table of `ROW_SCHEMA`; `author` is the actor, assistant turns are read.

    Returns:
        Verdict whose estimate is the top actor's share. Details: Gini coefficient of rows per actor (0: all the same), and how far the
        words of the targets shift when each of the top actors is left out (Jensen-Shannon divergence, bits).
    """
    frame = pl.DataFrame({"author": rows["author"], "messages": rows["messages"]}).with_columns(pl.col("author").fill_null(UNKNOWN))
    counts = frame.group_by("author").len("rows").sort(["rows", "author"], descending=[True, False])
    common: dict[str, Any] = {
        "statistic": "share of rows by the actor with most of them (n: rows)",
        "n": rows.num_rows,
        "n_required": min_rows,
        "threshold": max_share,
        "baseline": "all curated rows",
        "check_version": CHECK_VERSION,
        "config": {"max_share": max_share, "min_rows": min_rows},
        "remedy": "Gather feedback from more people, or weigh down or sample the rows of the actor named.",
    }
    if rows.num_rows < max(1, min_rows):
        summary = f"{rows.num_rows} rows are too few to say who dominates them; {min_rows} are needed."
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=summary, **{**common, "n_required": max(1, min_rows)})
    shares = counts["rows"].to_numpy() / rows.num_rows
    top = counts.head(MAX_EVIDENCE)
    shifts = _leave_one_out(frame, top["author"].to_list())
    over = int((shares > max_share).sum())
    name = excerpt(counts["author"][0], 80)
    said = f"{name} gave {shares[0]:.1%} of {rows.num_rows:,} rows by {counts.height:,} actors (limit {max_share:.0%})"
    return Verdict(
        decision=Decision.WARN if over else Decision.PASS,
        summary=f"{said}; {over} are above the limit." if over > 1 else f"{said}.",
        estimate=float(shares[0]),
        evidence=[
            {
                "actor": excerpt(author, 80),
                "rows": n,
                "share": n / rows.num_rows,
                "shift_without_bits": shift,
                "typical_words": excerpt(", ".join(typical), 120),
            }
            for (author, n), (shift, typical) in zip(top.iter_rows(), shifts, strict=True)
        ],
        plot=bars(
            [(excerpt(author, 40), n / rows.num_rows) for author, n in top.iter_rows()],
            threshold=max_share,
            title="Rows by actor",
            x_label="share of rows",
        ),
        details={"actors": counts.height, "gini": gini(counts["rows"].to_numpy()), "above_limit": over},
        **common,
    )


def gini(amounts: NDArray[np.int64]) -> float:
    """Gini coefficient of nonnegative amounts, at least one positive: 0 if all are equal, towards 1 if one has everything.

    Source: mean absolute difference over twice the mean, in its sorted form (C. Gini, 1912).
    """
    ordered = np.sort(np.asarray(amounts, dtype=np.float64))
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def _target_words(messages: pl.Expr) -> pl.Expr:
    said = pl.element().filter(pl.element().struct.field("role") == str(Role.ASSISTANT)).struct.field("content")
    return messages.list.eval(said).list.join(" ").pipe(normalized).str.extract_all(r"[\p{L}\p{N}][\p{L}\p{N}'-]*")


def _leave_one_out(frame: pl.DataFrame, actors: list[str]) -> list[tuple[float, list[str]]]:
    """Of each actor: divergence between the words of all rows and of all rows but theirs, and the words most typical of them."""
    counted = (
        part.select("author", words=_target_words(pl.col("messages")))
        .explode("words")
        .drop_nulls("words")
        .group_by("author", "words")
        .len("n")
        for part in frame.iter_slices(_SLICE)
    )
    words = pl.concat(counted).group_by("author", "words").agg(pl.col("n").sum())
    totals = words.group_by("words").agg(pl.col("n").sum().alias("all")).sort("words")
    found = []
    for actor in actors:
        own = words.filter(pl.col("author") == actor).select("words", "n")
        both = totals.join(own, on="words", how="left", maintain_order="left").with_columns(pl.col("n").fill_null(0))
        everyone, mine = both["all"].to_numpy().astype(np.float64), both["n"].to_numpy().astype(np.float64)
        rest = everyone - mine
        if not rest.sum() or not mine.sum():
            found.append((0.0 if not mine.sum() else 1.0, []))
            continue
        lift = np.log((mine + 0.5) / (mine.sum() + 0.5)) - np.log((rest + 0.5) / (rest.sum() + 0.5))
        frequent = np.flatnonzero(mine >= 3)
        typical = frequent[np.argsort(-lift[frequent], kind="stable")][:_TYPICAL]
        found.append((_jensen_shannon(everyone, rest), both["words"].gather(typical).to_list()))
    return found


def _jensen_shannon(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = sum(float(np.where(x > 0, x * np.log2(x / middle), 0.0).sum()) for x in (p, q)) / 2
    return max(0.0, divergence)
