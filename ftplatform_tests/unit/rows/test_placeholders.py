"""Masked and unmasked texts of the same words: they agree, and nothing else does."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.rows.placeholders import as_masked, filled_from
from ftplatform.rows.redaction import Redaction, held_ids, replayed
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform_tests.tables import row, table

_VALUES = ("jo@example.org", "AL@example.org", "al@example.org", "(555) 123-4567", "4111 1111 1111 1111", "order 123456789012", "")
_WORDS = st.sampled_from([*_VALUES, "hello,", "[EMAIL_1]", "[NOTE_1]", "naïve 👍"])
_TEXT = st.lists(_WORDS, min_size=1, max_size=5).map(" ".join)
_ROWS = st.lists(
    st.builds(
        lambda said, group: row(*said, group=group), st.lists(_TEXT, min_size=1, max_size=3), st.sampled_from([None, "a", "b"])
    ),
    max_size=6,
)


def masked(rows: pa.Table) -> tuple[pa.Table, Redaction]:
    redaction = Redaction()
    return pa.Table.from_batches(list(redaction.batches(rows.to_batches(max_chunksize=2))), schema=ROW_SCHEMA), redaction


def said(rows: pa.Table) -> list[str]:
    return [message["content"] for messages in rows["messages"].to_pylist() for message in messages]


@given(_ROWS)
def test_a_masked_text_agrees_with_its_original(rows: list[dict]) -> None:
    # A text that holds a placeholder from the start may be given a number that this one has already.
    before = table(r for r in rows if "[EMAIL_1]" not in repr(r["messages"]))
    after, _ = masked(before)
    assert (
        as_masked(pl.Series(said(after), dtype=pl.String)).to_list()
        == as_masked(pl.Series(said(before), dtype=pl.String)).to_list()
    )


@given(_ROWS)
def test_the_record_replays_to_the_very_rows(rows: list[dict]) -> None:
    before = table(rows)
    after, redaction = masked(before)
    again = replayed(before, redaction.spans())
    wanted = {r["row_id"]: r["messages"] for r in after.to_pylist()}
    assert {r["row_id"]: r["messages"] for r in again.to_pylist()} == wanted
    assert set(held_ids(before["row_id"], redaction.spans()).to_pylist()) == set(wanted)
    assert replayed(before, redaction.spans().slice(0, 0)).equals(before.combine_chunks())


@pytest.mark.parametrize(
    ("ours", "theirs", "agree"),
    [
        ("mail [EMAIL_7]", "mail jo@example.org", True),
        ("[EMAIL_2] or [EMAIL_5]", "jo@example.org or al@example.org", True),
        ("[EMAIL_2] or [EMAIL_2]", "jo@example.org or al@example.org", False),
        ("[EMAIL_1] or [EMAIL_2]", "jo@example.org or JO@example.org", False),
        ("mail [PHONE_1]", "mail jo@example.org", False),
        ("mail jo@example.org", "mail al@example.org", False),
        ("mail [EMAIL_2]", "mail [EMAIL_4]", True),
        ("mail [EMAIL_1] now", "mail jo@example.org", False),
        ("no placeholder", "mail jo@example.org", False),
    ],
)
def test_a_placeholder_is_read_as_the_value_in_its_place(ours: str, theirs: str, agree: bool) -> None:
    before = table([row("hi", "there"), row(ours, "yes", parents=["teacher"])])
    after = filled_from(before, [table([row(theirs, "no")]), table([])])
    assert said(after) == ["hi", "there", theirs if agree else ours, "yes"]
    others = [name for name in ROW_SCHEMA.names if name != "messages"]
    assert after.select(others).equals(before.select(others))


def test_roles_are_not_mixed_and_nothing_is_invented() -> None:
    before = table([row("mail [EMAIL_1]", "ok")])
    assert filled_from(before, [table([row("hi", "mail jo@example.org")])]).equals(before)
    assert filled_from(before, []).equals(before)
    assert filled_from(table([]), [before]).num_rows == 0


def test_one_text_in_two_conversations_is_held_under_two_ids() -> None:
    same = "mail jo@example.org"
    rows = table([row(same, group="a"), row("al@example.org", group="b"), row(same, group="b")])
    after, redaction = masked(rows)
    first, _, third = after["row_id"].to_pylist()
    assert first != third
    assert sorted(held_ids(rows["row_id"].slice(0, 1), redaction.spans()).to_pylist()) == sorted([first, third])
    assert sorted(said(replayed(rows.slice(0, 1), redaction.spans()))) == ["mail [EMAIL_1]", "mail [EMAIL_2]"]
