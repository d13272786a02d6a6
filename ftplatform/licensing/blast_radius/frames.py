"""What `GraphIndex.load` is given, as checked frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import polars as pl

from ftplatform.errors import InputDataError
from ftplatform.licensing.blast_radius.lineage import ROLE_CODES, Edge, LineageRole, SourceRows, Version

VERSION_COLUMNS: Mapping[str, pl.DataType] = {
    "snapshot": pl.String(),
    "asset": pl.String(),
    "created_at": pl.String(),
    "live": pl.Boolean(),
    "provenance_complete": pl.Boolean(),
    "n_rows": pl.Int64(),
    "tokens": pl.Int64(),
    "steps": pl.Int64(),
    "gpu_seconds": pl.Float64(),
    "owner": pl.String(),
}
EDGE_COLUMNS: Mapping[str, pl.DataType] = {"parent": pl.String(), "child": pl.String(), "role": pl.String()}
SOURCE_COLUMNS: Mapping[str, pl.DataType] = {
    "source": pl.String(),
    "version": pl.String(),
    "role": pl.String(),
    "n_rows": pl.Int64(),
    "shared_rows": pl.Int64(),
    "derived_rows": pl.Int64(),
    "tokens": pl.Int64(),
    "step_share": pl.Float64(),
}


def version_frame(data: Iterable[Version] | pl.DataFrame) -> pl.DataFrame:
    """`VERSION_COLUMNS` and ``family``; the last of several entries for one snapshot counts."""
    frame = _frame(data, VERSION_COLUMNS, Version, ("snapshot", "asset"))
    return frame.unique("snapshot", keep="last", maintain_order=True).with_columns(
        pl.col("asset").str.split("/").list.first().alias("family"), pl.col("live", "provenance_complete").cast(pl.Int8)
    )


def edge_frame(data: Iterable[Edge] | pl.DataFrame) -> pl.DataFrame:
    """`EDGE_COLUMNS`, with role codes."""
    return _with_role_codes(_frame(data, EDGE_COLUMNS, Edge, ("parent", "child", "role")))


def source_frame(data: Iterable[SourceRows] | pl.DataFrame) -> pl.DataFrame:
    """`SOURCE_COLUMNS`, with role codes; without entries that count no row of any kind."""
    frame = _frame(data, SOURCE_COLUMNS, SourceRows, ("source", "version"))
    none = (pl.col("n_rows") == 0) & (pl.col("derived_rows").fill_null(0) == 0)
    frame = frame.with_columns(pl.col("role").fill_null(str(LineageRole.ROWS))).filter(~none.fill_null(False))
    return _with_role_codes(frame.unique(["source", "version"], keep="last", maintain_order=True))


def _frame(data: Any, columns: Mapping[str, pl.DataType], kind: type, required: tuple[str, ...]) -> pl.DataFrame:
    if isinstance(data, pl.DataFrame):
        absent = [pl.lit(None, dtype).alias(name) for name, dtype in columns.items() if name not in data.columns]
        frame = data.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in columns.items())
    else:
        names = [field.name for field in fields(kind)]
        rows = [tuple(getattr(item, name) for name in names) for item in data]
        frame = pl.DataFrame(rows, schema=dict(columns), orient="row")
    frame = frame.with_columns(pl.col(pl.Boolean).fill_null(False))
    for name, dtype in columns.items():
        value = pl.col(name)
        if name in required:
            _refuse(frame, value.is_null() | (value == ""), f"{kind.__name__} without {name}")
        if dtype == pl.String():
            _refuse(frame, value.str.contains("\x00", literal=True), f"{kind.__name__} with the character NUL in {name}")
        if dtype.is_numeric():
            _refuse(
                frame,
                ~value.is_between(0, 1 if name == "step_share" else float("inf")),
                f"{kind.__name__} with an impossible {name}",
            )
    return frame


def _refuse(frame: pl.DataFrame, bad: pl.Expr, what: str) -> None:
    found = frame.filter(bad)
    if not found.is_empty():
        shown = {name: value for name, value in found.row(0, named=True).items() if value is not None}
        raise InputDataError(f"{what}: {shown!r}.", remedy="Correct the entry; leave out (null) what is not known.")


def _with_role_codes(frame: pl.DataFrame) -> pl.DataFrame:
    names = {str(role): code for role, code in ROLE_CODES.items()}
    codes = frame["role"].replace_strict(names, default=None, return_dtype=pl.Int16)
    if codes.null_count():
        unknown = frame.filter(codes.is_null()).row(0, named=True)
        raise InputDataError(
            f"{unknown['role']!r} is no role in lineage: {unknown!r}.", remedy=f"Use one of {', '.join(LineageRole)}."
        )
    return frame.with_columns(codes.alias("role"))
