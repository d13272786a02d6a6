"""Rows whose messages say something else: the one way to rebuild the message column, and what follows from it for the row.

The house rule: a row with another text is another row. It has the id of its new text, keeps its origins and all else, and names the
row it was made from among its parents, unless that row is not to be known any more (`traced=False`: personal data was taken out).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from ftplatform.rows.schema import MESSAGE_TYPE, ROW_SCHEMA

_MESSAGES = ROW_SCHEMA.field("messages").type

#: Which row was made from which, and what that one said. Ids are hashes of texts: a line binds two texts.
REWRITES_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("made_from", pa.string(), nullable=False),
        pa.field("messages", _MESSAGES, nullable=False),
    ]
)


def row_ids(messages: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`schema.row_id` of every row of a message column, string array.

    Raises:
        ValueError: if a text holds a lone surrogate; Arrow itself refuses such a text in most cases.
    """
    return pa.array([id_ for chunk in _chunks(messages) for id_ in _hashed(chunk)], pa.string())


def message_column(flat: pa.Table | pa.StructArray, lengths: ArrayLike) -> pa.Array:
    """A message column from its messages.

    Args:
        flat: `role`, `content`, `trainable` of all messages, row by row.
        lengths: (rows,): messages of each row; they sum up to the messages there are.
    """
    if isinstance(flat, pa.StructArray):
        columns = [flat.field(field.name) for field in MESSAGE_TYPE]
    else:
        columns = [flat[field.name].combine_chunks().cast(field.type) for field in MESSAGE_TYPE]
    starts = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))])
    structs = pa.StructArray.from_arrays(columns, fields=list(MESSAGE_TYPE))
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), structs, type=_MESSAGES)


def with_texts(rows: pa.Table, places: ArrayLike, texts: pa.Array | pa.ChunkedArray, *, traced: bool = True) -> pa.Table:
    """`rows` with some of their messages saying something else; rows and messages stay in their order.

    A message that says what it said before is no change; rows without a change are the same in every column.

    Args:
        rows: table of `ROW_SCHEMA`.
        places: (edits,): positions of the messages in `turns.turns(rows)`, ascending, each once.
        texts: (edits,): what they say now.
        traced: whether a changed row names the row it was made from among its parents.

    Raises:
        ValueError: places out of order or out of range, or not as many as texts.
    """
    where = np.asarray(places, np.int64)
    if len(where) != len(texts) or (np.diff(where) <= 0).any() or (len(where) and where[0] < 0):
        raise ValueError(f"{len(texts)} texts for {len(where)} places; places have to ascend")
    parts, begin = [], 0
    for batch in rows.to_batches():
        lengths = _lengths(batch.column("messages"))
        end = begin + int(lengths.sum())
        first, last = np.searchsorted(where, [begin, end])
        parts.append(_edited(batch, lengths, where[first:last] - begin, texts.slice(first, last - first), traced))
        begin = end
    if len(where) and where[-1] >= begin:
        raise ValueError(f"there is no message {where[-1]}; the rows have {begin}")
    return pa.Table.from_batches(parts, schema=rows.schema)


def with_messages(rows: pa.Table, at: ArrayLike, messages: pa.Array | pa.ChunkedArray, *, traced: bool = True) -> pa.Table:
    """`rows` with all messages of some rows replaced: for edits that add or remove messages, or change who learns from them.

    A row whose texts are as before keeps its id and parents, whatever its loss mask became.

    Args:
        rows: table of `ROW_SCHEMA`.
        at: (edits,): positions of the rows, ascending, each once.
        messages: (edits,): their messages, the type of the message column.
        traced: as in `with_texts`.

    Raises:
        ValueError: positions out of order or out of range, or not as many as messages.
    """
    where = np.asarray(at, np.int64)
    if (
        len(where) != len(messages)
        or (np.diff(where) <= 0).any()
        or (len(where) and not 0 <= where[0] <= where[-1] < rows.num_rows)
    ):
        raise ValueError(
            f"messages of {len(messages)} rows for {len(where)} positions, which have to ascend within {rows.num_rows}"
        )
    new = messages.combine_chunks() if isinstance(messages, pa.ChunkedArray) else messages
    parts, begin = [], 0
    for batch in rows.to_batches():
        first, last = np.searchsorted(where, [begin, begin + batch.num_rows])
        parts.append(_with(batch, where[first:last] - begin, new.slice(first, last - first).cast(_MESSAGES), traced))
        begin += batch.num_rows
    return pa.Table.from_batches(parts, schema=rows.schema)


def settled(rows: pa.Table, before: pa.Table, steps: Iterable[Mapping[str, str]]) -> tuple[pa.Table, pa.Table]:
    """Rows after several steps as if they had been one: rows in between are in no snapshot, so nobody could look them up.

    Args:
        rows: the rows after all steps.
        before: the rows before the first step, table of `ROW_SCHEMA`.
        steps: of each step, id before to id after of the rows that changed.

    Returns:
        The rows, without rows in between among their parents, and the record of what was made from which row (`REWRITES_SCHEMA`).
    """
    made, known = dict[str, str](), pl.DataFrame({"made_from": before["row_id"]}).with_row_index("at")
    between = set[str]()
    for step in steps:
        between |= set(step)
        made = {old: step.get(new, new) for old, new in made.items()} | {old: new for old, new in step.items() if old not in made}
    first = known.unique("made_from", keep="first", maintain_order=True)
    ids = {"made_from": list(made), "row_id": list(made.values())}
    pairs = pl.DataFrame(ids, schema=dict.fromkeys(ids, pl.String)).filter(pl.col("made_from") != pl.col("row_id"))
    found = first.join(pairs, on="made_from", how="inner", maintain_order="left")
    record = {
        "row_id": found["row_id"].to_arrow().cast(pa.string()),
        "made_from": found["made_from"].to_arrow().cast(pa.string()),
        "messages": before["messages"].take(found["at"].to_arrow()),
    }
    nobody = pl.DataFrame({"parent": sorted(between)}, schema={"parent": pl.String}).join(
        first, left_on="parent", right_on="made_from", how="anti"
    )
    return _without_parents(rows, nobody), pa.table(record, schema=REWRITES_SCHEMA)


def _without_parents(rows: pa.Table, nobody: pl.DataFrame) -> pa.Table:
    """`rows` in which no row has a parent listed in `nobody`; the rest of them in their order."""
    lists = pl.DataFrame({"parents": pl.Series(rows["parents"], dtype=pl.List(pl.String))}).with_row_index("row")
    named = lists.filter(pl.col("parents").list.len() > 0).explode("parents")
    known = named.join(nobody, left_on="parents", right_on="parent", how="anti", maintain_order="left")
    if known.height == named.height:
        return rows
    left = known.group_by("row", maintain_order=True).agg(pl.col("parents"))
    kept = lists.select("row").join(left, on="row", how="left", maintain_order="left")["parents"].fill_null([])
    field = ROW_SCHEMA.field("parents")
    return rows.set_column(rows.schema.get_field_index("parents"), field, kept.to_arrow().cast(field.type))


def _lengths(messages: pa.Array) -> NDArray[np.int64]:
    return pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _hashed(messages: pa.Array) -> list[str]:
    """SHA-256 of the RFC 8785 form of each row: the texts are written column by column, which is 10 times as fast as row by row.

    JSON as polars writes it is the canonical form for objects of strings with sorted keys (tested on every code point).
    """
    flat, lengths = messages.flatten(), _lengths(messages)
    said = pl.DataFrame({"content": flat.field("content"), "role": flat.field("role")})
    written = said.select(pl.struct("content", "role").struct.json_encode()).to_series()
    owners = pl.DataFrame({"row": np.repeat(np.arange(len(lengths)), lengths), "text": written})
    joined = owners.group_by("row", maintain_order=True).agg(pl.col("text").str.join(",")).select("row", "text")
    texts = np.full(len(lengths), "", dtype=object)
    texts[joined["row"].to_numpy()] = joined["text"].to_numpy()
    return [hashlib.sha256(f"[{text}]".encode()).hexdigest() for text in texts]


def _edited(
    batch: pa.RecordBatch, lengths: NDArray[np.int64], places: NDArray[np.int64], texts: Any, traced: bool
) -> pa.RecordBatch:
    """One batch, its messages counted from 0."""
    messages = batch.column("messages")
    said = messages.flatten().field("content").take(pa.array(places))
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    differs = pc.not_equal(said, texts)
    places, texts = places[differs.to_numpy(zero_copy_only=False)], texts.filter(differs)
    ends = np.cumsum(lengths)
    owner = np.searchsorted(ends, places, side="right")
    touched = np.unique(owner)
    if not len(touched):
        return batch
    # Only rows with a change are taken apart; in their messages the places are counted anew.
    own = lengths[touched]
    begins = np.cumsum(own) - own
    inside = places - (ends - lengths)[owner] + begins[np.searchsorted(touched, owner)]
    flat = messages.take(pa.array(touched)).flatten()
    mask = np.zeros(len(flat), bool)
    mask[inside] = True
    content = pc.replace_with_mask(flat.field("content"), pa.array(mask), texts)
    spoken = pa.StructArray.from_arrays([flat.field("role"), content, flat.field("trainable")], fields=list(MESSAGE_TYPE))
    return _with(batch, touched, message_column(spoken, own), traced)


def _with(batch: pa.RecordBatch, at: NDArray[np.int64], messages: pa.Array, traced: bool) -> pa.RecordBatch:
    """One batch with other messages in the rows `at`, and what follows from them."""
    if not len(at):
        return batch
    old = batch.column("row_id").take(pa.array(at))
    ids = row_ids(messages)
    new = {"messages": messages, "row_id": ids}
    if traced:
        new["parents"] = _parents(batch.column("parents").take(pa.array(at)), old, ids)
    # Each changed value is taken from behind the old ones.
    order = np.arange(batch.num_rows)
    order[at] = batch.num_rows + np.arange(len(at))
    source = pa.array(order)

    def column(name: str) -> pa.Array:
        own = batch.column(name)
        return own if name not in new else pa.concat_arrays([own, new[name].cast(own.type)]).take(source)

    return pa.RecordBatch.from_arrays([column(name) for name in batch.schema.names], schema=batch.schema)


def _parents(parents: pa.Array, old: pa.Array, new: pa.Array) -> pa.Array:
    frame = pl.DataFrame({"parents": pl.Series(parents, dtype=pl.List(pl.String)), "old": old, "new": new})
    named = pl.concat_list("parents", "old").list.unique().list.sort()
    found = frame.select(pl.when(pl.col("old") == pl.col("new")).then("parents").otherwise(named)).to_series()
    return found.to_arrow().cast(ROW_SCHEMA.field("parents").type)
