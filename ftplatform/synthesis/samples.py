"""User turns of any number of rows, and the hashed sample of whole conversations that the checks look at.

Rows come as a table or as record batches. What is held is bounded by the sample, never by the rows: a conversation is in the sample
because of its hash, so that the same conversations are drawn whatever else the rows hold and however they are cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

#: Rows of `ROW_SCHEMA`, held or streamed.
Rows = pa.Table | Iterable[pa.RecordBatch]

#: Columns of rows that are read; a stream may leave out the others.
COLUMNS = ("row_id", "messages", "source", "slices", "author", "group", "created_at", "meta")

_BATCH_ROWS = 1 << 16
#: No conversation or customer gives more than this part of a sample.
_LARGEST_PART = 20
_SLACK = 4
# Halves go by another hash than the sample.
_SPLIT = 0x5EED
#: Batches kept apart before they are joined; each alone may be tiny.
_PENDING = 64

_SCHEMA = {"text": pl.String, "unit": pl.String, "user": pl.String, "label": pl.String, "created_at": pl.Datetime("us", "UTC")}


@dataclass(frozen=True, slots=True)
class Sample:
    """User turns of whole conversations.

    Attributes:
        frame: text, unit (conversation or customer, else the row), user, label, created_at; ordered by the hash of the unit.
        turns: user turns with text in all rows the sample was drawn from.
    """

    frame: pl.DataFrame
    turns: int

    @property
    def texts(self) -> pl.Series:
        """The texts of the sample."""
        return self.frame["text"]

    @property
    def units(self) -> pl.Series:
        """The conversation of each text."""
        return self.frame["unit"]

    def __len__(self) -> int:
        return len(self.frame)

    def only(self, wanted: pl.Expr) -> Sample:
        """The turns for which `wanted` is true."""
        kept = self.frame.filter(wanted)
        return Sample(kept, len(kept))

    def halves(self, seed: int = 0) -> tuple[Sample, Sample]:
        """Two halves without a conversation in common, by another hash than the sample's own."""
        odd = _keys(self.units, seed ^ _SPLIT) % 2 == 1
        first, second = self.frame.filter(~odd), self.frame.filter(odd)
        return Sample(first, len(first)), Sample(second, len(second))


def user_turns(rows: Rows, label_by: str | None = None) -> Iterator[pl.DataFrame]:
    """User turns with text, batch by batch: text, unit, user, label, created_at.

    A unit is what is sampled and resampled as a whole: the `group` inside its source, else the row. Copies of a row are different
    people who said the same, so the row's position is part of its name.

    Args:
        label_by: what `label` holds: ``"source"``, ``"slice"`` (the first one), or ``"meta:KEY"`` (a key of the metadata).

    Raises:
        InputDataError: on another `label_by`.
    """
    before = 0
    for table in _tables(rows):
        said = turns(table, Role.USER)
        labels = _labels(table, label_by)
        position = pl.int_range(before, before + table.num_rows, eager=True)
        columns = {name: pl.Series(table[name]) for name in ("row_id", "source", "group", "author", "created_at")}
        keys = pl.DataFrame({**columns, "label": labels, "position": position}).select(
            unit=pl.coalesce(
                pl.concat_str("source", "group", separator="\x1f"), pl.concat_str("row_id", "position", separator="\x1f")
            ),
            user=pl.coalesce("author", "group"),
            label="label",
            created_at=pl.col("created_at").cast(pl.Datetime("us", "UTC")),
        )
        before += table.num_rows
        frame = keys[pl.Series(said["row"])].insert_column(0, pl.Series("text", said["content"]))
        yield frame.filter(pl.col("text").str.contains(r"\S"))


def sample_turns(rows: Rows, cap: int, seed: int = 0, *, label_by: str | None = None) -> Sample:
    """Conversations in the order of their hash, as many as fit `cap` user turns; of each at most a twentieth of `cap`.

    Args:
        rows: read once; at most a few times `cap` turns are held.
        label_by: see `user_turns`.
    """
    share = max(1, cap // _LARGEST_PART)
    held = pl.DataFrame(schema={**_SCHEMA, "key": pl.UInt64})
    pending: list[pl.DataFrame] = []
    limit, count = None, 0
    for frame in user_turns(rows, label_by):
        count += len(frame)
        keyed = frame.with_columns(key=_keys(frame["unit"], seed))
        pending.append(keyed if limit is None else keyed.filter(pl.col("key") < limit))
        if sum(map(len, pending)) > _SLACK * cap or len(pending) > _PENDING:
            held, limit = _prefix(pl.concat([held, *pending]), cap, share, limit)
            pending = []
    held, _ = _prefix(pl.concat([held, *pending]), cap, share, limit)
    return Sample(held.drop("key"), count)


def split_rows(rows: pa.Table, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Two halves of the rows without a conversation in common: one to learn from, one to measure on."""
    keys = pl.DataFrame({name: pl.Series(rows[name]) for name in ("source", "group", "row_id")})
    unit = pl.coalesce(pl.concat_str("source", "group", separator="\x1f"), "row_id")
    odd = (_keys(keys.select(unit).to_series(), seed ^ _SPLIT) % 2 == 1).to_arrow()
    return rows.filter(pc.invert(odd)), rows.filter(odd)


def _prefix(frame: pl.DataFrame, cap: int, share: int, limit: int | None) -> tuple[pl.DataFrame, int | None]:
    """The first conversations that fit, and the hash of the first that does not.

    Sizes only grow as rows come in, so a conversation that does not fit now never will.
    """
    ordered = frame.sort("key", "unit", maintain_order=True)
    ordered = ordered.filter(pl.int_range(pl.len()).over("unit") < share)
    sizes = ordered.group_by("key", maintain_order=True).len().with_columns(total=pl.col("len").cum_sum())
    beyond = sizes.filter(pl.col("total") > cap)
    if len(beyond):
        limit = int(beyond["key"][0])
        ordered = ordered.filter(pl.col("key") < limit)
    return ordered, limit


def _keys(units: pl.Series, seed: int) -> pl.Series:
    """64-bit hash of each unit, the same on every machine; computed once for each distinct one."""
    distinct = units.unique(maintain_order=True)
    keys = [xxhash.xxh3_64_intdigest(unit.encode(), seed) for unit in distinct]
    table = pl.DataFrame({"unit": distinct, "key": pl.Series(keys, dtype=pl.UInt64)})
    return pl.DataFrame({"unit": units}).join(table, on="unit", how="left", maintain_order="left")["key"]


def _tables(rows: Rows) -> Iterator[pa.Table]:
    batches: Iterable[pa.RecordBatch] = rows
    if isinstance(rows, pa.Table):
        batches = rows.to_batches(max_chunksize=_BATCH_ROWS)  # pyright: ignore[reportAttributeAccessIssue]
    for batch in batches:
        yield pa.Table.from_batches([batch])


def _labels(table: pa.Table, by: str | None) -> pl.Series:
    if by is None:
        return pl.Series([None], dtype=pl.String).new_from_index(0, table.num_rows)
    if by == "source":
        return pl.Series(table["source"])
    if by == "slice":
        return pl.Series(table["slices"]).list.first()
    kind, _, key = by.partition(":")
    if kind == "meta" and key and "'" not in key:
        return pl.Series(table["meta"]).str.json_path_match(f"$['{key}']")
    raise InputDataError(f"{by!r} does not name a grouping of rows.", remedy="Give 'source', 'slice' or 'meta:KEY'.")
