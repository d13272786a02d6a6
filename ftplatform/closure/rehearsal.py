"""Rehearsals: who replayed which closure when, on what machine, and what came of it. Records, created once and never changed.

    rehearsals/<adapter>/<sha256>.json       one replay, successful or not
    rehearsal_scores/<sha256>.parquet        what an adapter or its replicate scored, item by item

A failed replay is recorded like a successful one: nobody learns that the third person failed too if only successes are kept.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ftplatform.canonical import sha256_hex
from ftplatform.closure.outcome import COMPARED_STEPS, Outcome
from ftplatform.closure.replay import Replay
from ftplatform.errors import CorruptArtifact, InputDataError
from ftplatform.store import Snapshot, records
from ftplatform.store.backend import Backend
from ftplatform.store.names import digest_name

SCHEMA = "ftplatform.rehearsal/1"
#: Who replays where no person does; the name never counts as a person.
PLATFORM = "ftplatform"

_MAX_NAME = 200
_MAX_DIFFERENCES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scored answers of a set of replicates, as digests of stored tables (`equivalence.SCORES_SCHEMA`).

    Attributes:
        adapter: of the adapter itself.
        replicates: seeds and digest of every replicate: ``{"data_order", "adapter_init", "scores"}``.
    """

    adapter: str
    replicates: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """One replay.

    Attributes:
        id: SHA-256 of the record.
        asset, snapshot, closure: what was replayed; the closure is the adapter's name.
        by, at: who, and when (UTC).
        machine: hardware class; empty if it never got that far.
        same_class: whether it is the closure's own.
        outcome, reason: what came of it.
        failed: whether a replay that was not tried shows a fault of the closure.
        whole: trained to the end, not only the first steps.
        steps, max_loss_difference: see `outcome.Comparison`.
        losses, recorded: of the first steps, at most `COMPARED_STEPS`.
        differences: fields in which surroundings or closure differed, one line each.
        scores: answers of replicates with other seeds, if there were any.
    """

    id: str = ""
    asset: str
    snapshot: str
    closure: str
    by: str
    at: datetime
    machine: str
    same_class: bool
    outcome: Outcome
    reason: str
    failed: bool
    whole: bool
    steps: int
    max_loss_difference: float | None
    losses: tuple[float, ...] = ()
    recorded: tuple[float, ...] = ()
    differences: tuple[str, ...] = ()
    scores: Scores | None = None
    token: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether somebody got the adapter again, whole: bit by bit or within the tolerance."""
        return self.whole and self.outcome in (Outcome.IDENTICAL, Outcome.EQUIVALENT)

    def to_record(self) -> dict[str, Any]:
        """The document whose SHA-256 is `id`; JSON-able."""
        scores = None
        if self.scores is not None:
            scores = {"adapter": self.scores.adapter, "replicates": [dict(r) for r in self.scores.replicates]}
        return {
            "schema": SCHEMA,
            "asset": self.asset,
            "snapshot": self.snapshot,
            "closure": self.closure,
            "by": self.by,
            "at": records.time_to_text(self.at),
            "machine": self.machine,
            "same_class": self.same_class,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "failed": self.failed,
            "whole": self.whole,
            "steps": self.steps,
            "max_loss_difference": self.max_loss_difference,
            "losses": list(self.losses),
            "recorded": list(self.recorded),
            "differences": list(self.differences),
            "scores": scores,
            "token": self.token,
        }


def record_rehearsal(
    backend: Backend, adapter: Snapshot, replay: Replay, *, by: str, scores: Scores | None = None, now: datetime | None = None
) -> Rehearsal:
    """Keep what a replay showed.

    Args:
        by: who replayed; `PLATFORM` where nobody did.
        now: when, the present by default.

    Raises:
        InputDataError: `by` is empty or too long.
        StoreError: the store does not take the record.
    """
    name = by.strip()
    if not name or len(name) > _MAX_NAME:
        raise InputDataError("A rehearsal needs the name of who did it.", remedy="Give --by.")
    entry = Rehearsal(
        asset=adapter.asset,
        snapshot=adapter.digest,
        closure=str(adapter.facts.get("closure", "")),
        by=name,
        at=records.utc(now),
        machine=replay.machine,
        same_class=replay.same_class,
        outcome=replay.comparison.outcome,
        reason=replay.comparison.reason,
        failed=replay.failed,
        whole=replay.adapter is not None,
        steps=replay.comparison.steps,
        max_loss_difference=replay.comparison.max_loss_difference,
        losses=replay.losses[:COMPARED_STEPS],
        recorded=replay.recorded[:COMPARED_STEPS],
        differences=tuple(str(change) for change in replay.differences[:_MAX_DIFFERENCES]),
        scores=scores,
        token=uuid.uuid4().hex,
    )
    return replace(entry, id=records.create(backend, _folder(adapter.asset), entry.to_record(), f"Rehearsal of {adapter.asset}"))


def rehearsals(backend: Backend, asset: str) -> list[Rehearsal]:
    """All rehearsals of an adapter, whatever its version, oldest first.

    Raises:
        CorruptArtifact: if a record is damaged: then nobody knows who could replay it.
    """
    found = []
    for digest, document in records.read_folder(backend, _folder(asset)).items():
        try:
            if document.pop("schema") != SCHEMA or document["asset"] != asset:
                raise ValueError("another schema or adapter")
            scores = document.pop("scores")
            lists = {name: tuple(document.pop(name)) for name in ("losses", "recorded", "differences")}
            known = {**document, "at": records.text_to_time(document["at"]), "outcome": Outcome(document["outcome"])}
            kept = Scores(adapter=scores["adapter"], replicates=tuple(scores["replicates"])) if scores else None
            found.append(Rehearsal(**{**known, **lists, "id": digest, "scores": kept}))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptArtifact(f"The record {digest} of {asset} is no rehearsal: {error}.", remedy="Restore it.") from error
    return sorted(found, key=lambda rehearsal: (rehearsal.at, rehearsal.id))


def keep_scores(backend: Backend, scores: pa.Table) -> str:
    """Store scored answers; returns the SHA-256 of their file."""
    buffer = io.BytesIO()
    pq.write_table(scores, buffer, compression="zstd", write_page_checksum=True)
    data = buffer.getvalue()
    digest = sha256_hex(data)
    backend.ensure(_scores_key(digest), data, digest)
    return digest


def read_scores(backend: Backend, digests: Sequence[str]) -> list[pa.Table]:
    """Tables that `keep_scores` stored.

    Raises:
        CorruptArtifact: one is gone or does not hash to its name.
    """
    tables = []
    for digest in digests:
        stored = backend.get(_scores_key(digest))
        if stored is None or sha256_hex(stored.data) != digest:
            raise CorruptArtifact(
                f"{backend.url}/{_scores_key(digest)} is missing or does not hash to its name.", remedy="Rehearse again."
            )
        tables.append(pq.read_table(pa.BufferReader(stored.data), page_checksum_verification=True))
    return tables


def _folder(asset: str) -> str:
    return f"rehearsals/{asset}"


def _scores_key(digest: str) -> str:
    return f"rehearsal_scores/{digest_name(digest)}.parquet"
