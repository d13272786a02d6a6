"""The license ledger: append what was seen, claimed and decided; ask what was so and what was known.

The event log in the store is the truth, the database an index of it. Appending writes the log first and the index second, so a
crash between the two leaves an index that lags, which the next append or open puts right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from ftplatform.errors import CorruptArtifact
from ftplatform.licensing.registry import asof, listings, looks
from ftplatform.licensing.registry.asof import TermsState
from ftplatform.licensing.registry.database import Database, export, insert, query
from ftplatform.licensing.registry.events import GENESIS, Event
from ftplatform.licensing.registry.listings import Recorded
from ftplatform.licensing.registry.log import EventLog, utc_now
from ftplatform.licensing.registry.records import Heartbeat, LegalNotice, LicenseDecision, Record, kind_of
from ftplatform.licensing.registry.schema import index_row
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.store.backend import Backend

if TYPE_CHECKING:
    from sqlalchemy import Connection


class LedgerMismatch(CorruptArtifact):
    """The index holds an event that the log does not have, or not with these bytes. `seq` is its number."""

    def __init__(self, seq: int, message: str) -> None:
        self.seq = seq
        super().__init__(message, remedy="Restore the event log if it lost events; rebuild the index if it belongs to another log.")


class Ledger:
    """The bitemporal ledger. Safe to use from several threads; open it anew in another process.

    Every method raises `StoreUnavailable` if the store or the database does not answer. Times need a zone; left out, they are now.
    """

    def __init__(
        self, log: EventLog, database: Database, *, heartbeat_every: timedelta, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.log = log
        self._database = database
        self._heartbeat_every = heartbeat_every
        self._clock = clock

    @classmethod
    def open(
        cls,
        backend: Backend,
        database_url: str,
        *,
        verify: bool = True,
        heartbeat_every: timedelta = timedelta(hours=1),
        clock: Callable[[], datetime] = utc_now,
    ) -> Self:
        """Open the ledger in `backend`, creating what is missing, and bring the index up to date.

        Args:
            database_url: ``sqlite:///file`` or ``postgresql+psycopg2://...``.
            verify: read the whole log and compare every event with the index; else only from the newest indexed event on.
            heartbeat_every: least time between two heartbeats of one watcher about one source.
            clock: the time now, with a zone.

        Raises:
            ChainError: if the log was tampered with.
            LedgerMismatch: if the index holds what the log does not; nothing is changed then.
            InputDataError: for an unusable URL, or an event this version cannot read.
        """
        ledger = cls(EventLog(backend, clock=clock), Database(database_url), heartbeat_every=heartbeat_every, clock=clock)
        with ledger._database.writing() as connection:
            ledger._database.create(connection, anew=False)
        ledger.sync(verify=verify)
        return ledger

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    # ---- appending -------------------------------------------------------------------------------------------------------

    def append(self, record: Record) -> Event:
        """Append one record; a person's conclusion is appended, what a watcher sees is `observe`d. For errors see `append_many`."""
        return self.append_many([record])[0]

    def append_many(self, records: Iterable[Record]) -> list[Event]:
        """Append records in order: to the log in groups, then to the index in one transaction.

        Raises:
            InputDataError, StoreError: if a record cannot be stored; nothing was appended then.
            PublishConflict: if other writers win every race.
            StoreUnavailable: if store or database did not answer. What got into the log stays there and is indexed by the next append
                or `sync`; appending it once more changes no answer.
        """
        items = []
        for record in records:
            items.append((kind_of(record), record.to_record()))
            index_row(*items[-1])  # what the index would refuse must not get into the log
        events = self.log.append_many(items)
        self._index(events)
        return events

    def observe(self, observation: TermsObservation) -> Event | None:
        """What a watcher saw: appended if it is news, else a heartbeat (see `heartbeat`).

        It is no news if this watcher has last seen the same state (with the same notice and rows) and every fact it states (declared;
        concluded and by whom; words of the exhibits) is as this watcher last stated it. The revision does not count. So re-reading
        an old declaration after a takedown is no new conclusion; a person who concludes the same anew uses `append`.

        A source that stays `unreachable` was not seen: that is no heartbeat.
        """
        records = self._looked([observation])
        return self.append(records[0]) if records else None

    def observe_many(self, observations: Iterable[TermsObservation]) -> int:
        """`observe` of several sources at once, in one group; how many of them were news."""
        records = self._looked(observations)
        self.append_many(records)
        return sum(isinstance(record, TermsObservation) for record in records)

    def heartbeat(self, source: str, watcher: str, observed_at: datetime) -> Event | None:
        """A watcher saw the terms and nothing had changed. None if it was seen less than `heartbeat_every` ago."""
        due = self._due(Heartbeat(source, watcher, observed_at), self.last_looked(source))
        return self.append(due) if due else None

    # ---- asking ----------------------------------------------------------------------------------------------------------

    def state(self, source: str, valid_at: datetime | None = None, known_at: datetime | None = None) -> TermsState:
        """What was so at `valid_at`, by what had been observed at `known_at`; `UNKNOWN` if nothing had. Rules: module `rules`."""
        now = self._clock()
        with self._database.reading() as connection:
            found = asof.states(connection, valid_at or now, known_at or now, source)
        return found.get(source) or TermsState(source=source)

    def states(self, valid_at: datetime | None = None, known_at: datetime | None = None) -> dict[str, TermsState]:
        """`state` of every source that had been observed, by name, with one query."""
        now = self._clock()
        with self._database.reading() as connection:
            return asof.states(connection, valid_at or now, known_at or now)

    def history(self, source: str) -> list[Recorded]:
        """Every observation of a source, in the order of the log."""
        with self._database.reading() as connection:
            return listings.history(connection, source)

    def of_notice(self, notice: str) -> list[Recorded]:
        """Every observation that rests on a notice, in the order of the log."""
        with self._database.reading() as connection:
            return listings.of_notice(connection, notice)

    def last_looked(self, source: str, known_at: datetime | None = None) -> dict[str, datetime]:
        """When each watcher last saw the source's terms; a source found unreachable was not seen."""
        with self._database.reading() as connection:
            return looks.last_looks(connection, known_at, source).get(source, {})

    def looks(self, known_at: datetime | None = None) -> dict[str, dict[str, datetime]]:
        """`last_looked` of every source, with one query."""
        with self._database.reading() as connection:
            return looks.last_looks(connection, known_at)

    def notices(self, *, open_only: bool = False, known_at: datetime | None = None) -> list[LegalNotice]:
        """Notices received by `known_at`, each as it was recorded last, in the order of their first recording.

        Args:
            open_only: leave out retractions and counter-notices, and what they answer.
        """
        with self._database.reading() as connection:
            return listings.notices(connection, known_at or self._clock(), open_only=open_only)

    def decisions(self, asset: str | None = None) -> list[LicenseDecision]:
        """What was decided about an asset (or all), in the order of the log."""
        with self._database.reading() as connection:
            return listings.decisions(connection, asset)

    # ---- the index -------------------------------------------------------------------------------------------------------

    def sync(self, *, verify: bool = False) -> int:
        """Index the events that other writers, or a crash, left out; how many. For `verify` and the errors see `open`."""
        # The index is read first: the log may only have grown when it is read.
        where = "1 = 1" if verify else "seq = (SELECT max(seq) FROM license_event)"
        with self._database.reading() as connection:
            indexed = query(connection, f"SELECT seq, sha256 FROM license_event WHERE {where} ORDER BY seq")
        expected = iter(indexed)
        fresh: list[Event] = []
        start = indexed[0][0] if indexed else 1
        events = self.log.read(start) if self._reaches(start) else iter(())
        for event in events:
            row = next(expected, None)
            if row is None:
                fresh.append(event)
            elif tuple(row) != (event.seq, event.sha256):
                raise LedgerMismatch(row[0], f"event {row[0]} of the index {self._database.url} is not the one in {self.log.url}")
        if (row := next(expected, None)) is not None:
            raise LedgerMismatch(row[0], f"event {row[0]} of the index {self._database.url} is not in the log {self.log.url}")
        return self._index(fresh)

    def rebuild(self) -> int:
        """Drop the index and build it from the log; how many events. The log is verified before anything is dropped."""
        events = list(self.log.read())
        with self._database.writing() as connection:
            self._database.create(connection, anew=True)
            insert(connection, events)
        return len(events) + self.sync()

    def export(self) -> bytes:
        """All tables as bytes that depend on the events alone: the same after a rebuild, and on every database."""
        with self._database.writing() as connection:
            return export(connection)

    def _looked(self, observations: Iterable[TermsObservation]) -> list[TermsObservation | Heartbeat]:
        """What is to be appended for these looks."""
        records: list[TermsObservation | Heartbeat] = []
        with self._database.reading() as connection:
            for observation in observations:
                if looks.is_news(connection, observation):
                    records.append(observation)
                elif observation.state is not State.UNREACHABLE:
                    beat = Heartbeat(observation.source, observation.watcher, observation.observed_at)
                    seen = looks.last_looks(connection, None, observation.source)
                    if due := self._due(beat, seen.get(observation.source, {})):
                        records.append(due)
        return records

    def _due(self, beat: Heartbeat, looked: Mapping[str, datetime]) -> Heartbeat | None:
        last = looked.get(beat.watcher)
        return None if last is not None and beat.observed_at - last < self._heartbeat_every else beat

    def _reaches(self, seq: int) -> bool:
        newest = self.log.newest()
        return newest is not None and newest.seq >= seq

    def _index(self, events: Sequence[Event]) -> int:
        """Index events, and those before them that are not indexed yet; how many."""
        if not events:
            return 0
        with self._database.writing() as connection:
            seq, sha256 = _top(connection)
            fresh = [event for event in events if event.seq > seq]
            if fresh and fresh[0].seq > seq + 1:
                before = itertools.takewhile(lambda event: event.seq < events[0].seq, self.log.read(seq + 1))
                fresh = [*before, *fresh]
            if fresh and fresh[0].previous != sha256:
                raise LedgerMismatch(seq, f"event {seq} of the index {self._database.url} is not the one in {self.log.url}")
            insert(connection, fresh)
        return len(fresh)


def _top(connection: Connection) -> tuple[int, str]:
    rows: Sequence[Any] = query(connection, "SELECT seq, sha256 FROM license_event ORDER BY seq DESC LIMIT 1")
    return tuple(rows[0]) if rows else (0, GENESIS)
