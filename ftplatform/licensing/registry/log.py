"""An append-only, hash-chained log of events over any store backend.

One object per event, named by its number and created only if absent, so two writers never share a number: the loser reads what the
winner wrote and takes the next. Every event holds the hash of the one before it, and a checkpoint moves to the newest event after
each append; it may lag behind, it never leads. So an event that is changed, removed, inserted or cut off at the end is found.

Several events appended together are one group. All of them are first written to one draft; then the first of them is created,
which decides that the group is in the log; then the others are, in parallel. Whoever meets a group whose draft is still there
(its writer is at work, or died) finishes it before going on. A crash leaves the whole group or none of it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from ftplatform.errors import PublishConflict, StoreUnavailable
from ftplatform.licensing.registry.events import (
    GENESIS,
    PREFIX,
    ChainError,
    Event,
    check_body,
    event_key,
    event_number,
    make_event,
    parse_event,
)
from ftplatform.store import pointers
from ftplatform.store.backend import Backend

T = TypeVar("T")

CHECKPOINT_KEY = "events-head.json"
CHECKPOINT_SCHEMA = "ftplatform.license-events-head/1"

#: Events of one group: a draft of this many fits into one small object, and a lost race costs that many hashes.
GROUP = 1000
#: Events read and verified at a time.
_WINDOW = 512
#: Requests in flight; what a connection pool of the S3 backend holds is twice that.
_THREADS = 16
#: A bit flipped on the wire is gone on the next read.
_READS = 3


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An event known to be in the log: number and SHA-256."""

    seq: int
    sha256: str


class EventLog:
    """The log below ``events/`` of a backend. Safe to use from several threads and processes at once.

    Every method raises `ChainError` naming the event if the log was tampered with, and other `StoreError` subclasses as the
    backend does.
    """

    def __init__(self, backend: Backend, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._backend = backend
        self._clock = clock
        self._newest: Event | None = None

    @property
    def url(self) -> str:
        """Where the log is."""
        return self._backend.url

    # ---- writing ---------------------------------------------------------------------------------------------------------

    def append(self, kind: str, body: Mapping[str, Any]) -> Event:
        """Append one event; it is durable when this returns. For the errors see `append_many`."""
        return self.append_many([(kind, body)])[0]

    def append_many(self, items: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Event]:
        """Append events in order, in groups of at most `GROUP`; a group is in the log as a whole or not at all.

        Args:
            items: kind and body of each event.

        Raises:
            StoreError: if a body has no portable JSON form; nothing was appended then.
            PublishConflict: if others won every race for `pointers.CONTENTION_LIMIT_S` seconds; earlier groups are appended.
            StoreUnavailable: if the store did not answer; the group at work may be in the log.
        """
        checked = [(kind, check_body(kind, body)) for kind, body in items]
        appended: list[Event] = []
        for start in range(0, len(checked), GROUP):
            appended += self._append_group(checked[start : start + GROUP])
        return appended

    def _append_group(self, items: Sequence[tuple[str, dict[str, Any]]]) -> list[Event]:
        token = uuid.uuid4().hex
        give_up = time.monotonic() + pointers.CONTENTION_LIMIT_S
        newest, pause = self._newest or self.newest(), 0.005
        while True:
            events = self._chain(newest, items, token)
            if self._create(events):
                break
            if time.monotonic() > give_up:
                raise PublishConflict(f"{self.url}/{PREFIX}: others append all the time.", remedy="Append again later.")
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 0.5)
            newest = self.newest()
        self._newest = events[-1]
        # The event is in the log whatever becomes of the checkpoint, and the next append moves it.
        with contextlib.suppress(StoreUnavailable, PublishConflict):
            self._move_checkpoint(events[-1])
        return events

    def _chain(self, newest: Event | None, items: Sequence[tuple[str, dict[str, Any]]], token: str) -> list[Event]:
        seq, previous = (newest.seq, newest.sha256) if newest else (0, GENESIS)
        last, now = seq + len(items), self._clock()
        events: list[Event] = []
        for kind, body in items:
            seq += 1
            events.append(make_event(seq, last, previous, kind, now, body, token))
            previous = events[-1].sha256
        return events

    def _create(self, events: Sequence[Event]) -> bool:
        """Create the events of a group; False if the number of the first is taken."""
        first = events[0]
        if len(events) > 1:
            self._backend.put_if_absent(_draft_key(first), b"\n".join(event.data for event in events))
        created = self._backend.put_if_absent(event_key(first.seq), first.data)
        if created:
            self._create_rest(events)
        if len(events) > 1:
            self._backend.delete_if_older(_draft_key(first), math.inf)
        return created

    def _create_rest(self, events: Sequence[Event]) -> None:
        def create(event: Event) -> None:
            if not self._backend.put_if_absent(event_key(event.seq), event.data):
                stored = self._backend.get(event_key(event.seq))  # by whoever finishes the same group, or it is an intruder
                if stored is None or stored.data != event.data:
                    raise ChainError(event.seq, f"{self.url}: event {event.seq} is not what was appended as that number.")

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(create, events[1:]))

    def _move_checkpoint(self, event: Event) -> None:
        def change(current: Mapping[str, Any] | None) -> Mapping[str, Any]:
            if current is not None and current["seq"] >= event.seq:
                raise pointers.Unchanged
            return {"seq": event.seq, "sha256": event.sha256}

        pointers.update(self._backend, CHECKPOINT_KEY, CHECKPOINT_SCHEMA, change)

    # ---- reading ---------------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """The newest event that is known to have been in the log; None before the first append."""
        pointer = pointers.read(self._backend, CHECKPOINT_KEY, CHECKPOINT_SCHEMA)
        return Checkpoint(pointer.document["seq"], pointer.document["sha256"]) if pointer else None

    def newest(self) -> Event | None:
        """The last event; None if there is none. Asks from the checkpoint on, so the cost does not grow with the log."""
        return _reread(self._find_newest)

    def _find_newest(self) -> Event | None:
        event = self._newest
        checkpoint = self.checkpoint()
        if checkpoint is not None and (event is None or event.seq < checkpoint.seq):
            event = self._existing(checkpoint.seq)
            if event.sha256 != checkpoint.sha256:
                raise self._not_as_recorded(event.seq)
        if event is None and (number := self._highest_number()):
            event = self._existing(number)
        if event is None:
            return None
        while True:
            if event.last > event.seq:
                self._finish_group(event)
                event = self._existing(event.last)
            following = self._load(event.seq + 1)
            if following is None:
                # The next event will hold the hash of this one: a bit flipped on the wire must not get into it.
                again = self._existing(event.seq)
                if again.sha256 == event.sha256:
                    self._newest = event
                    return event
                following = again
            elif following.previous != event.sha256:
                raise self._accusation(event, following, checkpoint)
            event = following

    def read(self, from_seq: int = 1) -> Iterator[Event]:
        """The events from number `from_seq` on, in order, each verified before it is given out.

        Objects are fetched in parallel, `_WINDOW` at a time; memory does not grow with the log. Reading from 1 also lists the
        objects, so that an event missing beyond the checkpoint shows.

        Raises:
            ChainError: naming the first event that is missing, changed, or does not follow the one before it.
        """
        checkpoint = self.checkpoint()
        if from_seq == 1:
            last = self._highest_number()
            if last and (newest := self._existing(last)).last > last:
                self._finish_group(newest)
                last = newest.last
        else:
            newest = self.newest()
            last = newest.seq if newest else 0
        last = max(last, checkpoint.seq if checkpoint else 0)
        anchor = self._existing(from_seq - 1) if from_seq > 1 else None
        start = from_seq
        with ThreadPoolExecutor(_THREADS) as pool:
            while start <= last:
                numbers = range(start, min(start + _WINDOW, last + 1))
                events = _reread(functools.partial(self._verified, pool, numbers, anchor, checkpoint))
                # The newest of a window is vouched for by the next window only, so it is held back and read again with it.
                complete = numbers[-1] == last or len(events) < 2
                yield from events if complete else events[:-1]
                start, anchor = (numbers[-1] + 1, events[-1]) if complete else (numbers[-1], events[-2])

    def _verified(
        self, pool: ThreadPoolExecutor, numbers: range, anchor: Event | None, checkpoint: Checkpoint | None
    ) -> list[Event]:
        events: list[Event] = []
        before = anchor
        for number, loaded in zip(numbers, pool.map(self._load, numbers), strict=True):
            event = loaded or self._recovered(number, before)
            if checkpoint is not None and number == checkpoint.seq and event.sha256 != checkpoint.sha256:
                raise self._not_as_recorded(number)
            if event.previous != (before.sha256 if before else GENESIS):
                raise self._accusation(before, event, checkpoint)
            events.append(event)
            before = event
        return events

    def _not_as_recorded(self, number: int) -> ChainError:
        return ChainError(number, f"{self.url}: event {number} was changed: it is not the one the checkpoint recorded.")

    def _accusation(self, before: Event | None, event: Event, checkpoint: Checkpoint | None) -> ChainError:
        """`event` does not hold the hash of `before`; the one of the two that nobody else vouches for was changed."""
        following = self._load(event.seq + 1)
        vouched = (following is not None and following.previous == event.sha256) or checkpoint == Checkpoint(
            event.seq, event.sha256
        )
        guilty = before.seq if before is not None and vouched else event.seq
        return ChainError(
            guilty, f"{self.url}: event {guilty} was changed: event {event.seq} does not follow event {event.seq - 1}."
        )

    def _recovered(self, number: int, before: Event | None) -> Event:
        """An event that was not there: it may belong to a group that is still being written."""
        if before is not None and before.last >= number:
            self._finish_group(before)
        return self._existing(number)

    def _existing(self, number: int) -> Event:
        event = self._load(number)
        if event is None:
            raise ChainError(number, f"{self.url}: event {number} is missing.")
        return event

    def _load(self, number: int) -> Event | None:
        def load() -> Event | None:
            stored = self._backend.get(event_key(number))
            return parse_event(stored.data, number, self.url) if stored else None

        return _reread(load)

    def _highest_number(self) -> int:
        return max((event_number(entry.key) or 0 for entry in self._backend.list(PREFIX)), default=0)

    def _finish_group(self, member: Event) -> None:
        """Create what its writer has not created yet. Without a draft the group is complete."""
        draft = self._backend.get(_draft_key(member))
        if draft is None:
            return
        lines = draft.data.split(b"\n")
        first = member.last - len(lines) + 1
        events = [parse_event(line, first + i, f"{self.url}/{_draft_key(member)}") for i, line in enumerate(lines)]
        linked = all(one.sha256 == two.previous for one, two in itertools.pairwise(events))
        if not linked or member.data not in lines:
            raise ChainError(member.seq, f"{self.url}/{_draft_key(member)} is not the group of event {member.seq}.")
        self._create_rest(events)
        self._backend.delete_if_older(_draft_key(member), math.inf)


def _reread(look: Callable[[], T]) -> T:
    """What `look` finds, looking again if the log seems to be damaged."""
    for _ in range(_READS - 1):
        with contextlib.suppress(ChainError):
            return look()
    return look()


def _draft_key(member: Event) -> str:
    return f"events-drafts/{member.token}-{member.last:012d}.jsonl"
