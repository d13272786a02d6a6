"""`realism_report`: what each remedy does to the inputs, measured on real inputs that no remedy has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ftplatform import plots
from ftplatform.canonical import digest
from ftplatform.synthesis.calibration import Calibration
from ftplatform.synthesis.samples import split_rows
from ftplatform.synthesis.surface import input_surface_match
from ftplatform.verdict import Verdict

#: Synthetic rows and real rows to learn from, to better rows.
Remedy = Callable[[pa.Table, pa.Table], pa.Table]

AS_WRITTEN = "as written"
_GAPS = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One version of the set: name, rows, and how it compares with real inputs."""

    name: str
    rows: int
    verdict: Verdict

    def to_record(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        gaps = [{k: g[k] for k in ("feature", "d", "candidate_mean", "reference_mean")} for g in self.verdict.evidence]
        return {
            "name": self.name,
            "rows": self.rows,
            "decision": str(self.verdict.decision),
            "auc": self.verdict.estimate,
            "ci_low": self.verdict.ci_low,
            "ci_high": self.verdict.ci_high,
            "summary": self.verdict.summary,
            "gaps": gaps,
        }


@dataclass(frozen=True, slots=True)
class RealismReport:
    """A set as it was written and after each remedy.

    Attributes:
        name: of the set. steps: the first is the set as written.
        learned_from, measured_on: real rows the remedies saw, and others they are measured on.
        calibration: limits in force, None for the general ones.
    """

    name: str
    steps: Sequence[Step]
    learned_from: int
    measured_on: int
    calibration: Calibration | None

    @property
    def plot(self) -> str:
        """AUC of every step with its interval, an SVG document."""
        rows = [(s.name, s.verdict.estimate, s.verdict.ci_low, s.verdict.ci_high) for s in self.steps]
        measured = [(name, auc, low, high) for name, auc, low, high in rows if auc is not None]
        limit = self.steps[0].verdict.threshold
        return plots.forest(
            measured, limit, title="AUC against real inputs", x_label="AUC (.5 is alike)", threshold_label="pass below"
        )

    def to_record(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {
            "name": self.name,
            "learned_from": self.learned_from,
            "measured_on": self.measured_on,
            "calibration": self.calibration.to_record() if self.calibration else None,
            "steps": [step.to_record() for step in self.steps],
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the record."""
        return digest(self.to_record())

    def to_text(self) -> str:
        """A table for a terminal."""
        heads = ("version", "rows", "decision", "AUC", "90 % interval", "largest gaps (d)")
        lines = [heads, *(self._line(step) for step in self.steps)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads) - 1)]
        return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]) for line in lines)

    def _line(self, step: Step) -> tuple[str, ...]:
        verdict = step.verdict
        auc = "-" if verdict.estimate is None else f"{verdict.estimate:.3f}"
        bounds = "-" if verdict.ci_low is None else f"{verdict.ci_low:.3f} to {verdict.ci_high:.3f}"
        gaps = ", ".join(f"{gap['feature']} {gap['d']:+.2f}" for gap in verdict.evidence[:_GAPS])
        return step.name, f"{step.rows:,}", str(verdict.decision), auc, bounds, gaps


def realism_report(
    candidate: pa.Table,
    reference: pa.Table,
    remedies: Mapping[str, Remedy],
    *,
    name: str = "synthetic set",
    calibration: Calibration | None = None,
    seed: int = 0,
    **limits: Any,
) -> RealismReport:
    """Apply every remedy to `candidate` by itself and test each result on surface features.

    The real rows are split by conversation. Remedies see one half and all versions are measured on the other, the set as written too: a
    mix compared with its own rows would look alike whatever the rest is.

    Args:
        candidate: rows of the synthetic set. reference: rows of real inputs, `ROW_SCHEMA`.
        remedies: name to remedy; compose functions to see them together.
        calibration: see `input_surface_match`. limits: further arguments of it.
        seed: of split and sampling.
    """
    learn, held = split_rows(reference, seed)
    versions = {AS_WRITTEN: candidate} | {label: remedy(candidate, learn) for label, remedy in remedies.items()}
    return measured(versions, held, name=name, learned_from=learn.num_rows, calibration=calibration, seed=seed, **limits)


def measured(
    versions: Mapping[str, pa.Table],
    held: pa.Table,
    *,
    name: str,
    learned_from: int,
    calibration: Calibration | None = None,
    seed: int = 0,
    **limits: Any,
) -> RealismReport:
    """The report on versions of a set that exist already; the first is the set as it was written.

    Args:
        held: real rows that no version was learned from.
        learned_from: real rows they were learned from.
        calibration, seed, limits: as in `realism_report`.
    """
    steps = [
        Step(label, rows.num_rows, input_surface_match(rows, held, calibration=calibration, seed=seed, **limits))
        for label, rows in versions.items()
    ]
    return RealismReport(name, steps, learned_from, held.num_rows, calibration)
