"""Rows that disappear upstream."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import InputDataError
from ftplatform.licensing.states import State
from ftplatform.licensing.watchers.rows import UpstreamRowsWatcher, compare_rows
from ftplatform_tests.unit.licensing.factories import row_id


def table(numbers: list[int]) -> pa.Table:
    return pa.table({"row_id": pa.array([row_id(n) for n in numbers], pa.string()), "other": pa.array(numbers, pa.int64())})


@given(st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)), st.integers(1, 7))
def test_difference_is_that_of_the_sets_however_the_rows_come(ours: list[int], theirs: list[int], batch: int) -> None:
    expected = tuple(sorted({row_id(n) for n in ours} - {row_id(n) for n in theirs}))
    for found in (
        compare_rows(table(ours), table(theirs)),
        compare_rows(iter(table(ours).to_batches(batch)), table(theirs).to_batches(batch)),
    ):
        assert found.missing == expected
        assert found.added == len(set(theirs) - set(ours))
        assert (found.acquired, found.upstream) == (len(set(ours)), len(set(theirs)))


def test_parquet_files_are_read_by_their_ids(tmp_path: Path) -> None:
    for part, numbers in enumerate([range(50), range(50, 90)]):
        pq.write_table(table(list(numbers)), tmp_path / f"{part}.parquet", write_page_checksum=True, row_group_size=7)
    found = compare_rows(table(list(range(100))), [tmp_path / "0.parquet", tmp_path / "1.parquet"])
    assert found.missing == tuple(sorted(row_id(n) for n in range(90, 100)))


def test_withdrawn_rows_are_reported_when_the_set_changes(now: datetime) -> None:
    watcher, ours = UpstreamRowsWatcher("raw/x"), table(list(range(100)))
    look = watcher.look(ours, table(list(range(120))), None, now)
    assert (look.looked, look.observations) == (True, ())
    look = watcher.look(ours, table(list(range(1, 120))), look.cursor, now, revision="r2")
    (seen,) = look.observations
    assert (seen.state, seen.rows, seen.detail["added"], seen.revision) == (State.WITHDRAWN_ROWS, (row_id(0),), 20, "r2")
    assert watcher.look(ours, table(list(range(1, 120))), look.cursor, now).observations == ()
    look = watcher.look(ours, table(list(range(2, 120))), look.cursor, now)
    assert look.observations[0].rows == tuple(sorted([row_id(0), row_id(1)]))
    assert look.observations[0].detail["missing_before"] == 1
    look = watcher.look(ours, ours, look.cursor, now)
    assert [(o.state, o.rows) for o in look.observations] == [(State.ACTIVE, ())]


def test_empty_upstream_is_a_failed_reading(now: datetime) -> None:
    look = UpstreamRowsWatcher("raw/x").look(table([1, 2]), table([]), None, now)
    assert (look.looked, look.observations) == (False, ())


def test_upstream_without_any_of_ours_is_reported_with_a_warning(now: datetime) -> None:
    look = UpstreamRowsWatcher("raw/x").look(table([1, 2]), table([3]), None, now)
    assert len(look.observations[0].rows) == 2
    assert "laid out differently" in str(look.problem)


@pytest.mark.parametrize(
    "bad", [pa.table({"id": ["a"]}), pa.table({"row_id": pa.array([None, "a"], pa.string())}), pa.table({"row_id": [["a"]]})]
)
def test_rows_without_ids_are_an_error(bad: pa.Table) -> None:
    with pytest.raises(InputDataError, match="upstream rows"):
        compare_rows(table([1]), bad)


def test_broken_parquet_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(InputDataError):
        compare_rows(table([1]), [path])
    with pytest.raises(InputDataError):
        compare_rows(table([1]), [tmp_path / "missing.parquet"])
