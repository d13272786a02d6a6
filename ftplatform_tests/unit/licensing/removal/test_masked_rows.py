"""A claimed text is found where we hold it masked, and a text that is not claimed is not found for its form."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ftplatform.licensing.removal.claim import Matcher, resolve
from ftplatform.licensing.removal.closure import RowSet
from ftplatform.licensing.removal.matching import find
from ftplatform.rows.redaction import Redaction
from ftplatform_tests.tables import row, table

LONG = "Please send the printed contract of last year to {} before the end of the month"
OURS = table(
    [
        row("I am al@example.org", "Hello.", group="c1"),
        row(LONG.format("jo@example.org"), "It is on its way to you today.", group="c1"),
        row(LONG.format("eve@example.org"), "No.", group="c2"),
        row("Is the shop open on the second Sunday of next month as well?", "Yes."),
    ]
)


def held(rows: pa.Table, name: str = "raw/one") -> RowSet:
    return RowSet(name=name, snapshot="0" * 64, read=lambda: rows.to_batches())


def found(matcher: Matcher, rows: pa.Table) -> list[str]:
    return find(resolve(matcher), [held(rows)]).banned.to_list()


@pytest.mark.parametrize("by_row", [True, False])
def test_a_claim_of_what_we_hold_masked(by_row: bool) -> None:
    """ADV: by its words, or by the hash of its row, the claimed text is none of ours."""
    masked = pa.Table.from_batches(list(Redaction().batches(OURS.to_batches())))
    claimed = OURS.slice(1, 1)
    matcher = Matcher(rows=claimed) if by_row else Matcher(texts=(LONG.format("jo@example.org"),))
    assert "[EMAIL_2]" in repr(masked.slice(1, 1).to_pylist()), "its number comes from the conversation"
    assert claimed["row_id"][0] not in set(masked["row_id"])
    # The third row says the same to somebody else; masked, nobody can tell them apart, so it falls too.
    assert set(found(matcher, masked)) - set(claimed["row_id"].to_pylist()) == set(masked["row_id"].to_pylist()[1:3])


def test_what_we_hold_as_it_was_is_told_apart() -> None:
    claimed = OURS["row_id"][1].as_py()
    assert found(Matcher(texts=(LONG.format("jo@example.org"),)), OURS) == [claimed]
    assert found(Matcher(rows=OURS.slice(1, 1)), OURS) == [claimed]
