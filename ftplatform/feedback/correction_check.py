"""Are the corrections answers, or comments about answers?"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.feedback.correction_signals import SIGNALS, LogProbability, SignalLimits, correction_signals
from ftplatform.feedback.meta_language import meta_cues
from ftplatform.plots import bars
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "correction_is_target/2"

#: Largest share of corrections that may look like comments.
MAX_SHARE = 0.02

#: Signals that make a correction suspect.
NEEDED = 2

_STATISTIC = "share of corrections that look like comments or instructions (n: corrections, all of them read)"


def correction_is_target(
    corrections: pa.Table,
    *,
    limits: SignalLimits | None = None,
    log_probability: LogProbability | None = None,
    max_share: float = MAX_SHARE,
    alpha: float = 0.05,
    min_rows: int = 1,
) -> Verdict:
    """Fail if more than a few corrections are comments about the answer, or if one that looks like it was not read by a person.

    Args:
        corrections: one row per target that came from feedback: `event_id`, `prompt`, `answer` (null if not known), `correction`
            (strings) and `reviewed` (boolean: a person has read this very correction and calls it an answer).
        limits, log_probability: see `correction_signals`. With a model two of four signals are needed, without one two of three.
        max_share: largest share of suspects, read or not: where reviewers clear everything, this still says so.
        alpha: of the one-sided lower bound of the share.
        min_rows: corrections below which nothing is concluded. One suffices to judge: they are all read, none is sampled.

    Returns:
        Verdict whose estimate is the share of suspects. Fails if its lower bound is above `max_share`, or if a suspect is unreviewed.

    Raises:
        ValueError: as `correction_signals`.
    """
    limits = limits or SignalLimits()
    tier = "rules" if log_probability is None else "rules and base model"
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "n": corrections.num_rows,
        "n_required": max(1, min_rows),
        "threshold": max_share,
        "confidence": 1 - alpha,
        "baseline": "prompt and old answer of each correction",
        "check_version": CHECK_VERSION,
        "tier": tier,
        "config": {
            "overlap": limits.overlap,
            "length_ratio": limits.length_ratio,
            "log_probability": limits.log_probability if log_probability is not None else None,
            "signals_needed": NEEDED,
            "max_share": max_share,
            "alpha": alpha,
            "min_rows": min_rows,
        },
        "remedy": "Have the suspects decided (`ftplatform feedback sample NAME --for adjudication`): a comment leaves the targets.",
    }
    if corrections.num_rows < common["n_required"]:
        summary = f"{corrections.num_rows} corrections, and {common['n_required']} are needed to judge."
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=summary, **common)
    frame = pl.DataFrame({name: corrections[name] for name in ("event_id", "prompt", "answer", "correction", "reviewed")})
    judged = pl.concat([frame, correction_signals(corrections, limits, log_probability=log_probability)], how="horizontal")
    suspects = judged.filter(pl.col("signals") >= NEEDED).sort("reviewed", "signals", "event_id", descending=[False, True, False])
    unreviewed = suspects.filter(~pl.col("reviewed")).height
    share = wilson(suspects.height, judged.height, 1 - 2 * alpha)
    used = SIGNALS if log_probability is not None else SIGNALS[:-1]
    fired = {name: int(judged[name].sum()) for name in used}
    numbers = (
        f"{suspects.height:,} of {judged.height:,} corrections ({share.estimate:.1%}, at least {share.low:.1%}) look like comments"
    )
    return Verdict(
        decision=Decision.FAIL if share.low > max_share or unreviewed else Decision.PASS,
        summary=f"{numbers} (limit {max_share:.0%}); {unreviewed:,} of these were read by nobody.",
        estimate=share.estimate,
        ci_low=share.low,
        ci_high=share.high,
        evidence=[_line(row, used) for row in suspects.head(MAX_EVIDENCE).iter_rows(named=True)],
        plot=bars([(name, float(count)) for name, count in fired.items()], title="Corrections by signal", x_label="corrections"),
        details={"suspects": suspects.height, "unreviewed": unreviewed, "fired": fired},
        **common,
    )


def _line(row: dict[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    return {
        "event_id": excerpt(row["event_id"], 80),
        "correction": excerpt(row["correction"], 200),
        "old_answer": None if row["answer"] is None else excerpt(row["answer"], 120),
        "signals": ", ".join(name for name in used if row[name]),
        "cues": excerpt("; ".join(meta_cues(row["correction"])[:3]), 160) if row["meta_language"] else "",
        "reviewed": row["reviewed"],
    }
