"""`contamination_paraphrase`: no eval item may stand in the training data in other words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.contamination.paraphrase.encoder import Encoder
from ftplatform.contamination.paraphrase.pairs import CLEARED, CONFIRMED, OPEN, Comparison, compare
from ftplatform.contamination.paraphrase.rule import ParaphraseRule
from ftplatform.contamination.paraphrase.texts import letters, train_texts
from ftplatform.contamination.sides import nothing_to_compare
from ftplatform.rows.masking import excerpt, mask_text
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "contamination_paraphrase/2"

_REMEDY = (
    "Remove the named training rows, or retire the eval items and write new ones; write remedial rows from the description of a"
    " failure class, never from an item."
)
_REVIEW_REMEDY = "Read the listed pairs and record for each whether the training row is a paraphrase of the item or different."


def contamination_paraphrase(
    train: pa.Table,
    evals: Mapping[str, pa.Table],
    rule: ParaphraseRule | None = None,
    encoder: Encoder | None = None,
    reviewed: pa.Table | None = None,
) -> Verdict:
    """No eval item may stand in the training data in other words.

    Each item is compared with the `rule.candidates` training texts nearest by TF-IDF, and scored by the encoder's cosine (without
    one by TF-IDF) plus a share for agreeing numbers. A pair above the `rule.quantile` of what the nearest of as many texts on the
    same topic would reach, measured on items of other families of the same eval set (`calibration.calibrate`), is a suspect. Signals
    confirm it (the same telling answer; or, if the score is beyond chance for the whole set, the same numbers or wording) or clear
    it (another answer and other numbers); else it waits for a person, whose word overrides every signal.

    A set of code is compared by names and words, values and structure, each text against the rivals among the items (`code_search`),
    at levels chosen on one half of HumanEval. Two agreeing views confirm what is certain. Three in ten rephrasings stay below these
    levels, so that such a set fails, or waits, and never passes.

    Args:
        train: table of `ROW_SCHEMA`, user and assistant turns are read.
        evals: the eval sets by name; `group` is an item's family. Items are compared by their user text.
        rule: parameters.
        encoder: embedding model; None runs the TF-IDF tier.
        reviewed: table of `REVIEW_SCHEMA`.

    Returns:
        Verdict whose estimate is the confirmed share of the checkable items (threshold 0, Wilson interval for the reader). One
        confirmed pair fails. Insufficient: a suspect that nobody confirmed or cleared; a set of code; a set without enough items to
        calibrate on, or whose threshold would not find an item with a third of its words gone; no rows; too many items without
        user text.

    Raises:
        InvalidReview: on an unusable table of reviews.

    Source: S. Yang et al., Rethinking Benchmark and Contamination for Language Models with Rephrased Samples, arXiv 2311.04850
    (2023), for candidates by similarity and a judge on the short list; the threshold and the signals are ours.
    """
    rule = rule or ParaphraseRule()
    lexical = "embedding" if encoder is not None else "TF-IDF"
    common: dict[str, Any] = {
        "statistic": "share of eval items rephrased in the training data",
        "threshold": 0.0,
        "n_required": 1,
        "baseline": ", ".join(sorted(evals)) or None,
        "check_version": CHECK_VERSION,
        "config": {**rule.record(), "encoder": encoder.name if encoder is not None else None},
        "tier": lexical,
        "remedy": _REMEDY,
    }
    if (verdict := nothing_to_compare(train, evals, common)) is not None:
        return verdict
    found = compare(train, evals, rule, encoder, reviewed)
    common["tier"] = tier = _tier(found, lexical)
    n = len(found.checkable)
    confirmed = found.pairs.filter(pl.col("status") == CONFIRMED)
    # An item that is confirmed needs no further reading.
    open_pairs = found.pairs.filter(pl.col("status") == OPEN).join(
        confirmed.select("item"), on="item", how="anti", maintain_order="left"
    )
    hit = confirmed["item"].n_unique()
    common |= {"n": n, "details": _details(found, train, rule, encoder), "evidence": _evidence(confirmed, open_pairs)}
    if n:
        interval = wilson(hit, n)
        common |= {"estimate": hit / n, "ci_low": interval.low, "ci_high": interval.high, "confidence": interval.confidence}
        common["plot"] = _plot(found, confirmed)
    languages = "" if encoder is not None and encoder.multilingual else "; cross-lingual tier not run"
    if hit:
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{hit:,} of {n:,} eval items stand rephrased in the training data ({tier} tier{languages}).",
            **common,
        )
    abstained = _abstention(found, open_pairs, rule, embedded=encoder is not None)
    if abstained is not None:
        summary, remedy = abstained
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=summary, **{**common, "remedy": remedy})
    return Verdict(
        decision=Decision.PASS,
        summary=f"None of {n:,} eval items stands rephrased in {train.num_rows:,} training rows ({tier} tier{languages}).",
        **common,
    )


def paraphrase_pairs(
    train: pa.Table,
    evals: Mapping[str, pa.Table],
    rule: ParaphraseRule | None = None,
    encoder: Encoder | None = None,
    reviewed: pa.Table | None = None,
) -> pa.Table:
    """Every pair above its threshold, for an asset or a review: eval_set, eval_row_id, train_row_id, similarity, score, threshold,
    status (confirmed, open, cleared), by, door, and both texts in full, unmasked."""
    return compare(train, evals, rule or ParaphraseRule(), encoder, reviewed).pairs.drop("item").to_arrow()


def _tier(found: Comparison, lexical: str) -> str:
    kinds = {c is not None and c.code for c in found.calibrations.values()}
    return {frozenset({True}): "code", frozenset({True, False}): f"{lexical} and code"}.get(frozenset(kinds), lexical)


def _abstention(found: Comparison, open_pairs: pl.DataFrame, rule: ParaphraseRule, *, embedded: bool) -> tuple[str, str] | None:
    """Why nothing can be concluded, and what to do; None where the check may pass."""
    n, total = len(found.checkable), len(found.items)
    if n == 0 or (total - n) / total > rule.max_uncheckable:
        return f"{total - n:,} of {total:,} eval items have no user text to compare.", "Give every eval item its question."
    if not found.training_texts:
        return "The training rows hold no user or assistant text to compare.", "Check the roles of the training rows."
    if len(open_pairs):
        items = open_pairs["item"].n_unique()
        return f"{items:,} of {n:,} eval items resemble a training row and nobody has confirmed or cleared it.", _REVIEW_REMEDY
    few = sorted(name for name, calibration in found.calibrations.items() if calibration is None)
    if few:
        return (
            f"Too few items of different families to know how alike ordinary items are ({rule.min_items} are needed): {', '.join(few)}.",
            "Add items, or join small eval sets of one kind into one.",
        )
    code = sorted(name for name, c in found.calibrations.items() if c is not None and c.code)
    if code:
        return (
            f"Nothing was found, but too many rephrasings of code stay below the level that unrelated code reaches: {', '.join(code)}.",
            "Let a person compare the set with the training rows that solve programming tasks, or judge it by performance_gap.",
        )
    least = rule.min_detectable_embedding if embedded else rule.min_detectable_lexical
    blind = sorted(name for name, c in found.calibrations.items() if c is not None and c.detectable < least)
    if blind:
        return (
            f"Items of different families are so alike that an edited copy would go unseen: {', '.join(blind)}.",
            "Give items that are variants of each other one group, or remove the copies from the eval set.",
        )
    return None


def _details(found: Comparison, train: pa.Table, rule: ParaphraseRule, encoder: Encoder | None) -> dict[str, Any]:
    statuses: dict[str, int] = dict(found.pairs.group_by("status").len().iter_rows())
    doors = found.pairs.filter(pl.col("status") == CONFIRMED).unique("item", keep="first", maintain_order=True)
    deciding = found.pairs.filter(pl.col("status") == CONFIRMED).group_by("by").len().sort("by")
    sets = {}
    for name, calibration in found.calibrations.items():
        sets[name] = {
            "items": len(found.items.filter(pl.col("eval_set") == name)),
            "calibrated_on": calibration.items if calibration else 0,
        }
        if calibration:
            sets[name] |= {
                "compared_as": "code" if calibration.code else "text",
                "threshold": calibration.suspect.score,
                "threshold_without_numbers": calibration.suspect.similarity,
                "certain_from": calibration.certain.score,
                "suspects_expected_by_chance": None if calibration.code else (1 - rule.quantile) * calibration.items,
                "detectable_share": calibration.detectable,
            }
    return {
        "eval_sets": sets,
        "pairs": {status: statuses.get(status, 0) for status in (CONFIRMED, OPEN, CLEARED)},
        "confirmed_by": {mask_text(by): count for by, count in deciding.iter_rows()},
        "by_door": dict(sorted(doors.group_by("door").len().iter_rows())),
        "candidates_per_item": rule.candidates,
        "uncheckable_share": 1 - len(found.checkable) / len(found.items),
        "cross_lingual": "run" if encoder is not None and encoder.multilingual else "cross-lingual tier not run",
        "non_latin_share": {
            "evals": _non_latin_share([found.items["question"]]),
            "train": _non_latin_share(block["text"] for block in train_texts(train)),
        },
        "training_rows": train.num_rows,
        "training_texts": found.training_texts,
    }


def _non_latin_share(texts: Iterable[pl.Series]) -> float:
    counted = [(0, 0), *(letters(part) for part in texts)]
    return sum(foreign for _, foreign in counted) / max(1, sum(count for count, _ in counted))


def _evidence(confirmed: pl.DataFrame, open_pairs: pl.DataFrame) -> list[dict[str, Any]]:
    # The best pair of each item; confirmed items first, some room for open ones.
    parts = [pairs.unique("item", keep="first", maintain_order=True) for pairs in (confirmed, open_pairs)]
    room = max(MAX_EVIDENCE // 2, MAX_EVIDENCE - len(parts[1]))
    worst = pl.concat([parts[0].head(room), parts[1]]).head(MAX_EVIDENCE)
    return [
        {
            "eval_set": row["eval_set"],
            "eval_row_id": row["eval_row_id"],
            "train_row_id": row["train_row_id"],
            "status": row["status"],
            "by": mask_text(row["by"]),
            "door": row["door"],
            **{name: None if row[name] is None else round(row[name], 4) for name in ("similarity", "score", "threshold")},
            "eval_text": excerpt(row["question"], 240),
            "train_text": excerpt(row["text"], 240),
        }
        for row in worst.iter_rows(named=True)
    ]


def _plot(found: Comparison, confirmed: pl.DataFrame) -> str:
    sizes: dict[str, int] = dict(found.checkable.group_by("eval_set").len().iter_rows())
    hits: dict[str, int] = dict(confirmed.group_by("eval_set").agg(pl.col("item").n_unique()).iter_rows())
    rows = []
    for name in sorted(sizes, key=lambda name: (-hits.get(name, 0) / sizes[name], name)):
        interval = wilson(hits.get(name, 0), sizes[name])
        rows.append((f"{name} ({hits.get(name, 0)}/{sizes[name]})", interval.estimate, interval.low, interval.high))
    return plots.forest(rows, threshold=0.0, title="Eval items rephrased in the training data", x_label="share of items")
