"""Records as they were appended: the history of a source, notices and decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ftplatform.licensing.registry.database import body, query
from ftplatform.licensing.registry.records import ANSWERS, LegalNotice, LicenseDecision
from ftplatform.licensing.registry.schema import micros, moment
from ftplatform.licensing.states import TermsObservation

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ANSWERS = ", ".join(f"'{kind}'" for kind in sorted(ANSWERS))


@dataclass(frozen=True, slots=True)
class Recorded:
    """An observation as it stands in the log: number and SHA-256 of its event, and when it was appended."""

    seq: int
    sha256: str
    recorded_at: datetime
    observation: TermsObservation


def history(connection: Connection, source: str) -> list[Recorded]:
    """Every observation of a source, in the order of the log."""
    return _recorded(connection, "o.source = :key", source)


def _recorded(connection: Connection, where: str, key: str) -> list[Recorded]:
    statement = (
        "SELECT e.seq, e.sha256, e.recorded_at, e.document FROM license_observation o JOIN license_event e ON e.seq = o.seq"
        f" WHERE {where} ORDER BY e.seq"
    )
    rows = query(connection, statement, key=key)
    return [Recorded(s, h, moment(at), TermsObservation.from_record(body(document))) for s, h, at, document in rows]


def of_notice(connection: Connection, notice: str) -> list[Recorded]:
    """Every observation that rests on a notice, in the order of the log."""
    return _recorded(connection, "o.notice = :key", notice)


def notices(connection: Connection, known_at: datetime, *, open_only: bool) -> list[LegalNotice]:
    """Notices received by `known_at`, each as it was recorded last; see `Ledger.notices`."""
    unanswered = (
        f" AND n.kind NOT IN ({_ANSWERS}) AND NOT EXISTS (SELECT 1 FROM license_notice a"
        f" WHERE a.refers_to = n.id AND a.kind IN ({_ANSWERS}) AND a.received_at <= :known)"
    )
    statement = (
        "SELECT e.document FROM license_notice n JOIN license_event e ON e.seq = n.seq"
        " WHERE n.received_at <= :known AND NOT EXISTS"
        " (SELECT 1 FROM license_notice m WHERE m.id = n.id AND m.seq > n.seq AND m.received_at <= :known)"
        f"{unanswered if open_only else ''} ORDER BY (SELECT min(f.seq) FROM license_notice f WHERE f.id = n.id)"
    )
    return [LegalNotice.from_record(body(document)) for (document,) in query(connection, statement, known=micros(known_at))]


def decisions(connection: Connection, asset: str | None) -> list[LicenseDecision]:
    """What was decided about an asset (None: about all), in the order of the log."""
    only, parameters = ("1 = 1", {}) if asset is None else ("d.asset = :asset", {"asset": asset})
    statement = f"SELECT e.document FROM license_decision d JOIN license_event e ON e.seq = d.seq WHERE {only} ORDER BY d.seq"
    return [LicenseDecision.from_record(body(document)) for (document,) in query(connection, statement, **parameters)]
