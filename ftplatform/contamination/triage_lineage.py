"""Rows that came from an eval item by their own account: what they name, or who wrote them after looking.

* **lineage**: a parent or `meta` names the item, by its whole row id or by the first twelve digits, as ids are shown.
* **reference**: a parent or `meta` names a ticket or annotation that is known to be about the item.
* **author**: whoever wrote the row had seen items of the set before. Without a time the row counts as written now; people are
  compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import polars as pl
import pyarrow as pa

from ftplatform.contamination.exposures import exposures
from ftplatform.store.access_log import AccessRecord

#: Digits of a row id where it is shown shortened.
_SHOWN = 12

#: An escape inside a JSON text: its letter is no part of the next word.
_ESCAPE = r"\\(?:[bfnrt\"\\/]|u[0-9a-fA-F]{4})"

_TIME = pl.Datetime("us", "UTC")

#: One line per suspicious row: kind (lineage, reference, author), the item named or seen, the name found, who wrote the row when,
#: and when that person first saw an item.
HITS_SCHEMA = {
    "row_id": pl.String,
    "kind": pl.String,
    "eval_row_id": pl.String,
    "name": pl.String,
    "author": pl.String,
    "written_at": _TIME,
    "seen_at": _TIME,
}


def lineage_hits(
    batch: pa.Table, items: pa.Table, access: Sequence[AccessRecord], references: Mapping[str, Collection[str]]
) -> pl.DataFrame:
    """Rows of `batch` with a way to an item, as `HITS_SCHEMA`: one line per row, the strongest kind.

    Args:
        batch, items: tables of `ROW_SCHEMA`.
        access: the ledger of the eval set.
        references: ids of tickets or annotations, each with the row ids of the items it is about.
    """
    rows = pl.DataFrame(
        {name: batch[name] for name in ("row_id", "parents", "meta", "author", "created_at", "first_seen_at")}
    ).select(
        "row_id",
        author=pl.col("author").str.strip_chars(),
        written_at=pl.coalesce(pl.col("created_at").cast(_TIME), pl.col("first_seen_at").cast(_TIME)),
        told=_words(pl.concat_str(pl.col("parents").list.join(" "), pl.col("meta").str.replace_all(_ESCAPE, " "), separator=" ")),
    )
    ids = pl.DataFrame({"eval_row_id": items["row_id"]}).unique(maintain_order=True)
    tickets = pl.DataFrame(
        [(ticket, item) for ticket, about in references.items() for item in about],
        schema={"name": pl.String, "eval_row_id": pl.String},
        orient="row",
    )
    names = pl.concat(
        [
            ids.select("eval_row_id", name="eval_row_id", kind=pl.lit("lineage")),
            ids.select("eval_row_id", name=pl.col("eval_row_id").str.slice(0, _SHOWN), kind=pl.lit("lineage")),
            tickets.join(ids, on="eval_row_id", how="semi").select("eval_row_id", "name", kind=pl.lit("reference")),
        ]
    ).with_columns(told=_words(pl.col("name")))
    names = names.filter(pl.col("told").str.strip_chars() != "")  # punctuation alone would be in every row
    found = (
        rows.with_columns(told=pl.col("told").str.extract_many(names["told"].unique().implode(), overlapping=True))
        .explode("told", empty_as_null=False)
        .join(names, on="told")
        .with_columns(seen_at=pl.lit(None, dtype=_TIME))
    )
    columns = list(HITS_SCHEMA)
    hits = pl.concat([found.select(columns), _authors(rows, items, access).select(columns)])
    strength = pl.col("kind").replace_strict({"lineage": 0, "reference": 1, "author": 2}, return_dtype=pl.Int64)
    return hits.sort(strength, "row_id", "eval_row_id").unique("row_id", keep="first", maintain_order=True)


def _authors(rows: pl.DataFrame, items: pa.Table, access: Sequence[AccessRecord]) -> pl.DataFrame:
    first = (
        exposures(items, access)
        .with_columns(person=_person("by"))
        .group_by("person", maintain_order=True)
        .agg(pl.col("row_id").first().alias("eval_row_id"), pl.col("at").first().alias("seen_at"), pl.col("record").first())
    )
    wrote = rows.filter(pl.col("author").is_not_null()).with_columns(person=_person("author")).join(first, on="person")
    after = (pl.col("written_at") >= pl.col("seen_at")).fill_null(True)
    return wrote.filter(after).with_columns(kind=pl.lit("author"), name=pl.col("record"))


def _words(text: pl.Expr) -> pl.Expr:
    """The words of a text, each between single spaces: a name inside another name is then no match."""
    return pl.lit(" ") + text.str.replace_all(r"[^\w-]+", " ").str.strip_chars() + pl.lit(" ")


def _person(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().str.to_lowercase()
