"""`group_leakage`: no conversation, customer or thread may stand on both sides of the split, even with different words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.contamination.sides import nothing_to_compare
from ftplatform.rows.masking import mask_text
from ftplatform.rows.schema import Surface
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "group_leakage/1"

#: Ids at least this long (order numbers, UUIDs) hardly coincide by chance in two sources; "12" does.
_TELLING_ID = 8

_REMEDY = (
    "Move every row of the named groups to one side (the reserve moves whole groups), and keep customer ids when exporting rows."
)


def group_leakage(train: pa.Table, evals: Mapping[str, pa.Table], *, max_ungrouped_share: float = 0.1) -> Verdict:
    """No group of an eval set may also have rows in the training data.

    Groups are compared inside their namespace: a row's source and origins. The same long id under two different sources (an
    export of the same customers) only warns, since the namespaces say they are different things.

    A row without a group stands for itself, except rows of surface `production`: those have a customer or conversation that
    nobody wrote down. If they are more than `max_ungrouped_share` of either side, the check abstains.

    Args:
        train: table of `ROW_SCHEMA`.
        evals: the eval sets by name.

    Returns:
        Verdict whose estimate is the share of eval groups also found in training (threshold 0; rows without a group are groups of
        one), n the number of eval groups. Evidence names the group, both sides' rows and how many there are.
    """
    common: dict[str, Any] = {
        "statistic": "share of eval groups (conversations, customers) with rows in the training data",
        "threshold": 0.0,
        "n_required": 1,
        "baseline": ", ".join(sorted(evals)) or None,
        "check_version": CHECK_VERSION,
        "config": {"max_ungrouped_share": max_ungrouped_share},
        "remedy": _REMEDY,
    }
    if (verdict := nothing_to_compare(train, evals, common)) is not None:
        return verdict
    ours, theirs = _groups(train), pl.concat([_groups(table).with_columns(eval_set=pl.lit(name)) for name, table in evals.items()])
    shared = theirs.join(ours.rename({"row_id": "train_row_id", "rows": "train_rows"}), on=["namespace", "group"])
    shared = shared.sort("eval_set", "group", "namespace").unique(["eval_set", "group"], keep="first", maintain_order=True)
    elsewhere = _elsewhere(theirs, ours, shared)
    alone = sum(table.column("group").null_count for table in evals.values())
    n = theirs.select("eval_set", "group").n_unique() + alone
    unknown = {name: _unknown_share(table) for name, table in {"train": train, **evals}.items()}
    interval = wilson(len(shared), n)
    details = {
        "eval_groups": n - alone,
        "eval_rows_without_group": alone,
        "train_groups": ours.select("namespace", "group").n_unique(),
        "train_rows_without_group": train.column("group").null_count,
        "production_rows_without_group_share": unknown,
        "same_id_under_another_source": len(elsewhere),
    }
    common |= {
        "n": n,
        "estimate": interval.estimate,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "confidence": interval.confidence,
        "details": details,
    }
    if len(shared):
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{len(shared):,} of {n:,} eval groups also have training rows.",
            evidence=_evidence(shared),
            **common,
        )
    ungrouped = {name: share for name, share in unknown.items() if share > max_ungrouped_share}
    if ungrouped:
        worst = max(ungrouped, key=lambda name: ungrouped[name])
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{ungrouped[worst]:.1%} of the rows of {worst} come from production without customer or conversation id.",
            **{**common, "remedy": "Map the customer or conversation id of production rows to 'group'."},
        )
    if len(elsewhere):
        return Verdict(
            decision=Decision.WARN,
            summary=f"No group stands on both sides within its source, but {len(elsewhere):,} id(s) under different sources.",
            evidence=_evidence(elsewhere),
            **{**common, "remedy": "Find out whether the sources share customers; if so, give them one namespace."},
        )
    return Verdict(decision=Decision.PASS, summary=f"None of {n:,} eval groups has training rows.", **common)


def _groups(rows: pa.Table) -> pl.DataFrame:
    """namespace, group, first row id, rows; a row counts in the namespace of its source and of each origin."""
    frame = pl.DataFrame({name: rows[name] for name in ("row_id", "source", "origins", "group")}).filter(
        pl.col("group").is_not_null()
    )
    spaces = frame.select("row_id", "group", namespace=pl.concat_list("source", "origins").list.unique())
    return spaces.explode("namespace").group_by("namespace", "group").agg(pl.col("row_id").min(), rows=pl.len())


def _elsewhere(theirs: pl.DataFrame, ours: pl.DataFrame, shared: pl.DataFrame) -> pl.DataFrame:
    other = ours.rename({"row_id": "train_row_id", "rows": "train_rows", "namespace": "train_namespace"})
    both = theirs.filter(pl.col("group").str.len_chars() >= _TELLING_ID).join(other, on="group")
    both = both.join(shared.select("eval_set", "group"), on=["eval_set", "group"], how="anti")
    return both.sort("eval_set", "group", "namespace").unique(["eval_set", "group"], keep="first", maintain_order=True)


def _unknown_share(rows: pa.Table) -> float:
    frame = pl.DataFrame({"group": rows["group"], "surface": rows["surface"]})
    return len(frame.filter(pl.col("group").is_null() & (pl.col("surface") == str(Surface.PRODUCTION)))) / len(frame)


def _evidence(shared: pl.DataFrame) -> list[dict[str, Any]]:
    worst = shared.sort("train_rows", "group", descending=[True, False]).head(MAX_EVIDENCE)
    return [{**record, "group": mask_text(record["group"])} for record in worst.rename({"rows": "eval_rows"}).iter_rows(named=True)]
