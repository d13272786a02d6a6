"""Watchers and when they looked: whether a look is news, and the last look of each."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ftplatform.licensing.registry.database import body, query
from ftplatform.licensing.registry.schema import micros, moment
from ftplatform.licensing.states import State, TermsObservation

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MINE = (
    "SELECT seq FROM license_observation"
    " WHERE source = :source AND watcher = :watcher AND observed_at <= :at {more} ORDER BY observed_at DESC, seq DESC LIMIT 1"
)


def is_news(connection: Connection, observation: TermsObservation) -> bool:
    """Whether a look differs from what the same watcher last saw and stated about the source; see `Ledger.observe`."""

    def last(more: str = "") -> TermsObservation | None:
        rows = query(
            connection,
            f"SELECT document FROM license_event WHERE seq = ({_MINE.format(more=more)})",
            source=observation.source,
            watcher=observation.watcher,
            at=micros(observation.observed_at),
        )
        return TermsObservation.from_record(body(rows[0][0])) if rows else None

    seen = last()
    if seen is None or _situation(seen) != _situation(observation):
        return True
    if observation.declared is not None:
        stated = last("AND declared IS NOT NULL")
        if stated is None or stated.declared != observation.declared:
            return True
    if observation.concluded is not None:
        stated = last("AND concluded IS NOT NULL")
        if stated is None or _conclusion(stated) != _conclusion(observation):
            return True
    if observation.exhibits:
        stated = last("AND exhibits > 0")
        if stated is None or _words(stated) != _words(observation):
            return True
    return False


def last_looks(connection: Connection, known_at: datetime | None, source: str | None = None) -> dict[str, dict[str, datetime]]:
    """Source to watcher to the time it last saw the terms, of one source or all."""
    parameters: dict[str, Any] = {"unreachable": str(State.UNREACHABLE)}
    where = ""
    if source is not None:
        parameters["source"], where = source, " AND source = :source"
    if known_at is not None:
        parameters["known"], where = micros(known_at), f"{where} AND observed_at <= :known"
    statement = (
        "SELECT source, watcher, max(observed_at) FROM ("
        f"SELECT source, watcher, observed_at FROM license_observation WHERE state <> :unreachable{where}"
        f" UNION ALL SELECT source, watcher, observed_at FROM license_heartbeat WHERE 1 = 1{where}"
        ") AS looks GROUP BY source, watcher"
    )
    found: dict[str, dict[str, datetime]] = defaultdict(dict)
    for name, watcher, at in query(connection, statement, **parameters):
        found[name][watcher] = moment(at)
    return dict(found)


def _situation(observation: TermsObservation) -> tuple[Any, ...]:
    return observation.state, observation.notice, frozenset(observation.rows)


def _conclusion(observation: TermsObservation) -> tuple[Any, ...]:
    return observation.concluded, observation.concluded_by


def _words(observation: TermsObservation) -> frozenset[tuple[str, str]]:
    return frozenset((exhibit.uri, exhibit.text_digest or exhibit.sha256) for exhibit in observation.exhibits)
