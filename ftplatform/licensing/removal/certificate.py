"""The certificate of a removal: what was proved, how far, and what was not. Only from a passing verdict on this very closure.

Levels: L1, the declared closure holds nothing banned; L2, replaying that closure gave these very weights, which ties the declaration to
them (a declaration alone proves nothing about the weights; Choi et al., "Tools for Verifying Neural Models' Training Data", 2023).
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from ftplatform.canonical import canonical_json, digest
from ftplatform.errors import FtplatformError
from ftplatform.licensing.removal.ban import Ban
from ftplatform.licensing.removal.check import CHECK_VERSION, STATISTIC
from ftplatform.licensing.removal.closure import Closure
from ftplatform.licensing.removal.examination import examine
from ftplatform.licensing.states import to_text
from ftplatform.rows.masking import escape_controls
from ftplatform.verdict import Verdict

SCHEMA = "ftplatform.removal-certificate/1"

#: What no certificate of this kind can say; part of every one of them.
NOT_PROVED = (
    "That the base model's vendor did not pre-train on the texts.",
    "That no copy exists which the closure does not declare.",
    "Anything about copies, models or outputs that other parties hold.",
    "That models declared clean, and not examined, are clean.",
    "That a claimed text does not stand inside a longer one, or in other words: similarity is of word sequences.",
    "That the model has never learned anything from the texts by another way than the declared rows.",
)

# What the certificate repeats from the examination; `verify` computes it again.
_COUNTED = ("rows", "fallen", "kept_by_another_origin", "row_sets", "caches", "ancestors", "recorded")

# What a document must at least hold to be read as a certificate.
_SHAPE: Mapping[str, type] = {"notice": dict, "artifact": dict, "counts": dict, "near": dict, "probe": dict, "levels": dict} | {
    "clean": list,
    "not_proved": list,
    "digest": str,
}


class CertificateRefused(FtplatformError):
    """There is no ground for a certificate, or a document is none."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Evidence that the closure was executed again.

    Attributes:
        closure: digest of the closure that was replayed.
        weights: digest of the tensors that came out.
        record: SHA-256 of the replay's own record.
    """

    closure: str
    weights: str
    record: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Something a certificate says and what is there now."""

    field: str
    certified: Any
    found: Any


@dataclass(frozen=True, eq=False)
class Certificate:
    """The document; `document["digest"]` is the SHA-256 of the RFC 8785 form of everything else in it."""

    document: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The digest as written; `verify` recomputes it."""
        return self.document["digest"]

    def to_bytes(self) -> bytes:
        """RFC 8785 bytes."""
        return canonical_json(dict(self.document))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a document; nothing in it is believed before `verify`.

        Raises:
            CertificateRefused: if it is no certificate.
        """
        from ftplatform.rows.quarantine import Malformed
        from ftplatform.rows.strict_json import parse_record

        try:
            document = parse_record(data, max_depth=32)
        except Malformed as error:
            raise CertificateRefused(f"the certificate is not JSON: {error}", remedy="Ask for the document again.") from error
        if (
            not isinstance(document, dict)
            or document.get("schema") != SCHEMA
            or not all(isinstance(document.get(key), kind) for key, kind in _SHAPE.items())
        ):
            raise CertificateRefused("the document is no removal certificate.", remedy=f"Give a document of schema {SCHEMA}.")
        return cls(document)


def certify(
    verdict: Verdict, closure: Closure, ban: Ban, *, policy: str, at: datetime, replay: Replay | None = None
) -> Certificate:
    """Write the certificate.

    Args:
        verdict: of `influence_removed` on this closure and ban.
        policy: digest of the license policy in force.
        at: time of issue.
        replay: gives level L2 if it is of this closure and its weights are the artifact's, bit by bit; otherwise the document says that
            and why L2 is absent.

    Raises:
        CertificateRefused: if the verdict is of another check, not a pass, or stale (another closure or ban).
    """
    if verdict.statistic != STATISTIC or verdict.config.get("check") != "influence_removed":
        raise CertificateRefused("the verdict is of another check.", remedy="Run influence_removed.")
    if not verdict.passed:
        raise CertificateRefused(f"influence_removed says {verdict.decision}: {verdict.summary}", remedy=verdict.remedy)
    if verdict.check_version != CHECK_VERSION:
        raise CertificateRefused(f"the verdict is of version {verdict.check_version} of the check.", remedy="Run the check again.")
    for name, now in (("closure", closure.digest), ("ban", ban.digest)):
        if verdict.config.get(name) != now:
            raise CertificateRefused(f"the verdict is stale: it judged another {name}.", remedy="Run the check again.")
    details = verdict.details
    probe = details["probe"]
    body = {
        "schema": SCHEMA,
        "issued_at": to_text(at),
        "notice": ban.to_json(),
        "ban": ban.digest,
        "artifact": {"name": closure.artifact, "snapshot": closure.snapshot, "weights": closure.weights},
        "closure": closure.digest,
        "policy": policy,
        "clean": list(verdict.config["clean"]),
        "levels": {"L1": {"reached": True, "why": "no row of the declared closure is banned or derived from a banned row"}}
        | {"L2": _replayed(closure, replay)},
        "counts": {key: details[key] for key in _COUNTED},
        "near": {**details["near"], "thresholds": verdict.config["thresholds"]},
        "probe": {key: probe[key] for key in ("estimate", "ci_high", "confidence", "n", "threshold", "config_hash")}
        | {"run_length": probe["config"]["run_length"], "base_recited": probe["details"]["base_recited"]}
        | {"left_out": probe["details"]["left_out"]},
        "verdict": digest({**verdict.to_record(), "plot": None}),
        "not_proved": list(NOT_PROVED),
    }
    return Certificate({**body, "digest": digest(body)})


def verify(certificate: Certificate, closure: Closure, ban: Ban) -> tuple[Difference, ...]:
    """Compute again what can be computed without the models, and name what differs.

    The document's own digest, closure, ban and weights are compared, and every row, cache and ancestor is examined again. The near and
    the recitation search are not repeated; the verdict they belong to is named by its hash.

    Returns:
        Differences, empty if the certificate holds.

    Raises:
        InputDataError, CorruptArtifact: if rows cannot be read.
    """
    document = certificate.document
    body = {key: value for key, value in document.items() if key != "digest"}
    differences = [
        Difference(field, certified, found)
        for field, certified, found in (
            ("digest", document.get("digest"), _digest(body)),
            ("closure", document.get("closure"), closure.digest),
            ("ban", document.get("ban"), ban.digest),
            ("notice", document.get("notice"), ban.to_json()),
            (
                "artifact",
                document.get("artifact"),
                {"name": closure.artifact, "snapshot": closure.snapshot, "weights": closure.weights},
            ),
        )
        if certified != found
    ]
    found = examine(closure, ban, document.get("clean") or ())
    now, then = found.to_json(), document.get("counts") or {}
    differences += [Difference(f"counts/{key}", then.get(key), now[key]) for key in _COUNTED if then.get(key) != now[key]]
    differences += [Difference("finding", None, str(finding)) for finding in (*found.findings, *found.gaps)]
    return tuple(differences)


def render(certificate: Certificate) -> str:
    """The certificate as Markdown for people; the JSON document is what counts.

    Raises:
        CertificateRefused: if the document lacks something or holds it in another form.
    """
    try:
        return _render(certificate.document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CertificateRefused("the certificate is incomplete.", remedy="Ask for the document again.") from error


def _extent(probe: Mapping[str, Any]) -> str:
    """How far the probe's share is known: a census has no bound."""
    if probe["confidence"] is None:
        return f"which are all that can be tried ({probe['left_out']:,} revoked texts were left out: too short, or found elsewhere too)"
    return f"at most {probe['ci_high']:.2%} at {probe['confidence']:.0%} confidence"


def _render(document: Mapping[str, Any]) -> str:
    notice, counts, probe, near = (document[key] for key in ("notice", "counts", "probe", "near"))
    levels = [
        f"- **{level}** {'reached' if says['reached'] else 'not reached'}: {_text(says['why'])}."
        for level, says in sorted(document["levels"].items())
    ]
    rows = [
        f"| {_text(line['name'])} | {_text(line['role'])} | `{_text(line['snapshot'][:16])}` | {line['rows']:,} | {line['fallen']:,} |"
        for line in counts["row_sets"]
    ]
    models = [
        f"| {_text(line['name'])} | {_text(line['role'])} | `{_text(line['snapshot'][:16])}` | {_text(line['standing'])} |"
        for line in counts["ancestors"]
    ]
    caches = [
        f"- {_text(line['name'])} ({_text(line['kind'])}): {line['rows']:,} rows, {line['fallen']:,} banned"
        for line in counts["caches"]
    ]
    searched = (
        f"Near duplicates were looked for in {near['rows']:,} rows: {near['certain']} found, "
        f"{near['cleared']} resembling rows cleared by a person."
        if near["searched"]
        else "Near duplicates were not looked for: the notice ends a grant, and other origins of the same words are alternatives."
    )
    parts = [
        f"# Removal certificate for {_text(document['artifact']['name'])}",
        f"Notice {_text(notice['notice'])} ({_text(notice['reach'])}), issued {_text(document['issued_at'])}. This document is not signed.",
        "\n".join(levels),
        f"## What was looked at\n\n{counts['rows']:,} rows, of which {counts['fallen']:,} are banned or derived from banned rows. "
        f"{counts['kept_by_another_origin']:,} rows stay by another origin.",
        "\n".join(["| rows | role | snapshot | looked at | fell |", "|---|---|---|---:|---:|", *rows]),
        "\n".join(["| model | role | snapshot | standing |", "|---|---|---|---|", *models]) if models else "",
        "\n".join(caches),
        searched,
        f"Recitation: {probe['estimate']:.2%} of {probe['n']:,} prompts beyond the base model, {_extent(probe)} "
        f"({probe['run_length']} words or more count).",
        "## What this does not prove\n\n" + "\n".join(f"- {_text(sentence)}" for sentence in document["not_proved"]),
        "\n".join(
            f"- {name} `{_text(document[key])}`"
            for name, key in (
                ("closure", "closure"),
                ("ban", "ban"),
                ("policy", "policy"),
                ("verdict", "verdict"),
                ("certificate", "digest"),
            )
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _digest(body: Mapping[str, Any]) -> str | None:
    try:
        return digest(dict(body))
    except ValueError:  # numbers that have no canonical form
        return None


def _replayed(closure: Closure, replay: Replay | None) -> dict[str, Any]:
    if replay is None:
        return {"reached": False, "why": "the closure was not replayed"}
    facts = {"weights": replay.weights, "record": replay.record}
    if replay.closure != closure.digest:
        return {"reached": False, "why": "another closure was replayed", **facts}
    if closure.weights is None:
        return {"reached": False, "why": "the digest of the artifact's weights is not recorded", **facts}
    if replay.weights != closure.weights:
        return {"reached": False, "why": "the replay gave other weights", **facts}
    return {"reached": True, "why": "replaying the closure gave these weights bit by bit", **facts}


def _text(value: object) -> str:
    """Outside text made inert in Markdown."""
    text = html.escape(escape_controls(" ".join(str(value).split())), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#!~])", r"\\\1", text)
