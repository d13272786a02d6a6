"""As-of questions: what was so at one time, by what was known at another. The rules are those of `rules`, in one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ftplatform.licensing.registry.database import body, query
from ftplatform.licensing.registry.records import ANSWERS
from ftplatform.licensing.registry.schema import micros, moment
from ftplatform.licensing.states import Exhibit, State, TermsObservation

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The terms as they were seen first: those under which a copy was acquired."""

    declared: str | tuple[str, ...] | None
    concluded: str | None
    concluded_by: str | None
    exhibits: tuple[Exhibit, ...]
    valid_from: datetime
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsState:
    """What was known about the terms of one source; see `rules` for how it follows from the observations.

    Attributes:
        state: `UNKNOWN` if nothing is known.
        valid_from, observed_at, watcher, notice, detail: of the observation that decides the state; None or empty if none does.
        declared, concluded, concluded_by, exhibits: the latest of each that any observation states.
        withdrawn_rows: ids of rows that upstream withdrew, in force.
        taken_down_rows: ids of rows that somebody claims a right against, in force.
        grant: terms at acquisition; None if the source was never seen active.
        recorded_at: when the last of the observations it rests on entered the log. Later than the time asked for as known means
            that somebody recorded an old observation after the fact.
        events: numbers of the events it rests on, ascending.
    """

    source: str
    state: State = State.UNKNOWN
    valid_from: datetime | None = None
    observed_at: datetime | None = None
    watcher: str | None = None
    notice: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    declared: str | tuple[str, ...] | None = None
    concluded: str | None = None
    concluded_by: str | None = None
    exhibits: tuple[Exhibit, ...] = ()
    withdrawn_rows: frozenset[str] = frozenset()
    taken_down_rows: frozenset[str] = frozenset()
    grant: Grant | None = None
    recorded_at: datetime | None = None
    events: tuple[int, ...] = ()


_LATEST = "valid_from DESC, observed_at DESC, seq DESC"

# `weight` is the severity while something holds, and -1 once it is lifted: then it decides nothing, but its source was seen.
_STATEMENT = f"""
WITH seen AS (
  SELECT * FROM license_observation WHERE valid_from <= :valid AND observed_at <= :known AND {{only}}
), weighed AS (
  SELECT h.*, CASE
    WHEN h.needs = 0 THEN 0
    WHEN EXISTS (
      SELECT 1 FROM license_observation l
      WHERE l.source = h.source AND l.lifts > 0 AND l.lifts >= h.needs AND (l.lifts > 1 OR l.watcher = h.watcher)
        AND l.valid_from <= :valid AND l.observed_at <= :known
        AND (l.valid_from, l.observed_at, l.seq) > (h.valid_from, h.observed_at, h.seq)
        AND (l.notice = h.notice OR (l.notice IS NULL AND l.observed_at >= h.observed_at))
    ) OR EXISTS (
      SELECT 1 FROM license_notice n
      WHERE n.refers_to = h.notice AND n.kind IN ({", ".join(f"'{kind}'" for kind in sorted(ANSWERS))})
        AND n.received_at <= :valid AND n.received_at <= :known AND n.received_at >= h.valid_from
    ) THEN -1
    ELSE h.severity END AS weight
  FROM seen h
), picked AS (
  SELECT 'state' AS role, seq, weight, row_number() OVER (PARTITION BY source ORDER BY weight DESC, {_LATEST}) AS place FROM weighed
  UNION ALL
  SELECT 'declared', seq, 0, row_number() OVER (PARTITION BY source ORDER BY {_LATEST}) FROM seen WHERE declared IS NOT NULL
  UNION ALL
  SELECT 'concluded', seq, 0, row_number() OVER (PARTITION BY source ORDER BY {_LATEST}) FROM seen WHERE concluded IS NOT NULL
  UNION ALL
  SELECT 'exhibits', seq, 0, row_number() OVER (PARTITION BY source ORDER BY {_LATEST}) FROM seen WHERE exhibits > 0
  UNION ALL
  SELECT 'grant', seq, 0, row_number() OVER (PARTITION BY source ORDER BY observed_at, valid_from, seq) FROM seen
  WHERE state = 'active'
  UNION ALL
  SELECT 'rows', seq, 0, 1 FROM weighed WHERE needs = 3 AND weight > 0
)
SELECT p.role, p.seq, p.weight, e.recorded_at, e.document FROM picked p JOIN license_event e ON e.seq = p.seq WHERE p.place = 1
"""


def states(connection: Connection, valid_at: datetime, known_at: datetime, source: str | None = None) -> dict[str, TermsState]:
    """State by source, for all sources or one; sources nobody had observed are left out. One statement, whatever their number."""
    statement = _STATEMENT.format(only="1 = 1" if source is None else "source = :source")
    parameters: dict[str, Any] = {"valid": micros(valid_at), "known": micros(known_at)}
    if source is not None:
        parameters["source"] = source
    parsed: dict[int, TermsObservation] = {}
    found: dict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
    for role, seq, weight, recorded_at, document in query(connection, statement, **parameters):
        if seq not in parsed:
            parsed[seq] = TermsObservation.from_record(body(document))
        found[parsed[seq].source].append((role, seq, weight, recorded_at))
    return {name: _state(name, picked, parsed) for name, picked in sorted(found.items())}


def _state(source: str, picked: list[tuple[str, int, int, int]], parsed: Mapping[int, TermsObservation]) -> TermsState:
    facts: dict[str, Any] = {}
    withdrawn: set[str] = set()
    taken_down: set[str] = set()
    for role, seq, weight, _ in picked:
        said = parsed[seq]
        match role:
            case "state" if weight >= 0:
                facts |= {name: getattr(said, name) for name in ("valid_from", "observed_at", "watcher", "notice", "detail")}
                facts["state"] = State.WITHDRAWN_ROWS if said.rows else said.state
            case "declared" | "exhibits":
                facts[role] = getattr(said, role)
            case "concluded":
                facts |= {"concluded": said.concluded, "concluded_by": said.concluded_by}
            case "grant":
                facts["grant"] = Grant(
                    declared=said.declared,
                    concluded=said.concluded,
                    concluded_by=said.concluded_by,
                    exhibits=said.exhibits,
                    valid_from=said.valid_from,
                    observed_at=said.observed_at,
                )
            case "rows":
                (taken_down if said.state is State.TAKEDOWN else withdrawn).update(said.rows)
    return TermsState(
        source=source,
        withdrawn_rows=frozenset(withdrawn),
        taken_down_rows=frozenset(taken_down),
        recorded_at=moment(max(recorded_at for *_, recorded_at in picked)),
        events=tuple(sorted({seq for _, seq, _, _ in picked})),
        **facts,
    )
