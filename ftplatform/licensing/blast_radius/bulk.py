"""Writing many rows at once: `executemany` on SQLite, `COPY` on Postgres; both keep what is there or replace it, as told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Rows handed over at a time, and keys per lookup; bounds memory, and SQLite takes at most 32,766 parameters.
_ROWS, _KEYS = 50_000, 10_000


def upsert(connection: Connection, table: str, frame: pl.DataFrame, key: Sequence[str], replaced: Sequence[str] = ()) -> None:
    """Insert the rows of `frame` (columns named as in `table`).

    Args:
        key: the unique columns; `frame` holds each key once.
        replaced: columns that a row already there takes from `frame`; if empty, it stays as it is.
    """
    if frame.is_empty():
        return
    columns = ", ".join(frame.columns)
    assignments = ", ".join(f"{column} = excluded.{column}" for column in replaced)
    conflict = f"ON CONFLICT ({', '.join(key)}) DO " + (f"UPDATE SET {assignments}" if replaced else "NOTHING")
    cursor = connection.connection.cursor()
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * frame.width)
        for part in frame.iter_slices(_ROWS):
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places}) {conflict}", part.rows())
        return
    incoming = f"incoming_{table}"
    cursor.execute(f"CREATE TEMPORARY TABLE {incoming} (LIKE {table}) ON COMMIT DROP")
    for part in frame.iter_slices(_ROWS):
        # Polars and Postgres agree: an empty field is NULL, a quoted empty field is an empty text.
        text = io.BytesIO()
        part.write_csv(text, include_header=False)
        text.seek(0)
        cursor.copy_expert(f"COPY {incoming} ({columns}) FROM STDIN WITH (FORMAT csv)", text)
    cursor.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {incoming} {conflict}")
    cursor.execute(f"DROP TABLE {incoming}")


def numbers(connection: Connection, table: str, name: str, wanted: pl.Series) -> pl.DataFrame:
    """Those of `wanted` (unique values of the column `name`) that `table` holds, as columns `name` and ``id``."""
    from sqlalchemy import String, bindparam, text

    if len(wanted) > _KEYS:
        rows = connection.execute(text(f"SELECT {name}, id FROM {table}")).all()
    else:
        statement = text(f"SELECT {name}, id FROM {table} WHERE {name} IN :wanted").bindparams(
            bindparam("wanted", expanding=True, type_=String())
        )
        rows = connection.execute(statement, {"wanted": wanted.to_list()}).all()
    schema = {name: pl.String(), "id": pl.Int64()}
    return pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row").filter(pl.col(name).is_in(wanted.implode()))


def numbered(connection: Connection, table: str, name: str, wanted: pl.Series) -> pl.DataFrame:
    """All of `wanted` as columns `name` and ``id``: the number each has, or the next free ones. The caller holds the write lock."""
    from sqlalchemy import text

    known = numbers(connection, table, name, wanted)
    new = wanted.to_frame(name).join(known, on=name, how="anti", maintain_order="left")
    last = connection.execute(text(f"SELECT COALESCE(MAX(id), 0) FROM {table}")).scalar_one()
    return pl.concat([known, new.with_columns((pl.int_range(1, pl.len() + 1, dtype=pl.Int64) + last).alias("id"))])
