"""Waivers: who lets a failed check through, why, and until when (SPEC 2.5.6).

    waivers/<asset>/<check>/<sha256>.json    a waiver, or the revocation of one; named by its hash

Records are created once and never changed: a waiver ends by itself, or by a second record that revokes it. It lets nothing pass.
The evaluation it names stays a failure; the gate decides whether the waiver still speaks about what is current.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store import records
from ftplatform.store.backend import Backend
from ftplatform.store.evaluations import Evaluation
from ftplatform.store.garbage import names_below
from ftplatform.store.names import asset_name, check_name
from ftplatform.verdict import Decision

SCHEMA = "ftplatform.waiver/1"
REVOCATION_SCHEMA = "ftplatform.waiver_revocation/1"

#: Longest time from issue to expiry.
MAX_LIFETIME = timedelta(days=30)

_PREFIX = "waivers/"
_MAX_CHARS = 2000


class WaiverError(StoreError):
    """A waiver cannot be recorded as asked, or a recorded one breaks the rules."""


class Standing(StrEnum):
    """What time and revocation make of a waiver."""

    IN_FORCE = "in force"
    EXPIRED = "expired"
    REVOKED = "revoked"
    NOT_YET = "not yet in force"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Who ended a waiver before its time, why and when (UTC)."""

    by: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One waiver.

    Attributes:
        id: SHA-256 of its record.
        asset, check, check_version: what it is about.
        judged: digest of every snapshot the failed evaluation looked at, by asset; the asset's own among them.
        binding: digest of the thresholds, policy and terms that were in force (`Check.binding`).
        evaluation: SHA-256 of the record of the failed evaluation.
        decision, summary: what that evaluation concluded, and what the signer therefore knew.
        by, why: the signer and the reason.
        issued_at, expires_at: when it begins and ends (UTC).
        revocation: the record that ended it early, None if there is none.
    """

    id: str
    asset: str
    check: str
    check_version: str
    judged: Mapping[str, str]
    binding: str
    evaluation: str
    decision: Decision
    summary: str
    by: str
    why: str
    issued_at: datetime
    expires_at: datetime
    token: str
    revocation: Revocation | None = None

    def standing(self, now: datetime) -> Standing:
        """Whether it is in force at `now`; one dated in the future is not, a revocation counts whatever its date."""
        if self.revocation is not None:
            return Standing.REVOKED
        if now >= self.expires_at:
            return Standing.EXPIRED
        return Standing.IN_FORCE if self.issued_at <= now else Standing.NOT_YET

    def same_finding(self, other: Waiver) -> bool:
        """Whether both waive the same conclusion on the same snapshots by the same rules."""
        return _finding(self) == _finding(other)

    def to_record(self) -> dict[str, Any]:
        """The document whose SHA-256 is `id`; JSON-able, times as RFC 3339 in UTC. A revocation is a record of its own."""
        return {
            "schema": SCHEMA,
            "asset": self.asset,
            "check": self.check,
            "check_version": self.check_version,
            "judged": dict(self.judged),
            "binding": self.binding,
            "evaluation": self.evaluation,
            "decision": str(self.decision),
            "summary": self.summary,
            "by": self.by,
            "why": self.why,
            "issued_at": records.time_to_text(self.issued_at),
            "expires_at": records.time_to_text(self.expires_at),
            "token": self.token,
        }


def issue(
    backend: Backend,
    evaluation: Evaluation,
    *,
    check: str,
    check_version: str,
    binding: str,
    by: str,
    why: str,
    lifetime: timedelta,
    now: datetime | None = None,
) -> Waiver:
    """Record a waiver of a finished evaluation that did not pass.

    Args:
        check: name of the check; the evaluation's own name may be that of its nightly lane.
        lifetime: time until it expires, at most `MAX_LIFETIME`.
        now: time of issue, the present by default.

    Raises:
        WaiverError: if the evaluation passed or never finished, `by` or `why` is empty, or the lifetime is out of range.
    """
    verdict = evaluation.verdict
    what = f"{evaluation.check} on {evaluation.asset}"
    if verdict is None or evaluation.record is None:
        raise WaiverError(f"{what} has not finished; there is nothing to waive.", remedy="Run the check.")
    if verdict.decision is Decision.PASS:
        raise WaiverError(f"{what} passed; there is nothing to waive.", remedy="Nothing to do.")
    issued_at = _utc(now)
    waiver = Waiver(
        id="",
        asset=asset_name(evaluation.asset),
        check=check_name(check),
        check_version=check_version,
        judged=dict(evaluation.judged),
        binding=binding,
        evaluation=evaluation.record,
        decision=verdict.decision,
        summary=verdict.summary,
        by=_words(by, "who signs it (by)"),
        why=_words(why, "the reason (why)"),
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
        token=uuid.uuid4().hex,
    )
    _require_lifetime(waiver)
    folder, what = _folder(waiver.asset, waiver.check), f"Waiver of {waiver.check} on {waiver.asset}"
    return replace(waiver, id=records.create(backend, folder, waiver.to_record(), what))


def revoke(backend: Backend, waiver: Waiver, *, by: str, why: str, now: datetime | None = None) -> Waiver:
    """End a waiver now, by a second record; returns it with the revocation that counts.

    Raises:
        WaiverError: if it is revoked already, or `by` or `why` is empty.
    """
    if waiver.revocation is not None:
        raise WaiverError(f"The waiver {waiver.id[:12]} was revoked already, by {waiver.revocation.by}.", remedy="Nothing to do.")
    revocation = Revocation(by=_words(by, "who revokes it (by)"), why=_words(why, "the reason (why)"), at=_utc(now))
    document = {
        "schema": REVOCATION_SCHEMA,
        "asset": waiver.asset,
        "check": waiver.check,
        "waiver": waiver.id,
        "by": revocation.by,
        "why": revocation.why,
        "at": records.time_to_text(revocation.at),
        "token": uuid.uuid4().hex,
    }
    records.create(backend, _folder(waiver.asset, waiver.check), document, f"Revocation of {waiver.check} on {waiver.asset}")
    return replace(waiver, revocation=revocation)


def of_check(backend: Backend, asset: str, check: str) -> list[Waiver]:
    """All waivers ever issued for a check on an asset, newest first.

    Raises:
        CorruptArtifact: if a record is missing, damaged, misplaced or breaks the rules: then nobody knows what is waived.
    """
    folder = f"{_folder(asset, check)}/"
    return _read_all(backend, asset, check, [name for name in names_below(backend, folder) if "/" not in name])


def all_waivers(backend: Backend) -> list[Waiver]:
    """All waivers ever issued, newest first; errors as `of_check`."""
    places: dict[tuple[str, str], list[str]] = {}
    for name in names_below(backend, _PREFIX):
        place, _, digest = name.rpartition("/")
        asset, _, check = place.rpartition("/")
        places.setdefault((asset, check), []).append(digest)
    found = [waiver for (asset, check), digests in places.items() for waiver in _read_all(backend, asset, check, digests)]
    return _newest_first(found)


def _read_all(backend: Backend, asset: str, check: str, digests: Iterable[str]) -> list[Waiver]:
    waivers: dict[str, Waiver] = {}
    revocations: dict[str, list[Revocation]] = {}
    for digest in digests:
        document, where = _read(backend, asset, check, digest)
        try:
            if document["schema"] == SCHEMA:
                waivers[digest] = _waiver(digest, document)
            elif document["schema"] == REVOCATION_SCHEMA:
                at = records.text_to_time(document["at"])
                revocations.setdefault(document["waiver"], []).append(Revocation(by=document["by"], why=document["why"], at=at))
            else:
                raise StoreError(
                    f"{where} has the schema {document['schema']!r}.", remedy="Use the version of ftplatform that wrote it."
                )
        except (KeyError, TypeError, ValueError, WaiverError) as error:
            raise CorruptArtifact(f"{where} is no waiver: {error}", remedy="Restore it from a backup.") from error
    ended = {id_: min(ends, key=lambda end: end.at) for id_, ends in revocations.items()}
    return _newest_first(replace(waiver, revocation=ended.get(id_)) for id_, waiver in waivers.items())


def _read(backend: Backend, asset: str, check: str, digest: str) -> tuple[dict[str, Any], str]:
    folder = _folder(asset, check)
    document, where = records.read(backend, folder, digest), f"{backend.url}/{folder}/{digest}.json"
    if (document.get("asset"), document.get("check")) != (asset, check):
        raise CorruptArtifact(f"{where} is about another check.", remedy="Remove it; waivers are not moved.")
    return document, where


def _waiver(digest: str, document: Mapping[str, Any]) -> Waiver:
    fields = {key: value for key, value in document.items() if key != "schema"}
    times = {key: records.text_to_time(fields[key]) for key in ("issued_at", "expires_at")}
    waiver = Waiver(**{**fields, **times, "id": digest, "decision": Decision(fields["decision"])})
    _require_lifetime(waiver)
    return waiver


def _require_lifetime(waiver: Waiver) -> None:
    lifetime = waiver.expires_at - waiver.issued_at
    if not timedelta(0) < lifetime <= MAX_LIFETIME:
        raise WaiverError(
            f"A waiver of {waiver.check} on {waiver.asset} for {lifetime / timedelta(days=1):g} days.",
            remedy=f"Let it expire within {MAX_LIFETIME.days} days; it can be issued again then.",
        )


def _folder(asset: str, check: str) -> str:
    return f"{_PREFIX}{asset_name(asset)}/{check_name(check)}"


def _finding(waiver: Waiver) -> tuple[object, ...]:
    return (waiver.asset, waiver.check, waiver.check_version, dict(waiver.judged), waiver.binding, waiver.decision)


def _newest_first(waivers: Iterable[Waiver]) -> list[Waiver]:
    return sorted(waivers, key=lambda waiver: (waiver.issued_at, waiver.id), reverse=True)


def _words(text: str, what: str) -> str:
    words = " ".join(text.split())
    if not words or len(words) > _MAX_CHARS:
        raise WaiverError(f"A waiver needs {what}, at most {_MAX_CHARS:,} characters.", remedy="Write it in a sentence.")
    return words


def _utc(moment: datetime | None) -> datetime:
    try:
        return records.utc(moment)
    except ValueError as error:
        raise WaiverError(f"A waiver's time: {error}.", remedy="Give it with its offset from UTC.") from error
