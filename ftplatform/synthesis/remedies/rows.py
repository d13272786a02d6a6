"""Rows with other user turns: identity, parents and metadata follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.rewriting import with_texts
from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.rows.turns import turns


def with_user_turns(rows: pa.Table, texts: pl.Series, note: Mapping[str, Any]) -> pa.Table:
    """`rows` with their user turns replaced, in the order of `turns(rows, Role.USER)`; all other turns are the same.

    A changed row gets its own id, names the old one among its parents, and `note` becomes part of its metadata.
    """
    said = turns(rows)
    places = np.flatnonzero(pc.equal(said["role"], str(Role.USER)).to_numpy())
    after = with_texts(rows.select(ROW_SCHEMA.names), places, texts.to_arrow().cast(pa.string()))
    changed = np.flatnonzero(pc.not_equal(rows["row_id"], after["row_id"]).to_numpy())
    if not len(changed):
        return rows
    meta = rows["meta"].to_pylist()
    for row in changed:
        meta[row] = orjson.dumps({**orjson.loads(meta[row]), **note}).decode()
    return after.set_column(ROW_SCHEMA.get_field_index("meta"), ROW_SCHEMA.field("meta"), pa.array(meta))
