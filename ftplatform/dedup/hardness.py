"""Did deduplication remove the hard rows? Removal risk of the hardest tenth against the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform import plots
from ftplatform.dedup.identity import present, unique_positions
from ftplatform.dedup.risk_ratio import clustered_share, risk_ratio, rows_needed
from ftplatform.dedup.texts import conversation_texts, excerpts
from ftplatform.errors import InputDataError
from ftplatform.statistics.intervals import Interval, wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "hard_row_survival/1"

#: Share of rows that may lack a hardness; if more do, the missing ones may be the hard ones.
MAX_UNKNOWN = 0.1
#: The check must have had a fair chance to see the hard rows removed at this many times the rate of the rest.
DETECTABLE = 2.0
#: So few of the hardest rows removed, at most, do no harm whatever happened to the rest.
NEGLIGIBLE = 0.05

_REMEDY = (
    "Read the removed rows listed and keep them: declare what they share as a slice, keep more rows per cluster, or use cluster"
    " weights instead of deletion."
)


def hard_row_survival(
    before: pa.Table,
    after: pa.Table,
    hardness: NDArray[np.floating] | None = None,
    *,
    moved: pa.Table | None = None,
    hardest: float = 0.1,
    limit: float = 1.25,
    confidence: float = 0.95,
) -> Verdict:
    """Compare how likely the hardest rows and the others are to be removed, on exact-unique rows.

    Fails if the lower bound of the risk ratio is above `limit`, warns if it is above 1. A ratio that is not shown to be above 1
    passes where at most `NEGLIGIBLE` of the hardest rows can have been removed (Wilson upper bound). The interval is Koopman's
    score interval; rows of one conversation or customer (`group`) are counted by their effective number. Where so much is removed
    that the ratio could not exceed the limit, the shares *kept* are compared instead, the rest over the hardest.

    Args:
        before, after: tables of `ROW_SCHEMA`, before and after the step.
        hardness: of each row of `before`, shape (rows,), higher is harder, NaN where unknown: the base model's mean loss per token
            of the answer. Without it the distance of a row's character TF-IDF vector to their centroid stands in (tier
            ``char_tfidf``): it finds odd wording, not difficulty.
        moved: rows reserved for evaluation; they left `before` but were not removed.
        hardest: share of rows called hard.

    Returns:
        Verdict whose n is the number of exact-unique rows with a hardness. Insufficient evidence: no rows, more than `MAX_UNKNOWN`
        without hardness, a hardness that does not tell rows apart, or too few rows to find a ratio of `DETECTABLE`.

    Raises:
        InputDataError: one hardness for each row of `before` is needed.
    """
    if hardness is not None and np.shape(hardness) != (before.num_rows,):
        raise InputDataError(
            f"hardness has shape {np.shape(hardness)} for {before.num_rows} rows.", remedy="Give one value for each row before."
        )
    positions = unique_positions(before, moved)
    unique = before.take(positions.to_arrow())
    values = _distances(unique) if hardness is None else np.asarray(hardness, np.float64)[positions.to_numpy()]
    known = np.isfinite(values)
    rows, values = unique.filter(pa.array(known)), values[known]
    removed = ~present(pl.Series(rows["row_id"]), after).to_numpy()
    n, gone = len(values), int(removed.sum())
    config: Mapping[str, Any] = {
        "hardest": hardest,
        "limit": limit,
        "confidence": confidence,
        "max_unknown": MAX_UNKNOWN,
        "detectable": DETECTABLE,
        "negligible": NEGLIGIBLE,
    }
    common: dict[str, Any] = {
        "statistic": "risk ratio of removal, hardest rows over the rest (exact-unique rows)",
        "n": n,
        "n_required": 1,
        "threshold": limit,
        "confidence": confidence,
        "baseline": f"the rows outside the hardest {hardest:.0%}",
        "check_version": CHECK_VERSION,
        "config": config,
        "remedy": _REMEDY,
        "tier": "char_tfidf" if hardness is None else "base_model_loss",
    }
    unknown = unique.num_rows - n
    details = {"exact_unique_before": unique.num_rows, "without_hardness": unknown, "removed": gone}
    if not n or unknown > MAX_UNKNOWN * unique.num_rows:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{unknown:,} of {unique.num_rows:,} rows have no hardness; they may be the hard ones.",
            details=details,
            **{**common, "remedy": "Compute the hardness of all rows before the step."},
        )
    if not gone:
        return Verdict(decision=Decision.PASS, summary=f"None of {n:,} exact-unique rows was removed.", details=details, **common)
    hard = values >= np.quantile(values, 1 - hardest)
    if hard.mean() > 2 * hardest or gone == n:
        said = "Every row was removed" if gone == n else f"{hard.mean():.0%} of the rows are equally hard"
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{said}; nothing tells the hardest {hardest:.0%} from the rest.",
            details=details,
            **{**common, "remedy": "Use a finer measure of hardness, such as the mean loss per token, on a step that keeps rows."},
        )
    ratio, kept_instead = _ratio(removed, hard, _groups(rows), limit, confidence)
    share, fraction = (1 - gone / n, 1 - float(hard.mean())) if kept_instead else (gone / n, float(hard.mean()))
    needed = rows_needed(share, fraction, DETECTABLE, confidence=confidence)
    shares = wilson(int(removed[hard].sum()), int(hard.sum())), wilson(int(removed[~hard].sum()), int((~hard).sum()))
    details |= {
        "hard_rows": int(hard.sum()),
        "hard_rows_removed": int(removed[hard].sum()),
        "hard_removed_share": shares[0].estimate,
        "other_removed_share": shares[1].estimate,
    }
    if kept_instead:
        common["statistic"] = "ratio of the shares kept, the rest over the hardest rows (exact-unique rows)"
    bounds = f"ratio {ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    common |= {
        "estimate": ratio.estimate if math.isfinite(ratio.estimate) else None,
        "ci_low": ratio.low,
        "ci_high": ratio.high if math.isfinite(ratio.high) else None,
        "n_required": needed,
        "details": details,
        "plot": _plot(shares, gone / n),
    }
    said = f"{shares[0].estimate:.1%} of the hardest {hardest:.0%} and {shares[1].estimate:.1%} of the rest were removed, {bounds}"
    if ratio.low > 1:
        decision = Decision.FAIL if ratio.low > limit else Decision.WARN
        return Verdict(decision=decision, summary=f"{said}.", evidence=_evidence(rows, values, removed & hard), **common)
    if shares[0].high <= NEGLIGIBLE:
        kept = f"at least {1 - shares[0].high:.1%} of the hardest rows were kept"
        return Verdict(decision=Decision.PASS, summary=f"{said}; {kept}.", **{**common, "n_required": 1})
    if n < needed:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{said}; {needed:,} rows are needed to find a ratio of {DETECTABLE:g} and there are {n:,}.",
            **{**common, "remedy": "Read the removal diff: there are too few rows for a test."},
        )
    return Verdict(decision=Decision.PASS, summary=f"{said}.", **common)


def _distances(rows: pa.Table) -> NDArray[np.float64]:
    from ftplatform.dedup.vectors import char_tfidf, distance_to_centroid

    return distance_to_centroid(char_tfidf(conversation_texts(rows))) if rows.num_rows else np.zeros(0)


def _ratio(
    removed: NDArray[np.bool_], hard: NDArray[np.bool_], groups: NDArray[np.int64], limit: float, confidence: float
) -> tuple[Interval, bool]:
    """The risk ratio, and whether it is that of being kept."""
    if removed[~hard].mean() * limit <= 1:
        first, second = clustered_share(removed[hard], groups[hard]), clustered_share(removed[~hard], groups[~hard])
        return risk_ratio(*first, *second, confidence), False
    first, second = clustered_share(~removed[~hard], groups[~hard]), clustered_share(~removed[hard], groups[hard])
    return risk_ratio(*first, *second, confidence), True


def _groups(rows: pa.Table) -> NDArray[np.int64]:
    """Number of each row's conversation or customer; rows without one are on their own."""
    frame = pl.DataFrame({"source": rows["source"], "group": rows["group"]}).with_row_index("row")
    alone = pl.when(pl.col("group").is_null()).then(pl.col("row"))
    return frame.select(pl.struct("source", "group", alone.alias("alone")).rank("dense")).to_series().to_numpy().astype(np.int64)


def _evidence(rows: pa.Table, values: NDArray[np.float64], lost: NDArray[np.bool_]) -> list[dict[str, Any]]:
    at = np.flatnonzero(lost)
    at = at[np.argsort(-values[at], kind="stable")][:MAX_EVIDENCE]
    shown = rows.take(pa.array(at))
    texts = excerpts(shown)
    return [
        {"row_id": row_id, "hardness": round(float(value), 4), "text": text}
        for row_id, value, text in zip(shown["row_id"].to_pylist(), values[at], texts, strict=True)
    ]


def _plot(shares: tuple[Interval, Interval], overall: float) -> str:
    named = zip(("hardest rows", "the rest"), shares, strict=True)
    rows = [(name, round(share.estimate, 3), round(share.low, 3), round(share.high, 3)) for name, share in named]
    return plots.forest(rows, threshold=overall, title="Share removed", x_label="share removed", threshold_label="all rows")
