"""What the checks of mode M9 say about one set, put together for people: verdicts, feature gaps with texts, tails, topics, remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftplatform.pages import Marked, page, plain, section, table
from ftplatform.synthesis.report import RealismReport
from ftplatform.verdict import Verdict

SURFACE, GAPS, TAILS, TOPICS = "input_surface_match", "input_feature_gaps", "input_tail_coverage", "content_mix_match"
#: The checks of the mode, on whatever asset.
CHECKS = frozenset({SURFACE, GAPS, TAILS, TOPICS, "reference_health", "eval_population"})
_TOPICS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class CheckView:
    """One check: what it guards, and its verdict; None where it cannot be judged, with the reason.

    Attributes:
        recorded: whether the verdict is the one on record for what exists now; otherwise it was judged for this view.
    """

    asset: str
    check: str
    verdict: Verdict | None
    recorded: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RealismView:
    """A set beside the production inputs it is measured by.

    Attributes:
        asset, snapshot: the set as it is now. reference: the production inputs.
        checks: those on the set, on its yardstick and on evaluations of what is trained on it.
        report: the set as written and with its remedies, where it was generated or remedied from real seeds.
    """

    asset: str
    snapshot: str
    reference: str
    checks: Sequence[CheckView]
    report: RealismReport | None = None

    def verdict(self, check: str) -> Verdict | None:
        """The verdict of a check on the set itself."""
        return next((c.verdict for c in self.checks if c.check == check and c.asset == self.asset), None)

    @property
    def check_rows(self) -> list[dict[str, Any]]:
        """check, decision, estimate with its interval, n, summary."""
        return [_check_row(check) for check in self.checks]

    @property
    def gap_rows(self) -> list[dict[str, Any]]:
        """Every feature by effect size: feature, d with bounds, means and typical texts of both sides."""
        verdict = self.verdict(GAPS) or self.verdict(SURFACE)
        return [dict(gap) for gap in verdict.evidence] if verdict is not None else []

    @property
    def tail_rows(self) -> list[dict[str, Any]]:
        """tail, shares of both sides, whether it is lost."""
        verdict = self.verdict(TAILS)
        return list(verdict.details.get("tails", ())) if verdict is not None else []

    @property
    def topic_rows(self) -> list[dict[str, Any]]:
        """topic, shares of both sides; the largest difference first."""
        verdict = self.verdict(TOPICS)
        return list(verdict.details.get("topics", ()))[:_TOPICS_SHOWN] if verdict is not None else []

    def to_record(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {
            "asset": self.asset,
            "snapshot": self.snapshot,
            "reference": self.reference,
            "checks": self.check_rows,
            "features": self.gap_rows,
            "tails": self.tail_rows,
            "topics": self.topic_rows,
            "remedies": self.report.to_record() if self.report is not None else None,
        }


def realism_view_page(view: RealismView) -> str:
    """A self-contained page; the same for the same view. Texts of rows are masked and cut."""
    title = f"Realism of {view.asset}"
    rows = [
        (r["asset"], r["check"], Marked(r["decision"]), _number(r["estimate"]), _interval(r), f"{r['n']:,}", r["summary"])
        for r in view.check_rows
    ]
    parts = [
        f"<h1>{plain(title)}</h1>",
        f'<p class="note">Snapshot {plain(view.snapshot[:12])}, compared with {plain(view.reference)}.</p>',
        table(("asset", "check", "decision", "estimate", "interval", "n", "what was found"), rows, {3, 5}),
    ]
    if view.gap_rows:
        heads = ("feature", "d", "interval", "typical synthetic", "typical real")
        gaps = [
            (g["meaning"], f"{g['d']:+.2f}", _bounds(g["d_low"], g["d_high"]), g["candidate_example"], g["reference_example"])
            for g in view.gap_rows
        ]
        parts.append(section("Surface features, largest effect first", "features", _plot(view, GAPS) + table(heads, gaps, {1})))
    if view.tail_rows:
        tails = [(t["tail"], f"{t['candidate']:.1%}", f"{t['reference']:.1%}", "lost" if t["lost"] else "") for t in view.tail_rows]
        heads = ("tail", "in the set", "real", "")
        parts.append(section("Tails", "tails", _plot(view, TAILS) + table(heads, tails, {1, 2}) + _missed(view)))
    if view.topic_rows:
        topics = [(t["topic"], f"{t['candidate_share']:.1%}", f"{t['reference_share']:.1%}") for t in view.topic_rows]
        parts.append(section("Topics", "topics", _plot(view, TOPICS) + table(("topic", "in the set", "real"), topics, {1, 2})))
    if view.report is not None:
        steps = [
            (s.name, f"{s.rows:,}", Marked(str(s.verdict.decision)), _number(s.verdict.estimate), s.verdict.summary)
            for s in view.report.steps
        ]
        note = f"""<p class="note">Remedies learned from {view.report.learned_from:,} real rows and are measured on
{view.report.measured_on:,} others, with the general limits.</p>"""
        measured = any(s.verdict.estimate is not None for s in view.report.steps)
        body = table(("version", "rows", "decision", "AUC", "what was found"), steps, {1, 3})
        parts.append(section("Remedies", "remedies", note + (view.report.plot if measured else "") + body))
    return page(title, "\n".join(parts))


def _check_row(check: CheckView) -> dict[str, Any]:
    named = {"asset": check.asset, "check": check.check}
    verdict = check.verdict
    if verdict is None:
        return {**named, "decision": "not run", "summary": check.reason, "estimate": None, "ci_low": None, "ci_high": None, "n": 0}
    return {
        **named,
        "decision": str(verdict.decision),
        "estimate": verdict.estimate,
        "ci_low": verdict.ci_low,
        "ci_high": verdict.ci_high,
        "confidence": verdict.confidence,
        "threshold": verdict.threshold,
        "n": verdict.n,
        "n_required": verdict.n_required,
        "summary": verdict.summary,
        "remedy": verdict.remedy,
        "recorded": check.recorded,
    }


def _missed(view: RealismView) -> str:
    verdict = view.verdict(TAILS)
    missed = [e for e in verdict.evidence if "real_input" in e] if verdict is not None else []
    if not missed:
        return ""
    rows = [(m["real_input"], m["nearest_synthetic"], f"{m['similarity']:.2f}") for m in missed]
    return table(("real input without a neighbor", "nearest in the set", "cosine"), rows, {2})


def _plot(view: RealismView, check: str) -> str:
    verdict = view.verdict(check)
    return verdict.plot if verdict is not None and verdict.plot else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(row: dict[str, Any]) -> str:
    return "" if row["ci_low"] is None else _bounds(row["ci_low"], row["ci_high"])


def _bounds(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"
