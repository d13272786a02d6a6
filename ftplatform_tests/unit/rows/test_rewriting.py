"""Rebuilding messages: what is not named stays byte for byte, what changes is another row by the house rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.rows.rewriting import REWRITES_SCHEMA, message_column, row_ids, settled, with_messages, with_texts
from ftplatform.rows.schema import ROW_SCHEMA, Role, row_id
from ftplatform.rows.turns import turns
from ftplatform.rows.validation import row_schema
from ftplatform_tests.tables import row, table

_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_ROWS = st.lists(
    st.builds(
        lambda said, parents: row(*said, parents=sorted(parents)),
        st.lists(st.tuples(st.sampled_from(list(Role)), _TEXT), max_size=4),
        st.sets(st.sampled_from(["teacher", "f" * 64, "0" * 64])),
    ),
    max_size=6,
)


def in_chunks(rows: list[dict[str, Any]], size: int) -> pa.Table:
    """The rows in several chunks, the first of them a slice with an offset."""
    whole = table([row("before"), *rows])
    return pa.Table.from_batches(whole.slice(1).to_batches(max_chunksize=size), schema=ROW_SCHEMA)


@st.composite
def edited(draw: st.DrawFn) -> tuple[pa.Table, dict[int, str]]:
    rows = in_chunks(draw(_ROWS), draw(st.integers(1, 3)))
    count = turns(rows).num_rows
    places = draw(st.sets(st.integers(0, count - 1), max_size=count)) if count else set()
    return rows, {place: draw(_TEXT) for place in sorted(places)}


@given(edited(), st.booleans())
def test_edits_change_the_named_messages_and_what_follows_from_them(case: tuple[pa.Table, dict[int, str]], traced: bool) -> None:
    before, edits = case
    after = with_texts(before, list(edits), pa.array(edits.values(), pa.string()), traced=traced)
    assert after.schema == before.schema
    expected = [edits.get(place, text) for place, text in enumerate(turns(before)["content"].to_pylist())]
    assert turns(after)["content"].to_pylist() == expected
    for old, new in zip(before.to_pylist(), after.to_pylist(), strict=True):
        assert [(m["role"], m["trainable"]) for m in new["messages"]] == [(m["role"], m["trainable"]) for m in old["messages"]]
        if new["messages"] == old["messages"]:
            assert new == old
            continue
        parents = sorted({*old["parents"], old["row_id"]}) if traced else old["parents"]
        assert new == {**old, "messages": new["messages"], "row_id": row_id(new["messages"]), "parents": parents}


@given(_ROWS, st.integers(1, 3))
def test_without_an_edit_nothing_changes(rows: list[dict[str, Any]], size: int) -> None:
    before = in_chunks(rows, size)
    said = turns(before)
    assert with_texts(before, np.arange(said.num_rows), said["content"]).equals(before)
    assert with_texts(before, [], pa.array([], pa.string())).equals(before)
    assert with_messages(before, np.arange(len(rows)), before["messages"]).equals(before)
    lengths = [len(one["messages"]) for one in rows]
    assert message_column(said, lengths).equals(before["messages"].combine_chunks())


@given(_ROWS.filter(bool), _ROWS.filter(bool), st.data())
def test_messages_are_replaced_row_by_row(rows: list[dict[str, Any]], others: list[dict[str, Any]], data: st.DataObject) -> None:
    before = in_chunks(rows, 2)
    at = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    new = [data.draw(st.sampled_from(others))["messages"] for _ in at]
    after = with_messages(before, at, pa.array(new, ROW_SCHEMA.field("messages").type)).to_pylist()
    for position, (old, now) in enumerate(zip(before.to_pylist(), after, strict=True)):
        messages = new[at.index(position)] if position in at else old["messages"]
        named = {*old["parents"], old["row_id"]} if row_id(messages) != old["row_id"] else old["parents"]
        assert now == {**old, "messages": messages, "row_id": row_id(messages), "parents": sorted(named)}


@given(_ROWS)
def test_ids_of_a_column_are_those_of_its_rows(rows: list[dict[str, Any]]) -> None:
    assert row_ids(in_chunks(rows, 2)["messages"]).to_pylist() == [row_id(one["messages"]) for one in rows]


def test_ids_agree_on_every_character() -> None:
    """The JSON written column by column is canonical on every code point that text may hold."""
    points = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    rows = table(row("".join(points[start : start + 4096])) for start in range(0, len(points), 4096))
    assert row_ids(rows["messages"]).equals(rows["row_id"].combine_chunks())


def test_another_loss_mask_is_no_other_row() -> None:
    before = table([row("q", "a", parents=["teacher"])])
    unlearned = [{**message, "trainable": False} for message in before["messages"][0].as_py()]
    (after,) = with_messages(before, [0], pa.array([unlearned], ROW_SCHEMA.field("messages").type)).to_pylist()
    assert after == {**before.to_pylist()[0], "messages": unlearned}


@pytest.mark.parametrize("places", [[1, 0], [0, 0], [-1, 0], [0, 2], [0]])
def test_places_that_make_no_sense_are_refused(places: list[int]) -> None:
    rows = table([row("q", "a")])
    with pytest.raises(ValueError, match=r"places|message"):
        with_texts(rows, places, pa.array(["x", "y"]))
    with pytest.raises(ValueError, match="positions"):
        with_messages(table([row("q"), row("r")]), places, rows["messages"].take([0, 0]))


def test_the_record_binds_both_texts() -> None:
    before = table([row("q", "teh end"), row("q", "teh end", source="copy"), row("same", "text")])
    after = with_texts(before, [1, 3], pa.array(["the end", "the end"]))
    rows, record = settled(after, before, [renamed(before, after)])
    assert rows.equals(after)
    assert record.schema == REWRITES_SCHEMA
    (line,) = record.to_pylist()
    assert line["row_id"] == row_id(after["messages"][0].as_py())
    assert line["made_from"] == row_id(line["messages"]) == before["row_id"][0].as_py()
    assert row_schema(rows).passed
    assert settled(table([]), table([]), [{}])[1].num_rows == 0


def test_steps_in_between_leave_no_trace() -> None:
    first = table([row("q", "one", parents=["teacher"]), row("q", "two"), row("q", "other")])
    second = with_texts(first, [1], pa.array(["two"]))
    third = with_texts(second, [1, 3], pa.array(["three", "three"]))
    rows, record = settled(third, first, [renamed(first, second), renamed(second, third)])
    one, two, other = first["row_id"].to_pylist()
    # The second row said "two" from the start: it may be named, as may what was made from it.
    assert rows["parents"].to_pylist() == [sorted({"teacher", one, two}), [two], []]
    assert dict(zip(record["made_from"].to_pylist(), record["row_id"].to_pylist(), strict=True)) == dict.fromkeys(
        [one, two], row("q", "three")["row_id"]
    )
    alone = table([first.to_pylist()[0]])
    rows, record = settled(third.slice(0, 1), alone, [renamed(first, second), renamed(second, third)])
    assert rows["parents"].to_pylist() == [sorted({"teacher", one})]
    assert record["made_from"].to_pylist() == [one]
    assert other not in record["made_from"].to_pylist()


def renamed(before: pa.Table, after: pa.Table) -> dict[str, str]:
    pairs = zip(before["row_id"].to_pylist(), after["row_id"].to_pylist(), strict=True)
    return {old: new for old, new in pairs if old != new}
