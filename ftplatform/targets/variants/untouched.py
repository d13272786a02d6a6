"""`user_turn_untouched`: cleaning targets changes nothing that a user typed.

Typos in user turns are what the model will meet (M9). The check knows nothing of edits: it compares the rows before and after. One edit
of user turns is allowed, masking of personal data, and only as far as its record goes: the record is done to the rows before, and what
is then different is a change like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.masking import excerpt
from ftplatform.rows.redaction import replayed
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.targets.variants.words import Rows, batches
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "user_turn_untouched/1"

_ROWS = {"row_id": pl.String, "told": pl.UInt64, "user_turns": pl.Int64, "parents": pl.List(pl.String)}


def user_turn_untouched(before: Rows, after: Rows, masked: pa.Table | None = None) -> Verdict:
    """Compare what is not a target: every turn that is no assistant's, of each row after, with that of the row it was made from.

    A row after belongs to the row before of the same id, or to one named among its parents. Fails if any such turn was changed,
    added, removed or moved, or if a row has no row before. Rows that are gone are counted; other checks guard them.

    Args:
        before, after: `row_id`, `messages`, `parents` are read, a second time for the evidence of a failure.
        masked: what was masked between the two, table of `redaction.SPAN_SCHEMA`; None if nothing was.

    Returns:
        Verdict whose n is the number of user turns compared; none is insufficient evidence.
    """
    if masked is not None:
        before = _masked(before, masked)
    old, new = _told(before), _told(after)
    # A row that kept its id is compared with itself, whatever its parents are.
    made = new.join(old, on="row_id", how="anti").explode("parents").rename({"parents": "origin"})
    known = old.select(origin="row_id", told_before="told")
    pairs = pl.concat(
        [
            new.join(known, left_on="row_id", right_on="origin", how="inner", coalesce=False),
            made.join(known, on="origin", how="inner").unique("row_id", keep="first", maintain_order=True),
        ],
        how="diagonal",
    ).drop("parents")
    orphans = new.height - pairs.height
    changed = pairs.filter(pl.col("told") != pl.col("told_before")).select("row_id", "origin")
    n = int(pairs["user_turns"].sum())
    gone = old.height - pairs["origin"].n_unique()
    others = 0 if masked is None else _masked_turns(masked, pairs["origin"])
    details = {"rows_compared": pairs.height, "rows_gone": gone, "rows_without_origin": orphans, "turns_masked_on_record": others}
    common: dict[str, Any] = {
        "statistic": "rows in which a turn of a user, a tool or the system was changed",
        "n": n,
        "n_required": 1,
        "threshold": 0.0,
        "baseline": "the rows before cleaning",
        "check_version": CHECK_VERSION,
        "details": details,
    }
    if changed.height or orphans:
        lost = f"; {orphans:,} rows are made from none of the rows before" if orphans else ""
        return Verdict(
            decision=Decision.FAIL,
            summary=f"In {changed.height:,} rows, turns that are no targets were changed{lost}.",
            estimate=float(changed.height),
            evidence=_evidence(changed, before, after),
            remedy="Undo these changes: clean assistant turns only, with `ftplatform clean apply`.",
            **common,
        )
    if not n:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="There is no user turn to compare.",
            remedy="Compare the rows before and after cleaning.",
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"All {n:,} user turns of {pairs.height:,} rows are as they were"
        + (f", but for personal data masked in {others:,} turns, each on record." if others else "."),
        estimate=0.0,
        remedy="Nothing to do.",
        **common,
    )


def _masked(rows: Rows, spans: pa.Table) -> Rows:
    def replay() -> Iterator[pa.RecordBatch]:
        for table in batches(rows):
            yield from replayed(table, spans).to_batches()

    return replay


def _masked_turns(spans: pa.Table, compared: pl.Series) -> int:
    """Turns of the compared rows, other than an assistant's, in which something was masked."""
    places = pl.DataFrame({name: spans[name] for name in ("row_id", "message", "role")}).unique()
    return places.filter((pl.col("role") != str(Role.ASSISTANT)) & pl.col("row_id").is_in(compared.implode())).height


def _told(rows: Rows) -> pl.DataFrame:
    """row_id, told, user_turns, parents: one line per row; `told` stands for all turns, an assistant's text left out.

    64-bit hashes in place of texts: a changed row passes with probability 2^-64, and a million rows fit into memory.
    """
    parts = [pl.DataFrame(schema=_ROWS)]
    for table in batches(rows):
        said = turns(table)
        frame = pl.DataFrame({name: said[name] for name in ("row", "row_id", "turn", "role", "content")})
        target = pl.col("role") == str(Role.ASSISTANT)
        text = pl.when(target).then(pl.lit("")).otherwise(pl.col("content"))
        told = pl.struct("turn", "role", text.alias("text")).hash(seed=17)
        per_row = frame.with_columns(told=told).group_by("row")
        hashed = per_row.agg(pl.col("told").bitwise_xor(), user_turns=(pl.col("role") == str(Role.USER)).sum())
        own = pl.DataFrame({"row_id": table["row_id"], "parents": pl.Series(table["parents"], dtype=pl.List(pl.String))})
        # A row without any turn is a row as well.
        both = own.with_columns(row=pl.int_range(pl.len())).join(hashed, on="row", how="left", maintain_order="left")
        parts.append(both.select(pl.col(name).cast(kind) for name, kind in _ROWS.items()).fill_null(0))
    return pl.concat(parts).unique("row_id", keep="first", maintain_order=True)


def _evidence(changed: pl.DataFrame, before: Rows, after: Rows) -> list[dict[str, Any]]:
    """The first turn that differs, of the first rows."""
    shown = changed.head(MAX_EVIDENCE)
    old, new = _others(before, shown["origin"].to_list()), _others(after, shown["row_id"].to_list())
    lines = []
    for row_id, origin in shown.iter_rows():
        pairs = zip_longest(old[origin], new[row_id], fillvalue=("", ""))
        turn, (was, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        lines.append(
            {
                "row_id": row_id,
                "turn": turn,
                "role": was[0] or now[0],
                "before": excerpt(was[1], 120),
                "after": excerpt(now[1], 120),
            }
        )
    return lines


def _others(rows: Rows, wanted: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Role and text of every turn of a few rows, an assistant's text left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    for table in batches(rows):
        few = table.filter(pc.is_in(table["row_id"], value_set=pa.array(wanted, pa.string())))
        for row in few.select(["row_id", "messages"]).to_pylist():
            found[row["row_id"]] = [(m["role"], "" if m["role"] == Role.ASSISTANT else m["content"]) for m in row["messages"]]
    return found
