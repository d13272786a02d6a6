"""Slices: named parts of the data, assigned by rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.errors import ProjectError
from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.rows.turns import turns

#: Row columns a `field` rule may name besides the keys of `meta`.
_COLUMNS = ("author", "group", "source", "surface")


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRule:
    """Says which rows belong to a slice: exactly one of `tag`, `field` (with `equals`) or `regex`.

    Attributes:
        tag: rows whose own `slices` hold this tag.
        field: a key of `meta`, or one of the columns author, group, source, surface.
        equals: the value it must have; numbers and booleans compare by their JSON text.
        regex: searched in the texts of `role`. RE2 syntax: linear time whatever the pattern, hence no look-around and no
            back-references.
        role: whose texts `regex` reads.

    Raises:
        ProjectError: not exactly one condition.
    """

    tag: str | None = None
    field: str | None = None
    equals: str | None = None
    regex: str | None = None
    role: Role = Role.USER

    def __post_init__(self) -> None:
        if sum(condition is not None for condition in (self.tag, self.field, self.regex)) != 1:
            raise ProjectError("a slice rule needs exactly one of tag, field and regex.", remedy="Split it into several slices.")
        if (self.field is None) != (self.equals is None):
            raise ProjectError("a slice rule with field needs equals, and the other way round.", remedy="Add the missing one.")


def assign_slices(table: pa.Table, rules: Mapping[str, SliceRule]) -> pa.Table:
    """The same rows with the name of every matching rule added to `slices` (sorted, without repetition).

    Args:
        table: rows with `ROW_SCHEMA`.
        rules: slice name to rule.

    Raises:
        ProjectError: a regular expression RE2 does not accept, named with its slice.
    """
    parts = [_no_tags()]
    for name, rule in rules.items():
        members = np.flatnonzero(matching_rows(table, rule, name))
        parts.append(pl.DataFrame({"row": members, "tag": [name] * len(members)}, schema=_no_tags().schema))
    return _tagged(table, pl.concat(parts))


def add_slices(table: pa.Table, membership: pl.DataFrame) -> pa.Table:
    """The same rows with further tags.

    Args:
        table: rows with `ROW_SCHEMA`.
        membership: `row_id` and `slice`, in any order; ids that are not in the table do no harm.
    """
    places = pl.DataFrame({"row_id": table["row_id"]}).with_row_index("row")
    found = places.join(membership, on="row_id").select(pl.col("row").cast(pl.Int64), tag=pl.col("slice").cast(pl.String))
    return _tagged(table, found)


def _tagged(table: pa.Table, added: pl.DataFrame) -> pa.Table:
    """`table` with tags (`row`, `tag`) added to those its rows have."""
    if added.is_empty():
        return table
    combined = pl.concat([_own_tags(table), added]).unique().sort("row", "tag")
    lengths = np.bincount(combined["row"].to_numpy(), minlength=table.num_rows)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    field = ROW_SCHEMA.field("slices")
    lists = pa.ListArray.from_arrays(offsets, combined["tag"].to_arrow().cast(pa.string()), type=field.type)
    return table.set_column(table.schema.get_field_index("slices"), field, lists)


def matching_rows(table: pa.Table, rule: SliceRule, name: str = "") -> np.ndarray:
    """Boolean mask of the rows a rule selects; shape (rows,).

    Raises:
        ProjectError: a regular expression RE2 does not accept.
    """
    if rule.regex is not None:
        return _matching_text(table, rule, name)
    mask = np.zeros(table.num_rows, dtype=bool)
    if rule.tag is not None:
        own = _own_tags(table)
        mask[own.filter(pl.col("tag") == rule.tag)["row"].to_numpy()] = True
        return mask
    if rule.field in _COLUMNS:
        return pc.fill_null(pc.equal(table.column(rule.field), rule.equals), False).to_numpy()
    # Parsing JSON is the expensive part: only rows whose text holds the key at all are parsed.
    quoted_key = orjson.dumps(rule.field).decode()
    candidates = np.flatnonzero(pc.match_substring(table.column("meta"), quoted_key).to_numpy())
    for position, meta in zip(candidates, table.column("meta").take(pa.array(candidates)).to_pylist(), strict=True):
        mask[position] = _as_text(orjson.loads(meta).get(rule.field)) == rule.equals
    return mask


def check_regex(name: str, regex: str) -> None:
    """Says before any data is read whether a slice's regular expression will work.

    Raises:
        ProjectError: RE2 does not accept it; names the slice.
    """
    try:
        pc.match_substring_regex(pa.array([""]), regex)
    except pa.ArrowInvalid as error:
        detail = str(error).removeprefix("Invalid regular expression: ")
        raise ProjectError(
            f"slice {name!r}: the regular expression {regex!r} is not accepted: {detail}.",
            remedy="Use RE2 syntax (no look-ahead, look-behind or back-references).",
        ) from error


def _matching_text(table: pa.Table, rule: SliceRule, name: str) -> np.ndarray:
    check_regex(name, rule.regex or "")
    flat = turns(table, rule.role)
    found = pc.match_substring_regex(flat.column("content"), rule.regex)
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[flat.column("row").to_numpy()[found.to_numpy()]] = True
    return mask


def _no_tags() -> pl.DataFrame:
    return pl.DataFrame(schema={"row": pl.Int64, "tag": pl.String})


def _own_tags(table: pa.Table) -> pl.DataFrame:
    """Columns `row` and `tag`, one line per tag of a row."""
    lengths = pc.fill_null(pc.list_value_length(table.column("slices")), 0).to_numpy()
    tags = pc.list_flatten(table.column("slices"))
    return pl.DataFrame({"row": np.repeat(np.arange(table.num_rows), lengths), "tag": pl.Series(tags, dtype=pl.String)})


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
