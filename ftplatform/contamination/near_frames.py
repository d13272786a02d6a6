"""Template or copy? A row that shares a template with an item but fills it otherwise asks something else.

Where a row differs from an item that it nearly matches there is a gap: words of the item on the one side, the row's filling on the other.
In an editor's gap one row departs from what all others say. In a slot of a template, rows and items that agree around it differ from
each other. A gap in which the item has a rare word is a slot if

* three items, this one among them, have different words there against the same place of the row: it cannot be a copy of all; or
* five rows differ from the item there and nowhere else, each in another way, and say at least three different things in reply, and half
  of the rows that match the item differ from it there. Copies of one item, edited here and there, differ here and there.

A row that fills a slot with other words than the item is no copy of it, unless it gives the item's own answer. Without such evidence a
difference is an edit and the hit stands: one row alone, with another name in it, is a leak.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.contamination.near_items import NearRule, Probes, prefix_sums, spoken
from ftplatform.contamination.scan_tokens import TOKEN_INVERSE, TOKEN_STEP, TokenHashes, powers
from ftplatform.rows.normalize import normalize
from ftplatform.rows.schema import Role

#: Items with different words in a gap, or rows with different fillings and replies, from which on it is a slot. More rows than items:
#: whoever rewrites a leaked item writes rows.
SLOT_ITEMS, SLOT_ROWS, SLOT_REPLIES = 3, 5, 3
#: Rows prove a slot only by fillings of so few tokens: what surrounds a quotation differs from row to row, too.
SLOT_TOKENS = 6
_HIT = ["row", "side", "probe"]

GAP_SCHEMA = {
    "row": pl.Int64,
    "side": pl.Enum([str(role) for role in Role]),
    "probe": pl.UInt32,
    "first": pl.Int32,
    "last": pl.Int32,
    "begin": pl.Int32,
    "end": pl.Int32,
    "words": pl.UInt64,
    "filling": pl.UInt64,
    "single": pl.Boolean,
}


def gaps_of(
    lengths: NDArray[np.int64],
    place: NDArray[np.int64],
    matched: NDArray[np.bool_],
    telling: NDArray[np.bool_],
    tokens: NDArray[np.uint64],
    owner: NDArray[np.int64],
    stream: TokenHashes,
) -> dict[str, NDArray[Any]]:
    """Where an item and a row, words around it in common, both have words of their own, of the item's a telling one among them.

    Args:
        lengths: (pairs,): tokens of each pair's item.
        place, matched, telling, tokens: (lengths.sum(),), per token of these items: the position in the row of the same token in line
            (-1: none), whether the row has it at all, whether it tells items apart, its hash.
        owner: (pairs,): number of the row in `stream`, whose tokens are those of the rows.
        stream: the rows' tokens.

    Returns:
        Columns, one entry per gap: pair; first, last: ``first:last`` are tokens of the item; begin, end: of the row; words, filling:
        hashes of the two; single: the pair has no other gap, and this one on neither side more than six tokens.
    """
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    begins = np.zeros(len(matched), bool)
    begins[bounds[:-1]] = True
    opens, closes = ~matched, ~matched
    opens[1:] &= matched[:-1] | begins[1:]
    closes[:-1] &= matched[1:] | begins[1:]
    first, last = np.flatnonzero(opens), np.flatnonzero(closes) + 1
    gaps = np.bincount(np.searchsorted(bounds, first, side="right") - 1, minlength=len(lengths))
    sums = prefix_sums(telling)
    chosen = sums[last] > sums[first]
    first, last = first[chosen], last[chosen]
    pair = np.searchsorted(bounds, first, side="right") - 1
    base, limit = stream.bounds[owner[pair]], stream.bounds[owner[pair] + 1]
    at_start, at_end = first == bounds[pair], last == bounds[pair + 1]
    left, right = place[first - 1], place[np.minimum(last, len(place) - 1)]
    # Before the first word in common, and after the last, the row has no end of the gap: as many words as the item has there are taken.
    begin = np.where(at_start, np.maximum(right - (last - first), 0), left + 1)
    end = np.where(at_end, np.minimum(left + 1 + last - first, limit - base), right)
    clear = (at_start | (left >= 0)) & (at_end | (right >= 0)) & ~(at_start & at_end) & (end > begin)
    pair, base, first, last, begin, end = (column[clear] for column in (pair, base, first, last, begin, end))
    return {
        "pair": pair,
        "first": first - bounds[pair],
        "last": last - bounds[pair],
        "begin": begin,
        "end": end,
        "words": _hashes(tokens, first, last),
        "filling": _hashes(stream.hashes, base + begin, base + end),
        "single": (gaps[pair] == 1) & (np.maximum(last - first, end - begin) <= SLOT_TOKENS),
    }


def other_fillings(hits: pl.DataFrame, gaps: pl.DataFrame, train: pa.Table, probes: Probes, rule: NearRule) -> pl.DataFrame:
    """The hits (row, side, probe) that fill a slot of a template otherwise than the item, and do not answer as it does.

    Args:
        hits, gaps: `near_matching.Matches` of the probes in `train`.
    """
    gaps = gaps.join(hits.group_by("probe", "side").agg(rows=pl.col("row").n_unique()), on=["probe", "side"])
    gaps = gaps.join(_replies(gaps, train), on=["row", "side"], how="left")

    def different(column: str, *place: str) -> pl.Expr:
        return pl.col(column).n_unique().over("side", *place)

    by_items = pl.any_horizontal(different("words", "row", place) >= SLOT_ITEMS for place in ("begin", "end"))
    by_rows = pl.any_horizontal(
        (different("filling", "single", "probe", place) >= SLOT_ROWS)
        & (different("reply", "single", "probe", place) >= SLOT_REPLIES)
        & (2 * different("row", "probe", place) >= pl.col("rows"))
        for place in ("first", "last")
    )
    slots = gaps.filter(by_items | (pl.col("single") & by_rows)).unique(_HIT).select(*_HIT, "reply")
    return slots.join(_answering(slots, probes, rule), on=_HIT, how="anti").select(_HIT)


def _replies(gaps: pl.DataFrame, train: pa.Table) -> pl.DataFrame:
    """What belongs to the matched texts (row, side): to a question the row's last answer, to an answer its questions, normalized."""
    wanted = gaps.select("row", "side").unique().sort("row", "side")
    rows = wanted["row"].unique().sort()
    chosen = train.select(["row_id", "messages"]).take(rows.to_arrow())
    parts = []
    for side, role in ((Role.USER, Role.ASSISTANT), (Role.ASSISTANT, Role.USER)):
        texts, owners = spoken(chosen, role)
        said = pl.DataFrame({"row": rows.gather(owners), "reply": pl.Series(texts)}).group_by("row")
        reply = pl.col("reply").last() if side is Role.USER else pl.col("reply").str.join("\n")
        parts.append(said.agg(reply).with_columns(side=pl.lit(str(side), dtype=wanted.schema["side"])))
    replies = pl.concat(parts).join(wanted, on=["row", "side"], how="semi")
    return replies.with_columns(reply=pl.Series(normalize(replies["reply"].to_arrow()), dtype=pl.String))


def _answering(slots: pl.DataFrame, probes: Probes, rule: NearRule) -> pl.DataFrame:
    """Those of the hits whose row gives the item's own answer: its figures, or word for word and then not as one of many questions."""
    pairs = slots.filter(pl.col("side") == str(Role.USER)).join(probes.references, on="probe")
    asked, given = (pl.col(column).str.extract_all(r"\p{N}+") for column in ("reference", "reply"))
    figures = asked.list.len() > 0
    same = pl.format(" {} ", "reply").str.contains(pl.format(" {} ", "reference"), literal=True)
    worded = pairs.filter(~figures & same).filter(pl.col("row").n_unique().over("reference") < rule.closed_set_questions)
    return pl.concat([worded, pairs.filter(figures & (asked.list.set_difference(given).list.len() == 0))])


def _hashes(tokens: NDArray[np.uint64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash of each range of tokens (polynomial, as of n-grams)."""
    sums = np.concatenate(
        [np.zeros(1, np.uint64), np.cumsum(tokens * powers(TOKEN_STEP, len(tokens))[: len(tokens)], dtype=np.uint64)]
    )
    return (sums[end] - sums[begin]) * powers(TOKEN_INVERSE, len(tokens) + 1)[begin]
