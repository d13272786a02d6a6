"""User turns and the hashed sample of conversations."""

from __future__ import annotations

import datetime

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import InputDataError
from ftplatform.synthesis.samples import sample_turns, split_rows, user_turns
from ftplatform_tests.tables import asked, row, table


def chats(count: int, turns: int = 3) -> pa.Table:
    return table(
        row(*(("user", f"turn {t} of chat {c}") for t in range(turns)), group=f"chat-{c}", source="app") for c in range(count)
    )


def test_only_user_turns_with_text_and_their_conversation() -> None:
    rows = table(
        [row(("system", "s"), ("user", "one"), ("assistant", "a"), ("user", "  "), ("user", "two"), group="g", source="app")]
    )
    frame = pl.concat(user_turns(rows))
    assert frame["text"].to_list() == ["one", "two"]
    assert frame["unit"].to_list() == ["app\x1fg"] * 2


def test_copies_of_a_row_are_different_people() -> None:
    assert pl.concat(user_turns(asked(["hi", "hi", "hi"])))["unit"].n_unique() == 3


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 3))
def test_a_stream_in_any_pieces_gives_the_sample_of_the_table(piece: int, cap: int, seed: int) -> None:
    rows = chats(40)
    whole = sample_turns(rows, cap, seed)
    streamed = sample_turns(iter(rows.to_batches(max_chunksize=piece)), cap, seed)
    assert streamed.frame.equals(whole.frame)
    assert whole.turns == 120
    assert len(whole) <= cap


def test_conversations_stay_whole_and_do_not_depend_on_the_others() -> None:
    rows = chats(200)
    sample = sample_turns(rows, 90)
    sizes = sample.frame.group_by("unit").len()["len"]
    assert set(sizes) == {3}
    # Of half the rows, the sample is at least what both have in common.
    fewer = sample_turns(rows.slice(0, 100), 90)
    shared = {f"app\x1fchat-{c}" for c in range(100)} & set(sample.units)
    assert shared <= set(fewer.units)


def test_one_customer_does_not_fill_the_sample() -> None:
    """ADV: the first rows that fit would all be of the customer who wrote thousands."""
    loud = [row(f"again {i}", group="loud", source="app") for i in range(3000)]
    rows = table([*loud, *(row(f"once {i}", group=f"c{i}", source="app") for i in range(300))])
    naive = pl.concat(user_turns(rows)).head(200)
    assert (naive["unit"] == "app\x1floud").all()
    sample = sample_turns(rows, 200)
    assert (sample.units == "app\x1floud").sum() <= 10
    assert len(sample) > 150


def test_halves_share_no_conversation() -> None:
    sample = sample_turns(chats(100), 1000)
    one, other = sample.halves()
    assert not set(one.units) & set(other.units)
    assert len(one) + len(other) == 300
    assert min(len(one), len(other)) > 90
    learn, held = split_rows(chats(100))
    assert not set(learn["group"].to_pylist()) & set(held["group"].to_pylist())
    assert learn.num_rows + held.num_rows == 100


def test_labels() -> None:
    rows = table(
        [
            row("a", source="x", slices=["s1", "s2"], meta='{"domain": "cars"}'),
            row("b", source="y", slices=[], meta="{}"),
        ]
    )
    by = {name: pl.concat(user_turns(rows, name))["label"].to_list() for name in ("source", "slice", "meta:domain")}
    assert by == {"source": ["x", "y"], "slice": ["s1", None], "meta:domain": ["cars", None]}
    for wrong in ("topic", "meta:", "meta:it's"):
        with pytest.raises(InputDataError, match="does not name a grouping"):
            list(user_turns(rows, wrong))


def test_nothing_gives_nothing() -> None:
    assert len(sample_turns(table([]), 10)) == 0
    assert len(sample_turns(iter(()), 10)) == 0
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert pl.concat(user_turns(asked(["x"], created_at=moment)))["created_at"].to_list() == [moment]
