"""Reading a reward ledger, and its means per checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa

from ftplatform.rows.record_tables import RecordTable, number, read_record_table, text, whole_number
from ftplatform.rows.sources import SourceFile

#: One line per checkpoint and item. `reward` is the proxy the loop optimizes, `outcome` what a person found, in [0, 1].
REWARD_SCHEMA = pa.schema(
    [
        pa.field("checkpoint", pa.int64(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("outcome", pa.float64()),
        pa.field("rater", pa.string()),
    ]
)
_COLUMNS = {"checkpoint": whole_number, "item": text, "reward": number, "outcome": number, "rater": text}


def read_rewards(files: Sequence[SourceFile], *, source: str = "rewards", fields: Mapping[str, str] | None = None) -> RecordTable:
    """Records of `REWARD_SCHEMA`; malformed ones are quarantined."""
    return read_record_table(files, REWARD_SCHEMA, _COLUMNS, source=source, fields=fields)


def per_checkpoint(rewards: pa.Table) -> pa.Table:
    """Per checkpoint, in order: items, mean reward, items with an outcome, mean outcome (null without any)."""
    frame = pl.DataFrame(pl.from_arrow(rewards))
    return (
        frame.group_by("checkpoint")
        .agg(
            items=pl.col("item").n_unique().cast(pl.Int64),
            reward=pl.col("reward").mean(),
            judged=pl.col("outcome").count().cast(pl.Int64),
            outcome=pl.col("outcome").mean(),
        )
        .sort("checkpoint")
        .to_arrow()
    )
