"""`served_matches_evaluated`: the weights that leave are the weights that were examined, and lately (mode M5).

An evaluation is a statement about one set of bytes. A model card that describes a sibling of what is served describes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ftplatform.plots import bars
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"

MAX_AGE = timedelta(days=30)

#: What decides a model's answers; other files of an adapter folder may differ.
_DECIDING_SUFFIXES = (".safetensors", "adapter_config.json")


def served_matches_evaluated(
    served: Mapping[str, str],
    evaluated: Mapping[str, str],
    *,
    evaluated_at: datetime | None,
    now: datetime,
    max_age: timedelta = MAX_AGE,
    baseline: str | None = None,
) -> Verdict:
    """Are the released weights those of the evaluation, and is the evaluation recent?

    Args:
        served, evaluated: path inside the adapter folder to SHA-256 (hex). Weights and configuration decide, by name and bytes.
        evaluated_at: when the evaluated model last gave its answers, None if nobody knows. now: the present. Both with a time zone.
        max_age: of the answers.
        baseline: which evaluation.

    Returns:
        Fails if a file differs, is missing or was added, or the answers are older than `max_age`. Insufficient if there are no
        weights on either side or the time is unknown.
    """
    left, right = ({path: sha for path, sha in files.items() if path.endswith(_DECIDING_SUFFIXES)} for files in (served, evaluated))
    different = [path for path in sorted(left.keys() | right.keys()) if left.get(path) != right.get(path)]
    age = None if evaluated_at is None else now - evaluated_at
    days = None if age is None else age / timedelta(days=1)
    shown: dict[str, Any] = {
        "statistic": "age of the evaluation of the served weights (days)",
        "estimate": days,
        "n": len(left),
        "n_required": 1,
        "threshold": max_age / timedelta(days=1),
        "baseline": baseline,
        "check_version": CHECK_VERSION,
        "config": {"max_age_days": max_age / timedelta(days=1)},
        "evidence": [
            {"file": path, "served": left.get(path, "(absent)"), "evaluated": right.get(path, "(absent)")}
            for path in different[:20]
        ],
        "plot": None
        if days is None
        else bars([("age", days)], threshold=max_age / timedelta(days=1), title="Age of the evaluation", x_label="days"),
    }
    weights = [path for path in left if path.endswith(".safetensors")]
    if not weights or not any(path.endswith(".safetensors") for path in right):
        side = "release" if not weights else "evaluation"
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"The {side} names no weights, so nothing can be compared.",
            remedy="Build the evaluation and the release again.",
            **shown,
        )
    if different:
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{len(different)} files of the served adapter are not those that were evaluated: {', '.join(different[:5])}.",
            remedy="Release the evaluated weights, or evaluate these.",
            **shown,
        )
    if age is None:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="The served weights are those that were evaluated, and nobody knows when.",
            remedy="Evaluate the adapter again.",
            **shown,
        )
    if age > max_age or age < timedelta(0):
        problem = "lies in the future" if age < timedelta(0) else f"is {days:.0f} days old; at most {max_age.days} are allowed"
        return Verdict(
            decision=Decision.FAIL,
            summary=f"The evaluation of the served weights {problem}.",
            remedy="Evaluate the adapter again (ftplatform run --rebuild), or correct the clock.",
            **shown,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"The served weights are byte for byte those that were evaluated {days:.1f} days ago.",
        remedy="None needed.",
        **shown,
    )
