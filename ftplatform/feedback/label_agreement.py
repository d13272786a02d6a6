"""Do two people who do not see each other's codes call the same events the same?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ftplatform.feedback.decision_log import Annotation
from ftplatform.plots import forest
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import Interval
from ftplatform.statistics.reliability import cohen_kappa, krippendorff_alpha, krippendorff_interval, label_counts
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "label_agreement/1"

#: Lower bounds of alpha: from the first on the codes can be trusted, below the second they cannot.
TRUSTED, UNTRUSTED = 0.60, 0.40

#: Doubly annotated events that the decision needs.
MIN_EVENTS = 200

FIELDS = ("intent_code", "correction_kind")
_STATISTIC = "Krippendorff's alpha of the worst field (n: events with two or more annotators)"


def label_agreement(
    annotations: Sequence[Annotation],
    event_ids: Collection[str] | None = None,
    *,
    alpha: float = 0.05,
    trusted: float = TRUSTED,
    untrusted: float = UNTRUSTED,
    min_events: int = MIN_EVENTS,
) -> Verdict:
    """Agreement beyond chance on each of `FIELDS`; the worse one decides.

    Args:
        annotations: in the order they were given; of several by one annotator on one event the last counts.
        event_ids: the events there are; annotations of others are left out. None takes all.
        alpha: the interval covers 1 - 2 alpha, so that its lower bound is one-sided at alpha.
        trusted, untrusted: passes if the lower bound is at least `trusted`, fails if it is below `untrusted`, warns between.
        min_events: doubly annotated events below which nothing is concluded.

    Returns:
        Verdict with alpha and its bootstrap interval over events. Raw agreement and, for two annotators, Cohen's kappa are among the
        details. Insufficient: too few events, or all annotations alike, for then nobody knows whether they *could* tell apart.
    """
    last = {(a.event_id, a.by): a for a in annotations if event_ids is None or a.event_id in event_ids}
    by_event: dict[str, list[Annotation]] = {}
    for annotation in last.values():
        by_event.setdefault(annotation.event_id, []).append(annotation)
    double = {event: given for event, given in sorted(by_event.items()) if len(given) > 1}
    people = sorted({a.by for given in double.values() for a in given})
    common: dict[str, Any] = {
        "statistic": _STATISTIC,
        "n": len(double),
        "n_required": min_events,
        "threshold": trusted,
        "confidence": 1 - 2 * alpha,
        "baseline": "agreement by chance at the annotators' own rates",
        "check_version": CHECK_VERSION,
        "tier": "people",
        "config": {"alpha": alpha, "trusted": trusted, "untrusted": untrusted, "min_events": min_events, "fields": list(FIELDS)},
        "remedy": "Sharpen the definitions of the codes that are confused, adjudicate the events below, and annotate a new sample.",
    }
    if len(double) < min_events:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(double):,} events were annotated by two people; {min_events:,} are needed.",
            **{**common, "remedy": "Hand out blind sheets with `ftplatform feedback sample` and import them."},
        )
    measured = {field: _agreement(double, field, 1 - 2 * alpha) for field in FIELDS}
    details: dict[str, Any] = {
        "annotators": [excerpt(name, 80) for name in people],
        "fields": {field: found for field, (_, found) in measured.items()},
    }
    silent = [field for field, (interval, _) in measured.items() if interval is None]
    if silent:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"All annotations of {', '.join(silent)} are alike: nothing shows that the annotators could tell codes apart.",
            details=details,
            **{**common, "n_required": len(double) + 1, "remedy": "Annotate a sample that holds more than one kind of event."},
        )
    intervals = {field: interval for field, (interval, _) in measured.items() if interval is not None}
    worst = min(intervals, key=lambda field: intervals[field].low)
    deciding = intervals[worst]
    if deciding.low >= trusted:
        decision = Decision.PASS
    elif deciding.low >= untrusted:
        decision = Decision.WARN
    else:
        decision = Decision.FAIL
    raw = measured[worst][1]["raw_agreement"]
    return Verdict(
        decision=decision,
        summary=(
            f"{worst}: alpha {deciding.estimate:.2f}, at least {deciding.low:.2f} (limit {trusted:.2f}), on {len(double):,} events"
            f" by {len(people)} annotators; raw agreement {raw:.0%}."
        ),
        estimate=deciding.estimate,
        ci_low=deciding.low,
        ci_high=deciding.high,
        evidence=_disputed(double),
        plot=forest(
            [(field, i.estimate, i.low, i.high) for field, i in intervals.items()],
            threshold=trusted,
            title="Agreement beyond chance",
            x_label="Krippendorff's alpha",
        ),
        details=details,
        **common,
    )


def _agreement(double: dict[str, list[Annotation]], field: str, confidence: float) -> tuple[Interval | None, dict[str, Any]]:
    said = [(event, str(getattr(a, field))) for event, given in double.items() for a in given]
    counts = label_counts([event for event, _ in said], [label for _, label in said])
    given = counts.sum(axis=1)
    raw = float(((counts * (counts - 1)).sum(axis=1) / (given * (given - 1))).mean())
    found: dict[str, Any] = {"raw_agreement": raw, "confused": _confused(double, field)}
    if math.isnan(krippendorff_alpha(counts)):
        return None, found
    interval = krippendorff_interval(counts, confidence)
    found |= {"alpha": interval.estimate, "alpha_low": interval.low, "alpha_high": interval.high}
    people = sorted({a.by for group in double.values() for a in group})
    if len(people) == 2:
        kappa = cohen_kappa(_table(double, field, people), confidence)
        found |= {"kappa": kappa.estimate, "kappa_low": kappa.low, "kappa_high": kappa.high}
    return interval, found


def _table(double: dict[str, list[Annotation]], field: str, people: list[str]) -> np.ndarray:
    labels = sorted({str(getattr(a, field)) for given in double.values() for a in given})
    place = {label: at for at, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for given in double.values():
        first, second = sorted(given, key=lambda a: people.index(a.by))
        table[place[str(getattr(first, field))], place[str(getattr(second, field))]] += 1
    return table


def _confused(double: dict[str, list[Annotation]], field: str) -> list[dict[str, Any]]:
    """Pairs of codes given to the same event, most often first."""
    pairs = Counter(
        tuple(sorted((str(getattr(a, field)), str(getattr(b, field)))))
        for given in double.values()
        for a, b in combinations(given, 2)
        if getattr(a, field) != getattr(b, field)
    )
    return [{"codes": list(codes), "pairs": count} for codes, count in pairs.most_common(10)]


def _disputed(double: dict[str, list[Annotation]]) -> list[dict[str, Any]]:
    disputed = [event for event, given in double.items() if any(len({getattr(a, f) for a in given}) > 1 for f in FIELDS)]
    return [
        {
            "event_id": excerpt(event, 80),
            **{
                field: ", ".join(f"{excerpt(a.by, 40)}: {getattr(a, field)}" for a in sorted(double[event], key=lambda a: a.by))
                for field in FIELDS
            },
        }
        for event in disputed[:MAX_EVIDENCE]
    ]
