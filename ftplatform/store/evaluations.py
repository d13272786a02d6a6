"""Evaluations: what a check concluded about which snapshots, kept so that a crash in between is visible.

A check announces itself before it runs (`begin`); its verdict becomes an immutable, content-addressed record (`record`), chained
to the one before. A pointer per asset and check names the latest record and whatever was begun after it and never finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from ftplatform.canonical import sha256_hex
from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store import pointers
from ftplatform.store.backend import Backend
from ftplatform.store.documents import encode
from ftplatform.store.heads import now
from ftplatform.store.names import asset_name, blob_key, digest_name, evaluation_key
from ftplatform.verdict import Verdict

SCHEMA = "ftplatform.evaluation/1"
POINTER_SCHEMA = "ftplatform.evaluation_pointer/1"

_READS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation of a check.

    Attributes:
        asset, check: what was evaluated.
        state: ``running`` if it was begun and never finished (it runs now, or its process died), else ``done``.
        judged: digest of every snapshot it looked at, by asset.
        verdict, blocking, severity, record: the outcome and the SHA-256 of its immutable record; None while running.
        run_id: who ran it.
        evaluated_at: when it finished; while running, when it began (ISO 8601).
        previous: SHA-256 of the record before it, None for the first.
    """

    asset: str
    check: str
    state: Literal["running", "done"]
    judged: Mapping[str, str]
    run_id: str
    evaluated_at: str
    verdict: Verdict | None = None
    blocking: bool | None = None
    severity: str | None = None
    record: str | None = None
    previous: str | None = None


def begin(backend: Backend, asset: str, check: str, *, judged: Mapping[str, str], run_id: str) -> None:
    """Announce that `run_id` starts to evaluate; until it records, the latest evaluation is ``running``."""
    started = {"run_id": run_id, "judged": _judged(judged), "started_at": now()}

    def change(current: Mapping[str, Any] | None) -> dict[str, Any]:
        record = current["record"] if current else None
        begun = [item for item in (current["begun"] if current else ()) if item["run_id"] != run_id]
        # Only the latest announcements decide; a hundred crashes in a row need not all be remembered.
        return {"asset": asset, "check": check, "record": record, "begun": [*begun, started][-16:]}

    pointers.update(backend, evaluation_key(asset, check), POINTER_SCHEMA, change)


def record(
    backend: Backend,
    asset: str,
    check: str,
    *,
    judged: Mapping[str, str],
    verdict: Verdict,
    blocking: bool,
    severity: str,
    run_id: str,
    evaluated_at: str,
) -> Evaluation:
    """Append the outcome and make it the latest.

    It also settles what was announced before this run's own announcement; an evaluation announced later and not finished stays
    ``running``. A run that never announced itself, or was settled by a younger one, settles nothing.
    """
    body = {
        "schema": SCHEMA,
        "asset": asset_name(asset),
        "check": check,
        "judged": _judged(judged),
        "verdict": verdict.to_record(),
        "blocking": blocking,
        "severity": severity,
        "run_id": run_id,
        "evaluated_at": evaluated_at,
    }
    key = evaluation_key(asset, check)
    what = f"Evaluation of {check} on {asset}"
    written: dict[str, Any] = {}

    def change(current: Mapping[str, Any] | None) -> dict[str, Any]:
        begun = list(current["begun"]) if current else []
        own = [position for position, item in enumerate(begun) if item["run_id"] == run_id]
        document = {**body, "previous": current["record"] if current else None}
        data = encode(document, what)
        digest = sha256_hex(data)
        backend.ensure(blob_key(digest), data, digest)
        written.update(document=document, digest=digest)
        return {"asset": asset, "check": check, "record": digest, "begun": begun[own[-1] + 1 :] if own else begun}

    pointers.update(backend, key, POINTER_SCHEMA, change)
    return _done(written["document"], written["digest"])


def latest(backend: Backend, asset: str, check: str) -> Evaluation | None:
    """The latest evaluation, or None if the check never began."""
    pointer = pointers.read(backend, evaluation_key(asset, check), POINTER_SCHEMA)
    if pointer is None:
        return None
    document = pointer.document
    if document["begun"]:
        last = document["begun"][-1]
        return Evaluation(
            asset=asset,
            check=check,
            state="running",
            judged=last["judged"],
            run_id=last["run_id"],
            evaluated_at=last["started_at"],
            previous=document["record"],
        )
    return read_record(backend, asset, check, document["record"]) if document["record"] else None


def history(backend: Backend, asset: str, check: str, limit: int | None) -> Iterator[Evaluation]:
    """Finished evaluations, newest first, at most `limit` (None: all)."""
    pointer = pointers.read(backend, evaluation_key(asset, check), POINTER_SCHEMA)
    digest = pointer.document["record"] if pointer else None
    while digest and (limit is None or limit > 0):
        found = read_record(backend, asset, check, digest)
        yield found
        digest = found.previous
        limit = None if limit is None else limit - 1


def references(backend: Backend, asset: str, check: str) -> tuple[set[str], set[str]]:
    """Digests of all records of a check and of all snapshots they judged, unfinished evaluations included.

    Raises:
        CorruptArtifact: if the pointer is gone or a record is missing or damaged.
    """
    pointer = pointers.read(backend, evaluation_key(asset, check), POINTER_SCHEMA)
    if pointer is None:
        raise CorruptArtifact(f"The evaluation of {check} on {asset} was listed but cannot be read.", remedy="Try again.")
    records: set[str] = set()
    judged = {snapshot for item in pointer.document["begun"] for snapshot in item["judged"].values()}
    for evaluation in history(backend, asset, check, None):
        records.add(evaluation.record or "")
        judged.update(evaluation.judged.values())
    return records, judged


def read_record(backend: Backend, asset: str, check: str, digest: str) -> Evaluation:
    """The record with this digest, verified.

    Raises:
        CorruptArtifact: if it is missing, damaged, or of another asset or check.
    """
    where = f"The record {digest} of {check} on {asset}"
    for _ in range(_READS):
        stored = backend.get(blob_key(digest))
        if stored is None:
            raise CorruptArtifact(
                f"{where} is missing from {backend.url}.", remedy="Restore it from a backup, or run the check again."
            )
        if sha256_hex(stored.data) == digest:
            break
    else:
        raise CorruptArtifact(f"{where} does not hash to its name.", remedy="Restore it from a backup, or run the check again.")
    document = orjson.loads(stored.data)
    if document.get("schema") != SCHEMA:
        raise StoreError(
            f"{where} has the schema {document.get('schema')!r}.", remedy="Use the version of ftplatform that wrote it."
        )
    if (document["asset"], document["check"]) != (asset, check):
        raise CorruptArtifact(f"{where} is about {document['check']} on {document['asset']}.", remedy="Run the check again.")
    return _done(document, digest)


def _done(document: Mapping[str, Any], digest: str) -> Evaluation:
    return Evaluation(
        asset=document["asset"],
        check=document["check"],
        state="done",
        judged=document["judged"],
        run_id=document["run_id"],
        evaluated_at=document["evaluated_at"],
        verdict=Verdict.from_record({**document["verdict"], "evidence": tuple(document["verdict"]["evidence"])}),
        blocking=document["blocking"],
        severity=document["severity"],
        record=digest,
        previous=document["previous"],
    )


def _judged(judged: Mapping[str, str]) -> dict[str, str]:
    return {asset_name(asset): digest_name(snapshot) for asset, snapshot in judged.items()}
