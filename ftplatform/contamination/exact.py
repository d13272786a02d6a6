"""`contamination_exact`: no eval item may stand word for word in the training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.contamination.matching import Comparison, ExactRule
from ftplatform.contamination.sides import nothing_to_compare
from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "contamination_exact/1"

_REMEDY = (
    "Remove the named training rows, or retire the eval items and write new ones; then close the door they came through"
    " (never author training data from an eval item)."
)


def contamination_exact(train: pa.Table, evals: Mapping[str, pa.Table], rule: ExactRule | None = None) -> Verdict:
    """No eval item may stand in the training data; see `matching` for what is compared.

    Args:
        train: table of `ROW_SCHEMA`; every role but system and tool is read, masked turns included (a mask is easily changed).
        evals: the eval sets by name, tables of `ROW_SCHEMA`. A row without an assistant turn is compared by its user text only.

    Returns:
        Verdict whose estimate is the contaminated share of all checkable items (threshold 0, Wilson interval for the reader; the
        rule is exact, one hit fails). Every hit names eval set, item, a training row, the part, how many rows match and the door.
        Insufficient: no training rows, no eval set, an empty eval set, or too many items without user text.
    """
    rule = rule or ExactRule()
    sizes = {name: table.num_rows for name, table in evals.items()}
    common: dict[str, Any] = {
        "statistic": "share of eval items found in the training data",
        "threshold": 0.0,
        "n_required": 1,
        "baseline": ", ".join(sorted(evals)) or None,
        "check_version": CHECK_VERSION,
        "config": rule.record(),
        "remedy": _REMEDY,
    }
    if (verdict := nothing_to_compare(train, evals, common)) is not None:
        return verdict
    found = Comparison.of(train, evals, rule)
    hits = found.items()
    checkable = {name: found.checkable.get(name, 0) for name in sizes}
    n, total, contaminated = sum(checkable.values()), sum(sizes.values()), len(hits)
    by_set = dict(hits.group_by("eval_set").len().iter_rows()) if contaminated else {}
    interval = wilson(contaminated, n) if n else None
    details = {
        "eval_sets": {
            name: {"items": sizes[name], "checkable": checkable[name], "contaminated": by_set.get(name, 0)}
            for name in sorted(sizes)
        },
        "by_part": dict(sorted(hits.group_by("part").len().iter_rows())) if contaminated else {},
        "by_door": dict(sorted(hits.group_by("door").len().iter_rows())) if contaminated else {},
        "uncheckable_share": (total - n) / total,
        "closed_set_answers_not_counted": found.closed_set_items,
        "training_rows": train.num_rows,
    }
    common |= {"n": n, "details": details}
    if interval is not None:
        common |= {
            "estimate": contaminated / n,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "confidence": interval.confidence,
        }
        common["plot"] = _plot(checkable, by_set)
    if contaminated:
        worst = max(by_set, key=lambda name: by_set[name] / checkable[name])
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{contaminated:,} of {n:,} eval items stand in the training data ({contaminated / n:.2%}); worst set {worst}:"
            f" {by_set[worst]:,} of {checkable[worst]:,}.",
            evidence=_evidence(hits, train, evals),
            **common,
        )
    if n == 0 or (total - n) / total > rule.max_uncheckable:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{total - n:,} of {total:,} eval items have no user text to compare.",
            **{**common, "remedy": "Give every eval item its question as a user message."},
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"None of {n:,} eval items stands in {train.num_rows:,} training rows; {total - n:,} had no user text to compare.",
        **common,
    )


def contaminated_items(train: pa.Table, evals: Mapping[str, pa.Table], rule: ExactRule | None = None) -> pa.Table:
    """Every contaminated eval item, once: eval_set, eval_row_id, part, train_row_id (the first), train_rows (how many), door."""
    return Comparison.of(train, evals, rule or ExactRule()).items().to_arrow()


def _evidence(hits: pl.DataFrame, train: pa.Table, evals: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    rows = []
    # A few of every set and part rather than twenty of the first.
    chosen = (
        hits.with_columns(turn=pl.int_range(pl.len()).over("eval_set", "part")).sort("turn", "eval_set", "part").head(MAX_EVIDENCE)
    )
    train_at = _positions(train, chosen["train_row_id"].to_list())
    eval_at = {name: _positions(evals[name], chosen.filter(pl.col("eval_set") == name)["eval_row_id"].to_list()) for name in evals}
    for hit in chosen.drop("turn").iter_rows(named=True):
        rows.append(
            {
                **hit,
                "eval_text": _excerpt(evals[hit["eval_set"]], eval_at[hit["eval_set"]][hit["eval_row_id"]]),
                "train_text": _excerpt(train, train_at[hit["train_row_id"]]),
            }
        )
    return rows


def _positions(table: pa.Table, ids: list[str]) -> dict[str, int]:
    frame = pl.DataFrame({"id": table["row_id"]}).with_row_index("at").filter(pl.col("id").is_in(ids))
    return {row_id: int(at) for at, row_id in frame.iter_rows()}


def _excerpt(table: pa.Table, at: int) -> str:
    messages = table.column("messages")[at].as_py()
    said = [f"{m['role']}: {m['content']}" for m in messages if m["role"] in (Role.USER, Role.ASSISTANT)]
    return excerpt(" | ".join(said), 240)


def _plot(checkable: Mapping[str, int], by_set: Mapping[str, int]) -> str:
    rows = []
    for name in sorted(checkable, key=lambda name: -by_set.get(name, 0) / max(1, checkable[name])):
        if checkable[name]:
            interval = wilson(by_set.get(name, 0), checkable[name])
            rows.append((f"{name} ({by_set.get(name, 0)}/{checkable[name]})", interval.estimate, interval.low, interval.high))
    return plots.forest(rows, threshold=0.0, title="Eval items found in the training data", x_label="share of items")
