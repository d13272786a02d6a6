"""Verdict: the one result every check returns (SPEC 2.5), whoever runs it and wherever.

A check is a plain function from data to `Verdict`; `defs/asset_checks` binds it to an asset, `ftplatform audit` prints it, and
other people's pipelines can call it without Dagster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from ftplatform.canonical import digest

#: At most this many rows of evidence travel with a verdict (SPEC 2.5.1); the full list belongs into an asset.
MAX_EVIDENCE = 20

Scalar = str | int | float | bool | None


class Decision(StrEnum):
    """What a check concluded. `INSUFFICIENT_EVIDENCE` is its own answer: too little data is never a pass."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of one check on one snapshot.

    Attributes:
        decision: the conclusion.
        summary: one sentence for people, with the numbers that decided.
        statistic: name of the statistic, e.g. ``"paired loss of refusal rate"``.
        estimate, ci_low, ci_high: the statistic and its confidence bounds, in `unit`. Bounds may be None (one-sided, exact rules).
        confidence: coverage of the bounds, e.g. 0.95.
        n: how many units (rows, pairs, prompts) were looked at; what the unit is, `statistic` says.
        n_required: how many the decision needs; below it the decision cannot be `PASS`.
        threshold: the limit the bound was compared with.
        baseline: what it was compared to (an asset and snapshot, "split halves", ...).
        evidence: the worst rows, at most `MAX_EVIDENCE`, as flat mappings. Free text in it must already be masked.
        remedy: one sentence saying what to do.
        check_version: version of the check's algorithm; a waiver or evaluation is bound to it.
        config: every parameter that decided, thresholds included; its hash identifies the configuration.
        tier: which implementation ran (``"rules"``, ``"exact"``, ``"embedding"``, ...), since each check has a tier that needs no model.
        plot: an SVG document or None.
        details: further JSON-able facts for the reader (per-slice tables and the like).

    Raises:
        ValueError: on a pass without evidence (``n < max(1, n_required)``), bounds out of order, or too much evidence.
    """

    decision: Decision
    summary: str
    statistic: str
    n: int
    n_required: int
    remedy: str
    check_version: str
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    confidence: float | None = None
    threshold: float | None = None
    baseline: str | None = None
    evidence: Sequence[Mapping[str, Scalar]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    tier: str = "exact"
    plot: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decision", Decision(self.decision))
        object.__setattr__(self, "evidence", tuple(self.evidence))
        for name in ("estimate", "ci_low", "ci_high", "threshold"):
            number = getattr(self, name)
            if number is not None and math.isnan(number):
                raise ValueError(f"{name} is not a number; leave it out if it is not known")
        if self.decision is Decision.PASS and self.n < max(1, self.n_required):
            raise ValueError(
                f"a pass needs at least {max(1, self.n_required)} observations and this one has {self.n}; return insufficient_evidence"
            )
        if self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high:
            raise ValueError(f"confidence bounds out of order: {self.ci_low} > {self.ci_high}")
        if len(self.evidence) > MAX_EVIDENCE:
            raise ValueError(f"{len(self.evidence)} rows of evidence; keep the worst {MAX_EVIDENCE}")

    @property
    def config_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of `config` (RFC 8785)."""
        return digest(dict(self.config))[:16]

    @property
    def passed(self) -> bool:
        """True only for `PASS`; a warning or missing evidence is not a pass."""
        return self.decision is Decision.PASS

    def with_config(self, extra: Mapping[str, Any]) -> Self:
        """The same verdict with further deciding parameters recorded."""
        return replace(self, config={**self.config, **extra})

    def to_record(self) -> dict[str, Any]:
        """A JSON-able mapping with exactly the keys of SPEC 2.5 plus summary, tier, config, details and plot."""
        return {
            "decision": str(self.decision),
            "summary": self.summary,
            "statistic": self.statistic,
            "estimate": self.estimate,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "confidence": self.confidence,
            "n": self.n,
            "n_required": self.n_required,
            "threshold": self.threshold,
            "baseline": self.baseline,
            "evidence": [dict(row) for row in self.evidence],
            "remedy": self.remedy,
            "check_version": self.check_version,
            "config_hash": self.config_hash,
            "config": dict(self.config),
            "tier": self.tier,
            "plot": self.plot,
            "details": dict(self.details),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `to_record` (the hash is recomputed, not trusted)."""
        known = {k: v for k, v in record.items() if k != "config_hash"}
        known["decision"] = Decision(known["decision"])
        return cls(**known)
