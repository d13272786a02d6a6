"""Did fine-tuning make the model worse at its task, in the whole or in one slice of it? (modes M1, M4, M5)

A mean hides its worst slice, so every slice is tested. A regression is a loss beyond chance (Holm over the slices) that is not also
shown to lie within the margin. The whole must be decided: its upper bound of the loss within the margin. A slice too small to
decide is listed as such, with the number of items that would.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.paired_loss import PairedLoss, paired_loss
from ftplatform.plots import forest
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.multiple import holm
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

CONFIDENCE = 0.95
MARGIN = 0.03

#: Below this the t bound of a mean is not to be trusted.
MIN_ITEMS = 30

_COLUMNS = ("item_id", "slices", "base_score", "tuned_score")
_EXCERPT = 120
_STATISTIC = "paired loss of the mean task score (base minus tuned, same items)"


def task_regression(
    scores: pa.Table, *, alpha: float = 0.05, margin: float = MARGIN, min_items: int = MIN_ITEMS, baseline: str | None = None
) -> Verdict:
    """Is the tuned model at least as good as its base on the task, in every slice?

    Args:
        scores: one row per item: `item_id`, `slices` (list of names), `base_score`, `tuned_score` (both in [0, 1]). Optional:
            `group` (conversation or item family; errors are clustered by it), `eval_set` (each is a slice too), `prompt`,
            `tuned_answer` (shown shortened and masked as evidence). The same item under several conditions is one cluster.
        alpha: level at which a regression counts as shown (.05 release, .001 nightly).
        margin: largest acceptable loss of the mean score, a share.
        min_items: items below which nothing is decided.
        baseline: what the base answers came from.

    Raises:
        ValueError: on missing columns, scores outside [0, 1] or not finite.
    """
    absent = [name for name in _COLUMNS if name not in scores.column_names]
    if absent:
        raise ValueError(f"the score table lacks {', '.join(absent)}; it needs {', '.join(_COLUMNS)}")
    config = {"alpha": alpha, "confidence": CONFIDENCE, "margin": margin, "min_items": min_items}

    def verdict(decision: Decision, summary: str, remedy: str, **more: object) -> Verdict:
        return Verdict(
            decision=decision,
            summary=summary,
            confidence=CONFIDENCE,
            threshold=margin,
            baseline=baseline or "the base model on the same items and decoding",
            remedy=remedy,
            check_version=CHECK_VERSION,
            config=config,
            tier="exact",
            **more,  # type: ignore[arg-type]
        )

    if scores.num_rows == 0:
        return verdict(
            Decision.INSUFFICIENT_EVIDENCE,
            "No task item was answered.",
            f"Give the adapter an eval set of kind task with at least {min_items} items.",
            statistic=_STATISTIC,
            n=0,
            n_required=min_items,
        )
    base, tuned = _scores(scores, "base_score"), _scores(scores, "tuned_score")
    clusters: list[Hashable] = list(_clusters(scores))
    overall = paired_loss("overall", base, tuned, clusters, margin=margin, confidence=CONFIDENCE, alpha=alpha)
    slices = []
    for name, members in _slices(scores).items():
        here = np.asarray(members)
        slices.append(
            paired_loss(
                name, base[here], tuned[here], [clusters[i] for i in members], margin=margin, confidence=CONFIDENCE, alpha=alpha
            )
        )

    parts = [overall, *slices]
    significant, adjusted = holm([p.p_harm for p in parts], alpha)
    regressed = [(p, q) for p, hit, q in zip(parts, significant, adjusted, strict=True) if hit and not p.retained]
    # The whole is a question of its own and pays nothing for the slices.
    if overall.p_harm <= alpha and not overall.retained and all(p is not overall for p, _ in regressed):
        regressed.insert(0, (overall, overall.p_harm))
    regressed.sort(key=lambda pair: (pair[0] is not overall, -pair[0].low))
    deciding = regressed[0][0] if regressed else overall
    undecided = [p for p in slices if not p.retained and all(p is not r for r, _ in regressed)]
    numbers = (
        f"{overall.base:.1%} before, {overall.tuned:.1%} after on {overall.n} items; "
        f"loss at most {overall.high:.1%} (limit {margin:.0%})"
    )
    if regressed:
        decision = Decision.FAIL
        listed = ", ".join(f"{p.name} ({p.base:.1%} to {p.tuned:.1%}, n {p.n}, p {q:.2g})" for p, q in regressed[:5])
        summary = f"The tuned model is worse in {listed}; overall {numbers}."
        remedy = "Add training rows for the slices named, or ship an earlier checkpoint."
    elif overall.n < min_items or not overall.retained:
        decision = Decision.INSUFFICIENT_EVIDENCE
        summary = f"The items do not show whether the task got worse: {numbers}."
        remedy = f"Use more task items: about {max(min_items, overall.n_to_decide)} would decide."
    else:
        decision = Decision.PASS
        summary = f"The task did not get worse: {numbers}."
        if undecided:
            summary += f" {len(undecided)} of {len(slices)} slices are too small to say by themselves."
        remedy = "None needed."
    return verdict(
        decision,
        summary,
        remedy,
        statistic=_STATISTIC + ("" if deciding is overall else f", slice {deciding.name}"),
        estimate=deciding.loss,
        ci_low=deciding.low,
        ci_high=deciding.high,
        n=deciding.n,
        n_required=max(min_items, overall.n_to_decide) if decision is Decision.INSUFFICIENT_EVIDENCE else min_items,
        evidence=_evidence(scores, base, tuned, {p.name for p, _ in regressed}),
        plot=_plot(parts, margin),
        details={
            "overall": overall.row(),
            "slices": [p.row() for p in slices],
            "regressed": [p.name for p, _ in regressed],
            "insufficient_slices": [{"slice": p.name, "n": p.n, "n_to_decide": max(min_items, p.n_to_decide)} for p in undecided],
        },
    )


def _scores(table: pa.Table, column: str) -> np.ndarray:
    values = table[column]
    if values.null_count:
        row = values.to_pylist().index(None)
        raise EvaluationError(
            f"Item {table['item_id'][row].as_py()} has no {column}; the comparison is paired.",
            remedy="Evaluate base and tuned model again.",
        )
    array = values.to_numpy().astype(np.float64)
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError(f"{column} must be finite and in [0, 1]")
    return array


def _clusters(table: pa.Table) -> Sequence[str]:
    items = table["item_id"].to_pylist()
    if "group" not in table.column_names:
        return items
    return [
        f"group:{group}" if group is not None else f"item:{item}"
        for group, item in zip(table["group"].to_pylist(), items, strict=True)
    ]


def _slices(table: pa.Table) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    sets = table["eval_set"].to_pylist() if "eval_set" in table.column_names else [None] * table.num_rows
    several = len(set(sets)) > 1
    for row, (names, eval_set) in enumerate(zip(table["slices"].to_pylist(), sets, strict=True)):
        for name in dict.fromkeys(names or ()):
            members.setdefault(f"{eval_set}: {name}" if several else name, []).append(row)
        if several and eval_set is not None:
            members.setdefault(eval_set, []).append(row)
    return dict(sorted(members.items()))


def _evidence(table: pa.Table, base: np.ndarray, tuned: np.ndarray, regressed: set[str]) -> list[dict[str, str | float]]:
    """Items that lost most, those of regressed slices first."""
    lost = np.flatnonzero(base > tuned)
    rows = table.take(lost).to_pylist()
    order = sorted(
        range(len(rows)),
        key=lambda i: (not regressed.intersection(rows[i]["slices"] or ()), tuned[lost[i]] - base[lost[i]], rows[i]["item_id"]),
    )
    evidence = []
    for i in order[:MAX_EVIDENCE]:
        row = rows[i]
        shown: dict[str, str | float] = {
            "item_id": row["item_id"],
            "slices": ", ".join(row["slices"] or ()),
            "base_score": float(base[lost[i]]),
            "tuned_score": float(tuned[lost[i]]),
        }
        for text in ("prompt", "reference", "tuned_answer"):
            if row.get(text) is not None:
                shown[text] = excerpt(row[text], _EXCERPT)
        evidence.append(shown)
    return evidence


def _plot(parts: Sequence[PairedLoss], margin: float) -> str:
    worst = [parts[0], *sorted(parts[1:], key=lambda p: -p.low)[:24]]
    return forest(
        [(f"{p.name} ({p.n})", 100 * p.loss, 100 * p.low, 100 * p.high) for p in worst],
        threshold=100 * margin,
        title="Loss of task score by slice (base minus tuned)",
        x_label="percentage points, one-sided bounds",
    )
