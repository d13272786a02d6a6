"""Rows with other user turns: identity, parents and metadata follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.schema import MESSAGE_TYPE, ROW_SCHEMA, Role, row_id
from ftplatform.rows.turns import turns


def with_user_turns(rows: pa.Table, texts: pl.Series, note: Mapping[str, Any]) -> pa.Table:
    """`rows` with their user turns replaced, in the order of `turns(rows, Role.USER)`; all other turns are the same.

    A changed row gets its own id, names the old one among its parents, and `note` becomes part of its metadata.
    """
    said = turns(rows)
    owner, role = said["row"].to_numpy(), said["role"]
    places = np.flatnonzero(pc.equal(role, str(Role.USER)).to_numpy(zero_copy_only=False))
    before = pl.Series(said["content"])
    after = before.clone().scatter(places, texts) if len(places) else before  # `scatter` works in place
    changed = np.unique(owner[np.flatnonzero((before != after).to_numpy())])
    if not len(changed):
        return rows
    flat = pa.StructArray.from_arrays(
        [role.combine_chunks(), after.to_arrow().cast(pa.string()), said["trainable"].combine_chunks()], fields=list(MESSAGE_TYPE)
    )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=rows.num_rows))])
    messages = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat).cast(ROW_SCHEMA.field("messages").type)
    old = rows.select(["row_id", "parents", "meta"]).take(changed)
    ids = [row_id(spoken) for spoken in messages.take(pa.array(changed)).to_pylist()]
    parents = [
        list(dict.fromkeys([*known, own])) for own, known in zip(old["row_id"].to_pylist(), old["parents"].to_pylist(), strict=True)
    ]
    meta = [orjson.dumps({**orjson.loads(text), **note}).decode() for text in old["meta"].to_pylist()]
    new = {"row_id": pa.array(ids), "parents": pa.array(parents, pa.list_(pa.string())), "meta": pa.array(meta)}
    # Each changed row is taken from behind the old ones.
    order = np.arange(rows.num_rows)
    order[changed] = rows.num_rows + np.arange(len(changed))
    columns = {name: rows[name] for name in ROW_SCHEMA.names} | {"messages": messages}
    for name, values in new.items():
        columns[name] = pa.chunked_array([*rows[name].chunks, values], rows[name].type).take(pa.array(order))
    return pa.table(columns, schema=ROW_SCHEMA)
