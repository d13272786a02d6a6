"""What a bundle cites, as JSON records: evaluations and waivers under the hash the store knows them by, and notices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, FtplatformError
from ftplatform.store import Evaluation
from ftplatform.store.evaluations import SCHEMA as EVALUATION_SCHEMA
from ftplatform.store.waivers import Waiver


class Notice(Protocol):
    """What is owed to one source, model or teacher; `ftplatform.licensing.notices.Notice` is one."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def license(self) -> str: ...
    @property
    def obligations(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def evidence(self) -> tuple[str, ...]: ...
    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def credits(self) -> tuple[str, ...]: ...
    @property
    def changes(self) -> str: ...
    @property
    def confirmations(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def undetermined(self) -> tuple[str, ...]: ...


def cite_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as its record: the document whose hash the store knows it by."""
    what = f"{evaluation.check} on {evaluation.asset}"
    if evaluation.verdict is None or evaluation.record is None:
        raise FtplatformError(f"{what} has not finished.", remedy="Run the check; a release cites finished evaluations only.")
    document = {
        "schema": EVALUATION_SCHEMA,
        "asset": evaluation.asset,
        "check": evaluation.check,
        "judged": dict(evaluation.judged),
        "verdict": evaluation.verdict.to_record(),
        "blocking": evaluation.blocking,
        "severity": evaluation.severity,
        "run_id": evaluation.run_id,
        "evaluated_at": evaluation.evaluated_at,
        "previous": evaluation.previous,
    }
    if sha256_hex(canonical_json(document)) != evaluation.record:
        raise CorruptArtifact(f"The record of {what} does not hash to {evaluation.record}.", remedy="Run the check again.")
    return {"record": evaluation.record, "document": document}


def cite_waiver(waiver: Waiver) -> dict[str, Any]:
    """A waiver as its record.

    Raises:
        CorruptArtifact: if it does not hash to its id.
    """
    document = waiver.to_record()
    if sha256_hex(canonical_json(document)) != waiver.id:
        raise CorruptArtifact(
            f"The waiver of {waiver.check} on {waiver.asset} does not hash to {waiver.id}.", remedy="Issue it again."
        )
    return {"record": waiver.id, "document": document}


def refused_without_waiver(checks: Sequence[Mapping[str, Any]], waivers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cited evaluations that refuse and that no cited waiver speaks about, as ``check on asset``.

    Args:
        checks, waivers: records as made by `cite_evaluation` and `cite_waiver`.
    """
    waived = {(w["asset"], name, w["decision"], _judged(w)) for w in _documents(waivers) for name in _lanes(w["check"])}
    return [
        f"{c['check']} on {c['asset']}"
        for c in _documents(checks)
        if c["verdict"]["decision"] != "pass"
        and c["severity"] == "error"
        and (c["asset"], c["check"], c["verdict"]["decision"], _judged(c)) not in waived
    ]


def _documents(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record["document"] for record in records]


def _judged(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(document["judged"].items()))


def _lanes(check: str) -> tuple[str, str]:
    """Names a check is judged under; a waiver names the check itself, whichever of them failed."""
    return check, f"nightly-{check}"


def notice_record(notice: Notice, texts: Mapping[str, str]) -> dict[str, Any]:
    """A notice as JSON; `texts` are the names license texts have in the bundle, by their path."""
    return {
        "name": notice.name,
        "kind": notice.kind,
        "license": notice.license,
        "obligations": [list(pair) for pair in notice.obligations],
        "addresses": list(notice.addresses),
        "credits": list(notice.credits),
        "changes": notice.changes,
        "confirmations": [list(pair) for pair in notice.confirmations],
        "undetermined": list(notice.undetermined),
        "texts": sorted(texts[path] for path in notice.evidence if path in texts),
    }


def text_name(path: str, data: bytes) -> str:
    """A name for a license text that says what it is and cannot lead anywhere."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.rstrip("/").rsplit("/", 1)[-1]).strip(".-") or "license"
    return f"licenses/{sha256_hex(data)[:12]}-{stem[:80]}"
