"""Sidecars: one Parquet file per version that says which source each row came from, sorted by source.

The database knows that a version holds 370 rows of a source; a takedown needs to know which. Twenty million rows are too many for a
database that should fit on a laptop, and sorted by source Parquet answers by reading the few row groups that can hold the name.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.errors import CorruptArtifact, InputDataError
from ftplatform.licensing.blast_radius.lineage import ROLE_CODES, LineageRole, SourceRows
from ftplatform.licensing.combinations import UNTRACEABLE

#: One record per row and source. `role` is ``rows`` if the row is of this source, else how the row was derived from it.
#: `alternatives`: how many other sources offer the same row. `parents`: as in the row.
SIDECAR_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("alternatives", pa.int32(), nullable=False),
        pa.field("parents", pa.list_(pa.string()), nullable=False),
    ]
)
#: Rows per row group: what is read at least, about 2 MB of row ids.
ROW_GROUP_ROWS = 32_768
#: Row groups one thread reads at a time: half a million rows.
_GROUPS_AT_ONCE = 16

_ROW_ID = r"^[0-9a-f]{64}$"
_ROWS = str(LineageRole.ROWS)
#: Parents of these kinds are models, which leave behavior; other names are data.
_MODELS = ("teacher:", "base_models/")


def write_sidecar(rows: pa.Table, path: Path, *, ancestors: Sequence[Path] = ()) -> int:
    """Write the sidecar of a row table, atomically.

    Args:
        rows: columns `row_id`, `origins`, `parents` (others are ignored); each row id once.
        path: file to create or replace.
        ancestors: sidecars of the versions it was made from: a parent that is a row id counts for every source of that row. One that is
            found neither there nor in `rows` counts as the source `combinations.UNTRACEABLE`.

    Returns:
        Number of records.

    Raises:
        InputDataError: if a column is missing.
    """
    if missing := [name for name in ("row_id", "origins", "parents") if name not in rows.column_names]:
        raise InputDataError(f"The rows for {path.name} have no column {missing[0]!r}.", remedy="Give a table of rows (SPEC 2.6).")
    frame = pl.DataFrame(pl.from_arrow(rows.select(["row_id", "origins", "parents"])))
    frame = frame.with_columns(pl.col("origins", "parents").list.drop_nulls().list.unique(maintain_order=True))
    source = pl.col("origins").alias("source")
    own = (
        frame.select(source, "row_id", pl.lit(_ROWS).alias("role"), _alternatives(), "parents")
        .explode("source")
        .drop_nulls("source")
    )
    derived = _derived(frame, own, ancestors).with_columns(pl.lit(0, pl.Int32).alias("alternatives"))
    derived = derived.join(own, on=["row_id", "source"], how="anti").join(frame.select("row_id", "parents"), on="row_id")
    records = pl.concat([own, derived.select(own.columns)]).sort("source", maintain_order=True)
    table = records.to_arrow().cast(SIDECAR_SCHEMA)
    _write(table, path)
    return table.num_rows


def rows_of_source(paths: Iterable[Path], source: str) -> pl.DataFrame:
    """Rows of one source, or derived from it: columns `row_id`, `role`, `alternatives`; once for every sidecar that holds them.

    Reads only row groups whose statistics allow the name, checksums verified.

    Raises:
        InputDataError: if a file is missing or is no sidecar.
        CorruptArtifact: if a page does not match its checksum.
    """
    empty = pl.DataFrame(schema={"row_id": pl.String, "role": pl.String, "alternatives": pl.Int32})
    parts = [part for path in paths for part in _parts_with(path, source)]
    # Decoding row ids is what it takes, and Arrow decodes one column on one core: a source of millions of rows needs them all.
    with ThreadPoolExecutor() as pool:
        return pl.concat([empty, *pool.map(lambda part: _rows_in(part, source), parts)])


def tally(path: Path, version: str, tokens: pl.DataFrame | None = None) -> list[SourceRows]:
    """What of each source is in one version, for `GraphIndex.load`.

    Args:
        path: its sidecar.
        version: its snapshot.
        tokens: columns `row_id`, `tokens`; without them token counts stay unknown.

    Raises: as `rows_of_source`.
    """
    parts = [_counts(frame, tokens) for frame in _frames(path, ["source", "row_id", "role", "alternatives"])]
    if not parts:
        return []
    totals = (
        pl.concat(parts)
        .group_by("source")
        .agg(pl.col("n_rows", "shared_rows", "derived_rows", "tokens").sum(), pl.col("code").min())
    )
    if tokens is None:
        totals = totals.with_columns(pl.lit(None, pl.Int64).alias("tokens"))
    roles = {code: role for role, code in ROLE_CODES.items()}
    return [SourceRows(version=version, role=roles[row.pop("code")], **row) for row in totals.sort("source").iter_rows(named=True)]


def holders(sidecars: Mapping[str, Path], row_ids: Collection[str], name: str) -> list[SourceRows]:
    """Versions that hold some rows, or rows derived from them over any number of generations.

    Args:
        sidecars: by snapshot; give all there are, a version left out counts as clean.
        row_ids: the rows, e.g. those a notice lists.
        name: what to call them, as a source.

    Returns:
        Entries for `GraphIndex.blast_radius_of_rows`. Raises as `rows_of_source`.
    """
    wanted = pl.DataFrame({"row_id": list(row_ids)}, schema={"row_id": pl.String}).unique()
    derived, newest = wanted.clear(), wanted
    while not newest.is_empty():
        children = [
            frame.explode("parents").join(newest.rename({"row_id": "parents"}), on="parents", how="semi").select("row_id")
            for path in sidecars.values()
            for frame in _frames(path, ["row_id", "parents"])
        ]
        newest = (
            pl.concat([newest.clear(), *children])
            .unique()
            .join(derived, on="row_id", how="anti")
            .join(wanted, on="row_id", how="anti")
        )
        derived = pl.concat([derived, newest])
    found = []
    for snapshot, path in sidecars.items():
        held = pl.concat([wanted.clear(), *_frames(path, ["row_id"])]).unique()
        rows, made = (held.join(some, on="row_id", how="semi").height for some in (wanted, derived))
        if rows or made:
            found.append(SourceRows(source=name, version=snapshot, n_rows=rows, derived_rows=made))
    return found


def _alternatives() -> pl.Expr:
    return (pl.col("origins").list.len().cast(pl.Int32) - 1).alias("alternatives")


def _derived(frame: pl.DataFrame, own: pl.DataFrame, ancestors: Sequence[Path]) -> pl.DataFrame:
    """Columns row_id, source, role: what each row was derived from, through rows of `ancestors` and of the table itself."""
    parents = frame.select("row_id", pl.col("parents").alias("parent")).explode("parent").drop_nulls("parent")
    is_row = pl.col("parent").str.contains(_ROW_ID)
    is_model = pl.any_horizontal(pl.col("parent").str.starts_with(prefix) for prefix in _MODELS)
    role = pl.when(is_model).then(pl.lit(str(LineageRole.TEACHER))).otherwise(pl.lit(str(LineageRole.PROMPT_SEED))).alias("role")
    named = parents.filter(~is_row).select("row_id", pl.col("parent").alias("source"), role)
    links = parents.filter(is_row)
    if links.is_empty() and not ancestors:
        return _strongest([named])
    # Sources of every row that somebody names as a parent, and what earlier versions already knew about the rows themselves.
    wanted = pl.concat([links["parent"], frame["row_id"]]).unique().to_frame("row_id")
    columns = ["row_id", "source", "role"]
    earlier = [
        part.select(columns).join(wanted, on="row_id", how="semi")
        for path in ancestors
        for part in _frames(path, ["source", "row_id", "role"])
    ]
    before = pl.concat([named.select(columns).clear(), *earlier]).unique()
    inherited = before.filter(pl.col("role") != _ROWS).join(frame, on="row_id", how="semi").select(columns)
    known = pl.concat([before, own.select(columns), named.select(columns), inherited]).unique()
    found = pl.concat([named.select(columns), inherited])
    newest = known
    while not newest.is_empty():  # one generation a turn; what is found already is not followed again, so cycles end
        handed_on = links.join(newest, left_on="parent", right_on="row_id").select("row_id", "source", _as_parent())
        newest = handed_on.unique().join(found, on=columns, how="anti")
        found = pl.concat([found, newest])
    lost = links.join(known, left_on="parent", right_on="row_id", how="anti").join(
        frame, left_on="parent", right_on="row_id", how="anti"
    )
    untraceable = lost.select("row_id", pl.lit(UNTRACEABLE).alias("source"), pl.lit(str(LineageRole.PROMPT_SEED)).alias("role"))
    return _strongest([found, untraceable])


def _as_parent() -> pl.Expr:
    """Role of a parent row's source to the child: text made from its text, unless a model only wrote the parent."""
    return pl.when(pl.col("role") == _ROWS).then(pl.lit(str(LineageRole.PROMPT_SEED))).otherwise(pl.col("role")).alias("role")


def _strongest(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """One record per row and source. ``prompt_seed`` sorts before ``teacher``."""
    return (
        pl.concat([part.select("row_id", "source", "role") for part in parts])
        .group_by("row_id", "source")
        .agg(pl.col("role").min())
    )


def _counts(frame: pl.DataFrame, tokens: pl.DataFrame | None) -> pl.DataFrame:
    if tokens is not None:
        frame = frame.join(tokens, on="row_id", how="left")
    own = pl.col("role") == _ROWS
    codes = pl.col("role").replace_strict({str(role): code for role, code in ROLE_CODES.items()}, return_dtype=pl.Int64)
    return frame.group_by("source").agg(
        own.sum().cast(pl.Int64).alias("n_rows"),
        (own & (pl.col("alternatives") > 0)).sum().cast(pl.Int64).alias("shared_rows"),
        (~own).sum().cast(pl.Int64).alias("derived_rows"),
        (pl.lit(0, pl.Int64) if tokens is None else pl.col("tokens").cast(pl.Int64)).sum().alias("tokens"),
        codes.min().alias("code"),
    )


# ---- files --------------------------------------------------------------------------------------------------------------------


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        pq.write_table(
            table,
            draft,
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
            compression_level=1,
            use_dictionary=["source", "role", "parents.list.element"],
            write_statistics=["source"],
            write_page_checksum=True,
            sorting_columns=pq.SortingColumn.from_ordering(table.schema, [("source", "ascending")]),
        )
        with open(draft, "rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise InputDataError(f"There is no sidecar {path}.", remedy="Write it again from the version's rows.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputDataError(f"{path} is no sidecar: {error}.", remedy="Write it again from the version's rows.") from error
    if not file.schema_arrow.equals(SIDECAR_SCHEMA):
        raise InputDataError(f"{path} has other columns than a sidecar.", remedy="Write it again from the version's rows.")
    return file


@dataclass(frozen=True, slots=True)
class _Part:
    """Row groups of one file to be read together; `mixed` if they may hold other sources too."""

    path: Path
    groups: list[int]
    mixed: bool


def _parts_with(path: Path, source: str) -> Iterator[_Part]:
    """The row groups whose statistics allow the source."""
    only: list[int] = []
    mixed: list[int] = []
    with _open(path) as file, _decoding(path):
        for group in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(group).column(0).statistics
            if statistics is None or not statistics.has_min_max:
                mixed.append(group)
            elif statistics.min <= source <= statistics.max:
                (only if statistics.min == statistics.max else mixed).append(group)
    for groups in (only, mixed):
        for start in range(0, len(groups), _GROUPS_AT_ONCE):
            yield _Part(path, groups[start : start + _GROUPS_AT_ONCE], groups is mixed)


def _rows_in(part: _Part, source: str) -> pl.DataFrame:
    columns = ["row_id", "role", "alternatives"]
    with _open(part.path) as file, _decoding(part.path):
        frame = pl.DataFrame(
            pl.from_arrow(file.read_row_groups(part.groups, columns=["source", *columns] if part.mixed else columns))
        )
    return frame.filter(pl.col("source") == source).drop("source") if part.mixed else frame


def _frames(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    with _open(path) as file, _decoding(path):
        for group in range(file.metadata.num_row_groups):
            yield pl.DataFrame(pl.from_arrow(file.read_row_group(group, columns=list(columns)))).select(columns)


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptArtifact(f"{path} cannot be decoded: {error}.", remedy="Write it again from the version's rows.") from error
