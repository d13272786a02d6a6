"""What an evaluation found, in numbers with their standard errors: per eval set and condition, and per slice.

Answers about one conversation, customer or paraphrased item are not independent, nor are several draws of one prompt, so errors are
clustered by `group`, or by item where there is none (E. Miller, arXiv 2411.00640, section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.evaluation.refusal_judge import Label
from ftplatform.statistics.intervals import Interval, clustered_mean, wilson

_WHO = ("base", "tuned")
_DIGITS = 4
_CONFIDENCE = 0.95


def summarize(answers: pa.Table) -> dict[str, dict[str, dict[str, Any]]]:
    """Facts of each eval set under each condition.

    `n` answers in `clusters` independent groups; for probes the share of each label before and after (`base`, `tuned`); for scored
    sets `base_score` and `tuned_score`, each with `_se` (cluster-robust standard error; None with fewer than two clusters) and
    `_ci` (95 %), the paired `gain` with the same, and `slices`: the same numbers of each slice.

    Args:
        answers: table of `suite.ANSWERS_SCHEMA`.
    """
    frame = pl.DataFrame(pl.from_arrow(answers)).with_columns(cluster=pl.coalesce("group", "item_id"))
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for (name, kind, condition), part in frame.group_by("eval_set", "kind", "condition", maintain_order=True):
        facts = {"kind": kind, **_facts(part)}
        sliced = part.explode("slices").drop_nulls("slices").sort("slices", maintain_order=True)
        slices = {str(key): _facts(rows) for (key,), rows in sliced.group_by("slices", maintain_order=True)}
        if slices:
            facts["slices"] = slices
        summary.setdefault(str(name), {})[str(condition)] = facts
    return summary


def result_rows(summary: Mapping[str, Mapping[str, Mapping[str, Any]]], *, slices: bool = False) -> list[dict[str, Any]]:
    """The summary as flat records for a table: one for each eval set and condition, or with `slices` one for each of its slices."""
    rows = []
    for eval_set, conditions in summary.items():
        for condition, facts in conditions.items():
            named = {"eval_set": eval_set, "condition": condition}
            if slices:
                rows += [named | {"slice": name} | _row(part) for name, part in facts.get("slices", {}).items()]
            else:
                rows.append(named | {"kind": facts["kind"]} | _row(facts))
    return rows


def _facts(part: pl.DataFrame) -> dict[str, Any]:
    facts: dict[str, Any] = {"n": len(part), "clusters": part["cluster"].n_unique()}
    for who in _WHO:
        labels = part[f"{who}_label"].drop_nulls()
        if len(labels):
            facts[who] = {str(label): round(int((labels == str(label)).sum()) / len(labels), _DIGITS) for label in Label}
        scored = part.drop_nulls(f"{who}_score")
        if len(scored):
            facts |= _mean(f"{who}_score", scored[f"{who}_score"], scored["cluster"], in_unit_range=True)
    both = part.drop_nulls(["base_score", "tuned_score"])
    if len(both):
        facts |= _mean("gain", both["tuned_score"] - both["base_score"], both["cluster"])
    return facts


def _mean(name: str, values: pl.Series, clusters: pl.Series, *, in_unit_range: bool = False) -> dict[str, Any]:
    from scipy.stats import t

    sample = values.to_numpy()
    mean = float(sample.mean())
    groups = clusters.n_unique()
    if groups < 2:
        return {name: round(mean, _DIGITS), f"{name}_se": None, f"{name}_ci": None}
    interval = clustered_mean(sample, clusters.to_list(), _CONFIDENCE)
    error = (interval.high - mean) / float(t.ppf((1 + _CONFIDENCE) / 2, groups - 1))
    if in_unit_range:
        interval = _within_unit_range(interval, sample, groups)
    return {
        name: round(mean, _DIGITS),
        f"{name}_se": round(error, _DIGITS),
        f"{name}_ci": [round(interval.low, _DIGITS), round(interval.high, _DIGITS)],
    }


def _within_unit_range(interval: Interval, sample: np.ndarray[Any, np.dtype[np.float64]], groups: int) -> Interval:
    """Five of five right is not 100 % +- 0: where all scores are 0 or all are 1, the Wilson interval of as many clusters."""
    if sample.min() == sample.max() and sample[0] in (0.0, 1.0):
        return wilson(groups * int(sample[0]), groups, _CONFIDENCE)
    return Interval(interval.estimate, max(0.0, interval.low), min(1.0, interval.high), _CONFIDENCE)


def _row(facts: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"n": facts["n"]}
    if facts["clusters"] != facts["n"]:
        row["clusters"] = facts["clusters"]
    for who in _WHO:
        row |= {f"{who} {label}": share for label, share in facts.get(who, {}).items()}
    row |= {f"{who} score": _shown(facts, f"{who}_score") for who in _WHO if f"{who}_score" in facts}
    if "gain" in facts:
        row["gain"] = _shown(facts, "gain")
    return row


def _shown(facts: Mapping[str, Any], name: str) -> str:
    error: float | None = facts[f"{name}_se"]
    return f"{facts[name]:.3f}" if error is None else f"{facts[name]:.3f} ± {error:.3f}"


def worst_slices(summary: Mapping[str, Mapping[str, Mapping[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """Records of the slices that lost most against the base, at most `limit`."""
    lost: Sequence[tuple[float, dict[str, Any]]] = [
        (facts["gain"], {"eval_set": eval_set, "condition": condition, "slice": name} | _row(facts))
        for eval_set, conditions in summary.items()
        for condition, whole in conditions.items()
        for name, facts in whole.get("slices", {}).items()
        if "gain" in facts
    ]
    return [row for _, row in sorted(lost, key=lambda pair: pair[0])[:limit]]
