"""`triage_leak`: rows written from the eval items that failed (the first door of mode M12).

The account of the rows themselves comes first (`triage_lineage`). Where they say nothing, failed items that are nearer to the batch
than passed items of the same topic, together with pairs of a failed item and a row too similar to be chance, say it
(`triage_similarity`). The difference between similarity to the batch and to the older training rows must not be used: a remedial
batch is about what the older rows lack, so that difference alarms on every honest one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.contamination.exposures import families
from ftplatform.contamination.triage_lineage import lineage_hits
from ftplatform.contamination.triage_similarity import Nearness, item_texts, nearness, stratified_rank_test
from ftplatform.errors import InputDataError
from ftplatform.rows.masking import excerpt
from ftplatform.rows.normalize import NORMALIZER_VERSION
from ftplatform.rows.schema import Role
from ftplatform.store.access_log import AccessRecord
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "triage_leak/1"

_REMEDY = (
    "Take the named rows out of the batch, move the families of their eval items to the working set, and author new rows from the"
    " class of failure, never from an item."
)
_EXCERPT = 200


@dataclass(frozen=True, slots=True)
class TriageRule:
    """Parameters of the check.

    Attributes:
        min_failures: failed items, each with a passed one of its topic, from which the statistic decides.
        alpha: level of the one-sided rank test.
        percentile: of the similarity of eval items of different families, above which a pair counts.
    """

    min_failures: int = 8
    alpha: float = 0.01
    percentile: float = 0.995

    def __post_init__(self) -> None:
        if self.min_failures < 1 or not 0 < self.alpha < 1 or not 0 < self.percentile < 1:
            raise ValueError(f"{self} is out of range: counts are at least 1, shares lie between 0 and 1")


def triage_leak(
    batch: pa.Table,
    failed_items: pa.Table,
    passed_items: pa.Table,
    access: Sequence[AccessRecord] = (),
    *,
    references: Mapping[str, Collection[str]] | None = None,
    topics: Mapping[str, str] | None = None,
    rule: TriageRule | None = None,
) -> Verdict:
    """No row new in this version may have been written from an eval item that failed.

    Args:
        batch: the rows new in this version, table of `ROW_SCHEMA`.
        failed_items, passed_items: rows of one eval set by the outcome of the version before, tables of `ROW_SCHEMA`; no item in
            both. The family of an item is its `group`.
        access: the access ledger of that set (`store.access_log.of_set`).
        references: ids of tickets or annotations, each with the row ids of the eval items it is about.
        topics: topic of each eval item by row id; by default its slices together. They keep the topic of a remedial batch from
            looking like its source.

    Returns:
        Verdict whose estimate is the p-value of the rank test (threshold: alpha), n the failed items that could be compared.

        - fail: a row names an item or a reference to one, or its author had seen items of the set; or the statistic with at least
          one pair. Without topics only a pair nearer than eval items ever are to each other counts.
        - warn: the statistic with weaker pairs, and no topics that could explain it.
        - pass: an empty batch; no item failed; no significance; or significance without any pair (a batch on the failed topic).
        - insufficient: fewer failures than the rule asks for, or too few items to calibrate what a pair is.

        Evidence names rows, items, authors and times; texts are masked. A failed item without a pair above the threshold is listed
        with its nearest row, marked as such.

    Raises:
        InputDataError: if an item is among the failed and the passed.
    """
    rule = rule or TriageRule()
    items = pa.concat_tables([failed_items, passed_items.cast(failed_items.schema)])
    _require_distinct(failed_items, passed_items)
    common: dict[str, Any] = {
        "statistic": "p-value of the rank test: failed items nearer to the batch than passed ones of their topic",
        "threshold": rule.alpha,
        "n_required": rule.min_failures,
        "baseline": f"{passed_items.num_rows:,} passed items of the same set",
        "check_version": CHECK_VERSION,
        "config": {**asdict(rule), "normalizer": NORMALIZER_VERSION, "ngrams": "char 3-5"},
        "tier": "char TF-IDF",
        "remedy": _REMEDY,
    }
    sizes = {"batch_rows": batch.num_rows, "failed_items": failed_items.num_rows, "passed_items": passed_items.num_rows}
    hits = lineage_hits(batch, items, access, references or {})
    if len(hits):
        counts = dict(sorted(hits.group_by("kind").len().iter_rows()))
        listed = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{len(hits):,} of {batch.num_rows:,} new rows came from eval items by their own account ({listed}).",
            n=failed_items.num_rows,
            evidence=_lineage_evidence(hits, batch),
            details={**sizes, "by_evidence": counts},
            **{**common, "tier": "lineage"},
        )
    if items.num_rows and not (batch.num_rows and failed_items.num_rows):
        return Verdict(
            decision=Decision.PASS,
            summary="No item failed." if batch.num_rows else "The version has no new rows.",
            n=items.num_rows,
            details=sizes,
            **{**common, "n_required": 1, "remedy": "None needed."},
        )
    failed = np.arange(items.num_rows) < failed_items.num_rows
    texts = item_texts(items)
    strata = _topics(items, topics)
    if not texts.drop_nulls().len() or not batch.num_rows:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="There is no eval item with user text to compare.",
            n=0,
            details=sizes,
            **{**common, "remedy": "Evaluate the version before on the vault, then check again."},
        )
    codes = families(items).select(pl.col("family").rank("dense").cast(pl.Int64))["family"].to_numpy()
    near = nearness(batch, texts, families=codes, failed=failed, percentile=rule.percentile)
    known = texts.is_not_null().to_numpy()
    groups = np.zeros(items.num_rows, dtype=np.int64) if strata is None else strata
    p, compared, chance = stratified_rank_test(near.scores[known], failed[known], groups[known])
    decision, summary, remedy = _judge(near, p, compared, rule, strata is not None)
    return Verdict(
        decision=decision,
        summary=summary,
        n=compared,
        estimate=p if compared else None,
        # A pass shows no item: evidence is read by people who are to see no more of the vault than they must.
        evidence=() if decision is Decision.PASS else _pair_evidence(near, batch, items),
        plot=plots.histogram(
            {"failed": near.scores[known & failed].tolist(), "passed": near.scores[known & ~failed].tolist()},
            title="How specific the nearest new row is for an eval item",
            x_label="similarity above that to the next family",
        ),
        details={
            **sizes,
            "failed_nearer_than_passed": chance if compared else None,
            "pairs_above_threshold": len(near.pairs),
            "failed_items_with_pair": near.pairs["item"].n_unique(),
            "rows_with_pair": near.pairs["row"].n_unique(),
            "pair_threshold": asdict(near.threshold) if near.threshold else None,
            "topics": None if strata is None else len(np.unique(strata)),
            "ledger_records": len(access),
        },
        **{**common, "remedy": remedy},
    )


def _judge(near: Nearness, p: float, compared: int, rule: TriageRule, with_topics: bool) -> tuple[Decision, str, str]:
    pairs = near.pairs
    found = f"{len(pairs):,} pair(s) of {pairs['item'].n_unique():,} failed item(s) and {pairs['row'].n_unique():,} new row(s)"
    if compared < rule.min_failures:
        return (
            Decision.INSUFFICIENT_EVIDENCE,
            f"{compared} failed item(s) have passed ones of their topic beside them, {rule.min_failures} are needed;"
            f" {found} are very similar.",
            "Read the listed pairs, and evaluate on more items of the topics that failed.",
        )
    if near.threshold is None:
        return (
            Decision.INSUFFICIENT_EVIDENCE,
            "There are too few eval items of different families to say which similarity is no chance.",
            "Evaluate on more items.",
        )
    numbers = f"p = {p:.2g}, {compared} failures"
    if p >= rule.alpha:
        return Decision.PASS, f"The failed items are no nearer to the new rows than passed ones ({numbers}).", "None needed."
    if not len(pairs):
        return Decision.PASS, f"The new rows are about what failed ({numbers}), but none resembles a failed item.", "None needed."
    if with_topics or float(pairs["similarity"].cast(pl.Float64).to_numpy().max()) > near.threshold.nearest:
        return Decision.FAIL, f"New rows paraphrase failed items: {found} ({numbers}).", _REMEDY
    return (
        Decision.WARN,
        f"The failed items are nearer to the new rows ({numbers}; {found}), which a batch on their topic would also show.",
        "Read the pairs, and give the eval items slices: their topics tell a remedial batch from a copy.",
    )


def _require_distinct(failed_items: pa.Table, passed_items: pa.Table) -> None:
    failed, passed = pl.Series(failed_items["row_id"]), pl.Series(passed_items["row_id"])
    both = failed.filter(failed.is_in(passed.to_list()))
    if len(both):
        raise InputDataError(
            f"{len(both)} eval item(s) are among the failed and the passed, {both[0]} among them.",
            remedy="Give each item once, by the outcome of one evaluation.",
        )


def _topics(items: pa.Table, topics: Mapping[str, str] | None) -> np.ndarray | None:
    """Code of each item's topic, shape (n,); None if no item has one."""
    if topics is not None:
        names = pl.Series(items["row_id"]).replace_strict(dict(topics), default="", return_dtype=pl.String)
    else:
        names = pl.DataFrame({"slices": items["slices"]}).select(pl.col("slices").list.sort().list.join("\x1f"))["slices"]
    if names.eq("").all():
        return None
    return names.rank("dense").cast(pl.Int64).to_numpy()


def _lineage_evidence(hits: pl.DataFrame, batch: pa.Table) -> list[dict[str, Scalar]]:
    chosen = hits.with_columns(turn=pl.int_range(pl.len()).over("kind")).sort("turn", maintain_order=True).head(MAX_EVIDENCE)
    at = pl.DataFrame({"row_id": batch["row_id"]}).with_row_index("at").unique("row_id", keep="first", maintain_order=True)
    lines = chosen.join(at, on="row_id", maintain_order="left").iter_rows(named=True)
    return [
        {
            "row_id": line["row_id"],
            "evidence": line["kind"],
            "eval_row_id": line["eval_row_id"],
            "name": excerpt(line["name"], 120),
            "author": None if line["author"] is None else excerpt(line["author"], 120),
            "written_at": None if line["written_at"] is None else line["written_at"].isoformat(),
            "seen_at": None if line["seen_at"] is None else line["seen_at"].isoformat(),
            "text": _text(batch, int(line["at"])),
        }
        for line in lines
    ]


def _pair_evidence(near: Nearness, batch: pa.Table, items: pa.Table) -> list[dict[str, Scalar]]:
    """Pairs above the threshold, the best of every item first; then the nearest row of each other failed item."""
    above = near.pairs.with_columns(above=pl.lit(True), turn=pl.int_range(pl.len()).over("item"))
    rest = near.nearest.join(near.pairs, on=["item", "row"], how="anti", maintain_order="left")
    below = rest.with_columns(above=pl.lit(False), turn=pl.lit(0, dtype=pl.Int64))
    chosen = pl.concat([above.sort("turn", maintain_order=True), below]).head(MAX_EVIDENCE)
    return [
        {
            "eval_row_id": items["row_id"][pair["item"]].as_py(),
            "row_id": batch["row_id"][pair["row"]].as_py(),
            "similarity": round(pair["similarity"], 3),
            "specificity": round(pair["specificity"], 3),
            "above_threshold": pair["above"],
            "eval_text": _text(items, pair["item"]),
            "row_text": _text(batch, pair["row"]),
        }
        for pair in chosen.iter_rows(named=True)
    ]


def _text(rows: pa.Table, at: int) -> str:
    said = [message["content"] for message in rows["messages"][at].as_py() if message["role"] == Role.USER]
    return excerpt(" | ".join(said), _EXCERPT)
