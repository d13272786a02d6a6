"""Human verdicts on pairs of eval item and training row."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from ftplatform.errors import InputDataError

#: A person's word about a pair: the training row is a `paraphrase` of the item, or it is `different`.
REVIEW_SCHEMA = pa.schema(
    [
        pa.field("eval_row_id", pa.string(), nullable=False),
        pa.field("train_row_id", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
VERDICTS = ("paraphrase", "different")


class InvalidReview(InputDataError):
    """The table of reviews has another schema, an unknown verdict, or a verdict by nobody."""


def latest_reviews(reviewed: pa.Table | None) -> pl.DataFrame:
    """The last verdict on each pair: eval_row_id, train_row_id, verdict, by. At equal time `paraphrase` stands.

    Raises:
        InvalidReview: naming the column, or the pair.
    """
    table: pa.Table = reviewed if reviewed is not None else REVIEW_SCHEMA.empty_table()
    missing = [name for name in REVIEW_SCHEMA.names if name not in table.column_names]
    if missing:
        raise InvalidReview(f"The table of reviews has no column {missing[0]!r}.", remedy=f"Give {', '.join(REVIEW_SCHEMA.names)}.")
    frame = pl.DataFrame({name: table[name] for name in REVIEW_SCHEMA.names})
    unfit = frame.filter(
        ~pl.col("verdict").is_in(VERDICTS).fill_null(False)
        | (pl.col("by").fill_null("").str.strip_chars() == "")
        | pl.any_horizontal(pl.col("eval_row_id", "train_row_id", "at").is_null())
    )
    if len(unfit):
        first = unfit.row(0, named=True)
        raise InvalidReview(
            f"The review of training row {first['train_row_id']} against eval item {first['eval_row_id']} says"
            f" {first['verdict']!r} by {first['by']!r} at {first['at']}.",
            remedy=f"Every review needs a person, a time and one of: {', '.join(VERDICTS)}.",
        )
    # "different" sorts before "paraphrase", so the more cautious of two simultaneous verdicts is last.
    return (
        frame.sort("at", "verdict")
        .unique(["eval_row_id", "train_row_id"], keep="last", maintain_order=True)
        .select("eval_row_id", "train_row_id", "verdict", "by")
    )
