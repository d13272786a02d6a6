"""The index: append-only on both databases, rebuilt to the byte, healed after a crash, and refused when it is not the log's."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from ftplatform.canonical import canonical_json
from ftplatform.errors import InputDataError, StoreUnavailable
from ftplatform.licensing.registry import ChainError, EventLog, Heartbeat, Ledger, LedgerMismatch, LicenseDecision
from ftplatform.licensing.registry.events import event_key
from ftplatform.licensing.registry.log import CHECKPOINT_KEY
from ftplatform.licensing.registry.schema import TABLES
from ftplatform.licensing.rights import Level, Use
from ftplatform.store.backend import Backend
from ftplatform.store.memory import MemoryBackend
from ftplatform_tests.postgres import new_database
from ftplatform_tests.unit.licensing.registry.factories import concluded, day, exhibit, notice, saw
from ftplatform_tests.unit.licensing.registry.test_log import document, overwrite

RECORDS: list[Any] = [
    saw("active", 0, declared=("mit", "other"), exhibits=(exhibit("x"),), revision="abc"),
    concluded("MIT", 1),
    Heartbeat("s", "hub", day(2)),
    notice("N", "takedown", 3, deadline=day(10), letter_sha256="a" * 64),
    saw("takedown", 3, notice="N", detail={"status": 451, "said": "\x00 and \u2028"}),
    notice("R", "retraction", 4, refers_to="N"),
    saw("withdrawn_rows", 5, rows=("r1", "r2"), source="ünï\ncode'; DROP TABLE license_event; --"),
    saw("prospective", 2_900_000, 6, source="a change announced for the year 9962"),
    LicenseDecision(
        asset="adapters/support",
        snapshot="b" * 64,
        use=Use.TRAIN,
        verdict=Level.DENY,
        policy_sha256="c" * 64,
        as_of_valid=day(5),
        as_of_known=day(5),
        decided_at=day(5),
        reasons=("taken down",),
    ),
]


def execute(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    ledger.append_many(RECORDS)
    return ledger


@pytest.mark.parametrize("table", TABLES)
def test_rows_can_neither_be_changed_nor_removed(filled: Ledger, database_url: str, table: str) -> None:
    before = filled.export()
    attempts = [f"UPDATE {table} SET seq = seq + 100", f"DELETE FROM {table}"]
    if database_url.startswith("sqlite"):
        # ADV: REPLACE deletes without firing a trigger on DELETE.
        attempts.append(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    else:
        attempts.append(f"TRUNCATE {table}")
        attempts.append(f"INSERT INTO {table} SELECT * FROM {table} ON CONFLICT (seq) DO UPDATE SET seq = 0")
    for attempt in attempts:
        with pytest.raises(DBAPIError, match="append-only"):
            execute(database_url, attempt)
    assert filled.export() == before


def test_rebuilding_gives_the_same_bytes(filled: Ledger, open_ledger: Callable[..., Ledger], database_url: str) -> None:
    before = filled.export()
    assert before.count(b"\n") == len(TABLES) + len(RECORDS) + len(RECORDS)
    for table in TABLES:
        execute(database_url, f"DROP TABLE {table}")
    assert filled.rebuild() == len(RECORDS)
    assert filled.export() == before
    assert open_ledger().export() == before


def test_both_databases_give_the_same_bytes(
    filled: Ledger, open_ledger: Callable[..., Ledger], tmp_path: Path, postgres_url: str
) -> None:
    one, other = open_ledger(url=f"sqlite:///{tmp_path}/other.db"), open_ledger(url=new_database(postgres_url))
    assert filled.export() == one.export()
    assert one.export() == other.export()
    assert one.states(day(9), day(9)) == other.states(day(9), day(9))


def test_what_comes_back_is_what_was_appended(filled: Ledger) -> None:
    assert [r.observation for r in filled.history("s")] == [RECORDS[0], RECORDS[1], RECORDS[4]]
    assert [r.seq for r in filled.history("s")] == [1, 2, 5]
    assert filled.decisions() == filled.decisions("adapters/support") == [RECORDS[8]]
    assert filled.decisions("adapters/other") == []
    assert filled.notices(known_at=day(9)) == [RECORDS[3], RECORDS[5]]


def test_a_crash_between_log_and_index_is_healed(filled: Ledger, backend: Backend, open_ledger: Callable[..., Ledger]) -> None:
    EventLog(backend).append("terms", saw("gated", 7).to_record())  # the writer died here, before the index
    assert len(filled.history("s")) == 3
    again = open_ledger(verify=False)
    assert [r.observation.state for r in again.history("s")][-1] == "gated"
    assert again.state("s", day(8), day(8)).events[-1] == 10


def test_an_append_indexes_what_others_left_out(filled: Ledger, backend: Backend) -> None:
    EventLog(backend).append_many([("terms", saw("gated", 7, source=f"g{n}").to_record()) for n in range(3)])
    filled.append(saw("gated", 8))
    assert {"g0", "g1", "g2"} <= filled.states(day(9), day(9)).keys()
    before = filled.export()
    filled.rebuild()
    assert filled.export() == before


def test_kinds_of_later_versions_are_kept(filled: Ledger, backend: Backend, open_ledger: Callable[..., Ledger]) -> None:
    EventLog(backend).append("erasure", {"person": "p"})
    assert b'"erasure"' in open_ledger().export()


def test_a_body_of_another_kind_is_named(filled: Ledger, backend: Backend, open_ledger: Callable[..., Ledger]) -> None:
    EventLog(backend).append("terms", {"source": "s"})
    with pytest.raises(InputDataError, match="event 10"):
        open_ledger()


@pytest.mark.parametrize("verify", [True, False])
def test_an_index_of_another_log_is_refused(
    filled: Ledger, database_url: str, open_ledger: Callable[..., Ledger], verify: bool
) -> None:
    other = MemoryBackend(uuid.uuid4().hex)
    first = [("terms", record.to_record()) for record in (saw("gated", n) for n in range(12))]
    EventLog(other).append_many(first)
    before = filled.export()
    with pytest.raises(LedgerMismatch) as caught:
        open_ledger(other, verify=verify)
    assert caught.value.seq == (1 if verify else 9)
    assert filled.export() == before


@pytest.mark.parametrize("verify", [True, False])
def test_an_index_ahead_of_its_log_is_refused(
    ledger: Ledger, backend: Backend, open_ledger: Callable[..., Ledger], verify: bool
) -> None:
    """Tail and checkpoint were both cut off: the log alone looks whole, the index knows better."""
    for record in RECORDS:
        ledger.append(record)
    for key in [CHECKPOINT_KEY, *map(event_key, range(6, 10))]:
        backend.delete_if_older(key, math.inf)
    assert len(list(EventLog(backend).read())) == 5
    with pytest.raises(LedgerMismatch) as caught:
        open_ledger(verify=verify)
    assert caught.value.seq == (6 if verify else 9)


@pytest.mark.parametrize("seq", [1, 5, 9])
def test_a_tampered_event_is_named(filled: Ledger, backend: Backend, open_ledger: Callable[..., Ledger], seq: int) -> None:
    before = filled.export()
    overwrite(backend, event_key(seq), canonical_json(document(backend, seq) | {"body": {}}))
    for action in (open_ledger, filled.rebuild):
        with pytest.raises(ChainError, match=f"event {seq} ") as caught:
            action()
        assert caught.value.seq == seq
    assert filled.export() == before, "the index is left alone when the log cannot be trusted"


def test_an_index_of_another_version_is_built_anew(filled: Ledger, database_url: str, open_ledger: Callable[..., Ledger]) -> None:
    before = filled.export()
    execute(database_url, "UPDATE license_index_version SET version = 0")
    execute(database_url, "DROP TABLE license_observation")
    assert open_ledger().export() == before


def test_a_dead_database_is_a_typed_error(filled: Ledger, backend: Backend, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    gone = (
        f"sqlite:///{tmp_path}/folder.db"
        if database_url.startswith("sqlite")
        else re.sub(r"host=.*", "host=/nowhere", database_url)
    )
    with pytest.raises(StoreUnavailable):
        Ledger.open(backend, gone)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:hunter2@h/d", "no url", "oracle://u:hunter2@h/d"])
def test_an_unusable_url_is_refused_without_its_password(backend: Backend, url: str) -> None:
    with pytest.raises(InputDataError) as caught:
        Ledger.open(backend, url)
    assert "hunter2" not in str(caught.value)


def test_a_refused_connection_does_not_show_its_password(backend: Backend) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Ledger.open(backend, "postgresql://user:hunter2@127.0.0.1:9/none?connect_timeout=2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "record", [saw("active", 1, source=""), saw("active", 1, source="a\x00b"), saw("active", 1, concluded="M\x00T")]
)
def test_what_the_index_cannot_hold_does_not_get_into_the_log(ledger: Ledger, record: Any) -> None:
    with pytest.raises(InputDataError):
        ledger.append_many([saw("active", 0), record])
    assert ledger.log.newest() is None


def test_a_decision_needs_its_policy() -> None:
    with pytest.raises(InputDataError, match="policy"):
        LicenseDecision(
            asset="a",
            snapshot="s",
            use=Use.TRAIN,
            verdict=Level.ALLOW,
            policy_sha256="",
            as_of_valid=day(1),
            as_of_known=day(1),
            decided_at=day(1),
        )


def test_a_time_without_zone_is_a_typed_error(ledger: Ledger) -> None:
    with pytest.raises(InputDataError, match="no zone"):
        ledger.state("s", datetime(2023, 1, 1))
