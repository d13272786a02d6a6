"""The realism report as one HTML page: what each remedy did, then the gaps of every version with texts of both sides."""

from __future__ import annotations

from ftplatform.pages import Marked, page, plain, section, table
from ftplatform.synthesis.report import RealismReport, Step


def realism_page(report: RealismReport) -> str:
    """A self-contained page; the same for the same report. Texts of rows are masked and cut."""
    title = f"Realism of {report.name}"
    limits = report.calibration.reason if report.calibration else "General limits, not calibrated on this channel."
    calibrated = report.calibration.plot if report.calibration and report.calibration.splits else ""
    heads = ("version", "rows", "decision", "AUC", "90 % interval", "what was found")
    body = f"""<h1>{plain(title)}</h1>
<p class="note">Remedies learned from {report.learned_from:,} real rows and are measured on {report.measured_on:,} others.
{plain(limits, 400)}</p>
{report.plot}
{table(heads, map(_summary, report.steps), {1, 3, 4})}
{calibrated}
{"".join(_gaps(number, step) for number, step in enumerate(report.steps))}"""
    return page(title, body)


def _summary(step: Step) -> tuple[str, ...]:
    verdict = step.verdict
    auc = "" if verdict.estimate is None else f"{verdict.estimate:.3f}"
    bounds = "" if verdict.ci_low is None else f"{verdict.ci_low:.3f} to {verdict.ci_high:.3f}"
    return step.name, f"{step.rows:,}", Marked(str(verdict.decision)), auc, bounds, verdict.summary


def _gaps(number: int, step: Step) -> str:
    if not step.verdict.evidence:
        return ""
    rows = [
        (str(gap["meaning"]), f"{gap['d']:+.2f}", str(gap["candidate_example"]), str(gap["reference_example"]))
        for gap in step.verdict.evidence
    ]
    return section(f"Gaps: {step.name}", f"gaps-{number}", table(("feature", "d", "typical synthetic", "typical real"), rows, {1}))
