"""Slices as the checks see them: declared by a rule or discovered from the rows' own tags, each with a survival floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import Role
from ftplatform.rows.slices import SliceRule, matching_rows

#: Rows of a slice that must survive any filter (no test can protect small slices: 3 rows never reach p < .01).
FLOOR = 5
#: The same for slices marked `must_keep`.
MUST_KEEP_FLOOR = 8


@dataclass(frozen=True, slots=True)
class SliceSpec:
    """A declared slice: a name and exactly one of `tag`, `field` with `equals`, or `regex` (see `rows.slices.SliceRule`).

    Attributes:
        name: how reports call it.
        must_keep: raises the survival floor from 5 rows to 8.

    Raises:
        ProjectError: not exactly one condition.
    """

    name: str
    tag: str | None = None
    field: str | None = None
    equals: str | None = None
    regex: str | None = None
    role: Role = Role.USER
    must_keep: bool = False

    def __post_init__(self) -> None:
        _ = self.rule  # refuses a wrong combination now, not when the rows are read

    @property
    def rule(self) -> SliceRule:
        """Which rows belong to it."""
        return SliceRule(tag=self.tag, field=self.field, equals=self.equals, regex=self.regex, role=Role(self.role))

    def record(self) -> dict[str, Any]:
        """The slice for a verdict's config."""
        return {**asdict(self), "role": str(self.role)}


def slice_membership(
    rows: pa.Table, slices: Sequence[SliceSpec] = (), *, discover: bool = True, found: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Which row belongs to which slice.

    Args:
        rows: table of `ROW_SCHEMA`.
        slices: declared slices.
        discover: also make one slice of every tag the rows carry. A tag that a declared slice reads, or is called like, is not
            counted a second time.
        found: further slices by row id: frame with `row_id` and `slice` (`discovery.discover_slices`). A name that is declared keeps
            its declared rows.

    Returns:
        Frame with `row` (Int64 position in `rows`) and `slice` (String), each pair once, sorted.

    Raises:
        InputDataError: two declared slices share a name.
        ProjectError: a regular expression is not accepted.
    """
    names = [declared.name for declared in slices]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputDataError(f"slice names repeat: {', '.join(repeated)}.", remedy="Give each slice its own name.")
    parts = [pl.DataFrame(schema={"row": pl.Int64, "slice": pl.String})]
    if discover:
        claimed = {declared.tag for declared in slices if declared.tag is not None} | set(names)
        tags = exploded(rows, "slices").select("row", slice=pl.col("value").cast(pl.String))
        parts.append(tags.filter(~pl.col("slice").is_in(sorted(claimed))))
    for declared in slices:
        members = np.flatnonzero(matching_rows(rows, declared.rule, declared.name))
        parts.append(pl.DataFrame({"row": members}, schema={"row": pl.Int64}).with_columns(slice=pl.lit(declared.name)))
    if found is not None:
        places = pl.DataFrame({"row_id": rows["row_id"]}).with_row_index("row").select("row_id", pl.col("row").cast(pl.Int64))
        parts.append(places.join(found.filter(~pl.col("slice").is_in(names)), on="row_id").select("row", "slice"))
    return pl.concat(parts).unique().sort("slice", "row")


def floors(
    membership: pl.DataFrame, slices: Sequence[SliceSpec], floor: int = FLOOR, must_keep_floor: int = MUST_KEEP_FLOOR
) -> dict[str, int]:
    """Survival floor of every slice of `membership` and of every declared one."""
    must_keep = {declared.name for declared in slices if declared.must_keep}
    names = sorted(set(membership["slice"].unique().to_list()) | {declared.name for declared in slices})
    return {name: must_keep_floor if name in must_keep else floor for name in names}


def exploded(rows: pa.Table, column: str) -> pl.DataFrame:
    """One line per element of a list column: `row` (Int64 position) and `value`; empty lists have none."""
    frame = pl.DataFrame({"value": pl.Series(rows.column(column), dtype=pl.List(pl.String))}).with_row_index("row")
    return frame.with_columns(pl.col("row").cast(pl.Int64)).explode("value", empty_as_null=False)
