"""The event log: numbering, chain, checkpoint, groups, and everything that may happen to it from outside."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ftplatform.canonical import canonical_json
from ftplatform.errors import InputDataError, StoreError, StoreUnavailable
from ftplatform.licensing.registry import ChainError, EventLog
from ftplatform.licensing.registry import log as log_module
from ftplatform.licensing.registry.events import GENESIS, event_key
from ftplatform.store.backend import Backend, Stored
from ftplatform.store.local import LocalBackend
from ftplatform.store.memory import MemoryBackend
from ftplatform_tests.unit.licensing.registry.factories import s3_backend


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return LocalBackend(tmp_path / "store") if request.param == "folder" else s3_backend(request.getfixturevalue("s3_url"))


def fill(place: Backend, count: int = 6) -> EventLog:
    log = EventLog(place)
    for number in range(count):
        log.append("test", {"n": number})
    return log


def overwrite(place: Backend, key: str, data: bytes) -> None:
    place.delete_if_older(key, math.inf)
    assert place.put_if_absent(key, data)


def document(place: Backend, seq: int) -> dict[str, Any]:
    stored = place.get(event_key(seq))
    assert stored is not None
    return json.loads(stored.data)


def accused(place: Backend, from_seq: int = 1) -> int:
    with pytest.raises(ChainError) as caught:
        list(EventLog(place).read(from_seq))
    assert event_key(caught.value.seq) in caught.value.remedy
    return caught.value.seq


def test_events_are_canonical_and_chained(place: Backend) -> None:
    log = EventLog(place)
    events = [log.append("test", {"b": 1, "a": [None, "é"]}), *log.append_many([("test", {"n": n}) for n in range(40)])]
    assert [e.seq for e in log.read()] == list(range(1, 42))
    previous = GENESIS
    for event in EventLog(place).read():
        stored = place.get(f"events/{event.seq:012d}.json")
        assert stored is not None
        assert stored.data == canonical_json(json.loads(stored.data)) == event.data
        assert event.previous == previous
        previous = hashlib.sha256(stored.data).hexdigest()
        assert event == events[event.seq - 1]
    checkpoint = log.checkpoint()
    assert checkpoint is not None
    assert (checkpoint.seq, checkpoint.sha256) == (41, previous)
    assert [e.seq for e in EventLog(place).read(39)] == [39, 40, 41]
    assert list(EventLog(place).read(42)) == []
    assert not list(place.list("events-drafts/")), "drafts are removed when their group is written"


def test_an_empty_log(place: Backend) -> None:
    log = EventLog(place)
    assert (list(log.read()), log.newest(), log.checkpoint()) == ([], None, None)
    assert log.append_many([]) == []


def test_windows_and_groups_do_not_show(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_WINDOW", 4)
    monkeypatch.setattr(log_module, "GROUP", 3)
    for count, start in itertools.product(range(12), range(1, 13)):
        place = MemoryBackend(uuid.uuid4().hex)
        EventLog(place).append_many([("test", {"n": n}) for n in range(count)])
        if start <= count + 1:
            assert [e.seq for e in EventLog(place).read(start)] == list(range(start, count + 1))


@pytest.mark.parametrize("from_seq", [1, 2])
@pytest.mark.parametrize("seq", range(1, 7))
def test_a_changed_event_is_named(backend: Backend, seq: int, from_seq: int) -> None:
    fill(backend)
    overwrite(backend, event_key(seq), canonical_json(document(backend, seq) | {"body": {"n": 99}}))
    assert accused(backend, from_seq) == max(seq, 1)


@pytest.mark.parametrize("seq", range(1, 7))
def test_a_changed_link_is_named(backend: Backend, seq: int) -> None:
    fill(backend)
    overwrite(backend, event_key(seq), canonical_json(document(backend, seq) | {"previous": "f" * 64}))
    assert accused(backend) == seq


@pytest.mark.parametrize("seq", range(1, 7))
@pytest.mark.parametrize("keep_checkpoint", [True, False])
def test_a_missing_event_is_named(backend: Backend, seq: int, keep_checkpoint: bool) -> None:
    fill(backend)
    backend.delete_if_older(event_key(seq), math.inf)
    if not keep_checkpoint:
        backend.delete_if_older(log_module.CHECKPOINT_KEY, math.inf)
        if seq == 6:  # the tail, and the checkpoint with it: nothing in the log itself can tell; the index can
            assert len(list(EventLog(backend).read())) == 5
            return
    assert accused(backend) == seq


def test_a_truncated_tail_is_found(place: Backend) -> None:
    fill(place)
    for seq in (4, 5, 6):
        place.delete_if_older(event_key(seq), math.inf)
    assert accused(place) == 4
    with pytest.raises(ChainError):
        EventLog(place).append("test", {})


def test_a_rewritten_history_does_not_match_the_checkpoint(backend: Backend) -> None:
    """ADV: every link holds again, because everything from event 3 on was made anew."""
    fill(backend)
    forged = MemoryBackend(uuid.uuid4().hex)
    fill(forged)
    for seq in range(1, 7):
        stored = forged.get(event_key(seq))
        assert stored is not None
        overwrite(backend, event_key(seq), stored.data)
    links = [(e.previous, e.sha256) for e in EventLog(forged).read()]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(links)), "checking the links alone would pass"
    assert accused(backend) == 6


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b"[" * 100_000,
        b'{"seq":1e999}',
        b"\xff",
        b'{"seq": 3}',
    ],
    ids=["empty", "list", "cut", "no fields", "deep", "infinite", "no text", "spaces"],
)
def test_garbage_is_named(backend: Backend, garbage: bytes) -> None:
    fill(backend)
    overwrite(backend, event_key(3), garbage)
    assert accused(backend) == 3


@pytest.mark.parametrize(
    "change", [{"seq": 4}, {"schema": "x/9"}, {"extra": 1}, {"body": []}, {"recorded_at": "soon"}, {"last": 2}]
)
def test_fields_of_another_shape_are_named(backend: Backend, change: dict[str, Any]) -> None:
    fill(backend)
    overwrite(backend, event_key(3), canonical_json(document(backend, 3) | change))
    assert accused(backend) == 3


def test_swapped_events_are_named(backend: Backend) -> None:
    fill(backend)
    two, three = document(backend, 2), document(backend, 3)
    overwrite(backend, event_key(2), canonical_json(three | {"seq": 2, "last": 2}))
    overwrite(backend, event_key(3), canonical_json(two | {"seq": 3, "last": 3}))
    assert accused(backend) in {2, 3}


class FlipOnce(LocalBackend):
    """A folder whose next read of one key has a flipped bit."""

    key: str | None = None

    def get(self, key: str) -> Stored | None:
        stored = super().get(key)
        if key != self.key or stored is None:
            return stored
        self.key = None
        return Stored(stored.data.replace(b'"n":2', b'"n":3'), stored.etag)


def test_a_bit_flipped_on_the_wire_is_read_again(tmp_path: Path) -> None:
    fill(FlipOnce(tmp_path))
    place = FlipOnce(tmp_path)
    place.key = event_key(3)
    assert [e.body["n"] for e in EventLog(place).read()] == list(range(6))
    assert place.key is None, "the flipped read happened"


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_bit_flipped_on_the_wire_does_not_get_into_the_chain(tmp_path: Path, beyond: int) -> None:
    """A writer reads whom it follows, and the checkpoint may lag; a wrong hash there would break the chain for good."""
    fill(LocalBackend(tmp_path), 2)
    lagging = LocalBackend(tmp_path).get(log_module.CHECKPOINT_KEY)
    assert lagging is not None
    fill(LocalBackend(tmp_path), 3 + beyond)  # events 3, 4, 5; event 5 says 2
    overwrite(LocalBackend(tmp_path), log_module.CHECKPOINT_KEY, lagging.data)
    place = FlipOnce(tmp_path)
    place.key = event_key(5)
    assert EventLog(place).append("test", {"n": 9}).seq == 6 + beyond
    assert place.key is None, "the flipped read happened"
    assert [e.body["n"] for e in EventLog(LocalBackend(tmp_path)).read()] == [0, 1, *range(3 + beyond), 9]


def test_what_nobody_vouches_for_is_not_given_out(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event is vouched for by the one after it, which may be in the next window."""
    monkeypatch.setattr(log_module, "_WINDOW", 4)
    fill(backend, 10)
    for seq in range(1, 11):
        whole = backend.get(event_key(seq))
        assert whole is not None
        overwrite(backend, event_key(seq), canonical_json(document(backend, seq) | {"body": {"n": 99}}))
        given: list[int] = []
        reading = (given.append(event.body["n"]) for event in EventLog(backend).read())
        with pytest.raises(ChainError):
            list(reading)
        assert given == list(range(len(given)))
        overwrite(backend, event_key(seq), whole.data)


def test_other_objects_below_events_do_not_matter(backend: Backend) -> None:
    fill(backend)
    backend.put_if_absent("events/.DS_Store", b"x")
    assert len(list(EventLog(backend).read())) == 6


def test_the_checkpoint_may_lag(backend: Backend) -> None:
    """A writer that died before moving it: the next one finds the tail, continues, and moves it."""
    fill(backend, 3)
    old = backend.get(log_module.CHECKPOINT_KEY)
    assert old is not None
    fill(backend, 3)
    overwrite(backend, log_module.CHECKPOINT_KEY, old.data)
    assert len(list(EventLog(backend).read())) == 6
    assert EventLog(backend).append("test", {}).seq == 7
    checkpoint = EventLog(backend).checkpoint()
    assert checkpoint is not None
    assert checkpoint.seq == 7


class Stop(Exception):
    """The writer dies here."""


class Mortal(LocalBackend):
    """A folder whose writer dies at its `fatal`-th creation of an object."""

    fatal = 0

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.fatal -= 1
        if self.fatal < 0:
            raise Stop
        return super().put_if_absent(key, data)


@pytest.mark.parametrize("survive_by", ["reading", "appending", "asking for the newest"])
@pytest.mark.parametrize("fatal", range(8))
def test_a_crash_leaves_all_of_a_group_or_nothing(tmp_path: Path, fatal: int, survive_by: str) -> None:
    """Creations: the draft, the first event, then four more in any order."""
    fill(LocalBackend(tmp_path), 2)
    dying = Mortal(tmp_path)
    dying.fatal = fatal
    if fatal < 6:
        with pytest.raises(Stop):
            EventLog(dying).append_many([("test", {"n": 10 + n}) for n in range(5)])
    else:
        EventLog(dying).append_many([("test", {"n": 10 + n}) for n in range(5)])
    survivor = EventLog(LocalBackend(tmp_path))
    if survive_by == "appending":
        survivor.append("test", {"n": 99})
    elif survive_by == "asking for the newest":
        survivor.newest()
    numbers = [e.body["n"] for e in EventLog(LocalBackend(tmp_path)).read()]
    group = [10, 11, 12, 13, 14] if fatal >= 2 else []
    assert numbers == [0, 1, *group, *([99] if survive_by == "appending" else [])]


def test_events_above_a_gap_would_break_the_chain_without_drafts(tmp_path: Path) -> None:
    """ADV: writing a group in parallel and no draft: a crash leaves events that no later writer can reach."""
    dying = Mortal(tmp_path)
    dying.fatal = 4
    with pytest.raises(Stop):
        EventLog(dying).append_many([("test", {"n": n}) for n in range(6)])
    place = LocalBackend(tmp_path)
    there = {event_key(seq) for seq in range(1, 7)} & {entry.key for entry in place.list("events/")}
    assert len(there) == 3
    draft = next(iter(place.list("events-drafts/"))).key
    kept = place.get(draft)
    assert kept is not None
    place.delete_if_older(draft, math.inf)
    with pytest.raises(ChainError):
        EventLog(place).append("test", {})
    assert place.put_if_absent(draft, kept.data)
    assert EventLog(place).append("test", {}).seq == 7


def test_a_forged_draft_is_refused(tmp_path: Path) -> None:
    dying = Mortal(tmp_path)
    dying.fatal = 2
    with pytest.raises(Stop):
        EventLog(dying).append_many([("test", {"n": n}) for n in range(3)])
    place = LocalBackend(tmp_path)
    draft = next(iter(place.list("events-drafts/"))).key
    stored = place.get(draft)
    assert stored is not None
    overwrite(place, draft, stored.data.replace(b'"n":2', b'"n":7').replace(b'"n":1', b'"n":8'))
    with pytest.raises(ChainError):
        EventLog(place).append("test", {})


def test_threads_never_share_a_number(place: Backend) -> None:
    barrier = threading.Barrier(4)

    def write(writer: int) -> list[int]:
        log = EventLog(place)
        barrier.wait()
        single = [log.append("test", {"writer": writer, "n": n}).seq for n in range(4)]
        return single + [e.seq for e in log.append_many([("test", {"writer": writer, "n": 4 + n}) for n in range(4)])]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(write, range(4)))
    assert sorted(itertools.chain(*taken)) == list(range(1, 33))
    read = list(EventLog(place).read())
    assert [e.seq for e in read] == list(range(1, 33))
    for writer in range(4):
        assert [e.body["n"] for e in read if e.body["writer"] == writer] == list(range(8))


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("Bad Kind", {}, InputDataError),
        ("test", {"x": math.nan}, StoreError),
        ("test", {"x": "\ud800"}, StoreError),
        ("test", {"x": 2**60}, StoreError),
        ("test", {1: 2}, StoreError),
        ("test", {"x": object()}, StoreError),
    ],
)
def test_what_has_no_portable_form_is_refused_before_anything_is_written(
    backend: Backend, kind: str, body: Any, error: type[Exception]
) -> None:
    log = EventLog(backend)
    with pytest.raises(error):
        log.append_many([("test", {}), (kind, body)])
    assert log.newest() is None


def test_the_checkpoint_failing_does_not_fail_the_append(tmp_path: Path) -> None:
    class NoSwap(LocalBackend):
        def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str | None:
            if key == log_module.CHECKPOINT_KEY:
                raise StoreUnavailable("gone")
            return super().compare_and_swap(key, data, expected)

    assert EventLog(NoSwap(tmp_path)).append("test", {}).seq == 1
    assert [e.seq for e in EventLog(LocalBackend(tmp_path)).read()] == [1]


def test_appending_does_not_read_the_log(tmp_path: Path) -> None:
    """Requests of an append are the same for a short and a long log."""
    asked: list[str] = []

    class Counting(LocalBackend):
        def get(self, key: str) -> Stored | None:
            asked.append(key)
            return super().get(key)

        def list(self, prefix: str) -> Any:
            asked.append(prefix)
            return super().list(prefix)

    def requests_of(action: Callable[[], Any]) -> int:
        asked.clear()
        action()
        return len(asked)

    fill(Counting(tmp_path), 3)
    short = requests_of(lambda: EventLog(Counting(tmp_path)).append("test", {}))
    EventLog(LocalBackend(tmp_path)).append_many([("test", {"n": n}) for n in range(300)])
    assert requests_of(lambda: EventLog(Counting(tmp_path)).append("test", {})) <= short + 2
