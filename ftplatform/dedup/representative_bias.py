"""Do the rows that were kept differ in kind from those they stand for? Keep-shortest and keep-cleanest rules show here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform import plots
from ftplatform.dedup.diff import NEAR_TRAIN
from ftplatform.dedup.identity import exact_unique
from ftplatform.dedup.texts import conversation_texts
from ftplatform.errors import InputDataError
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import Interval
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "representative_bias/1"

#: Clusters with which a standardized difference of .5 is found with probability .8 at 5 %, two-sided: (1.960 + .842)**2 / .5**2,
#: and two for the estimated spread.
CLUSTERS_REQUIRED = 34
#: A standardized difference is reported no larger than this: where all clusters differ alike it has no bound.
_LARGEST = 10.0
#: A word is rare if at most this share of the distinct rows (or two of them) holds it.
RARE_SHARE = 0.001

#: English words of discontent, as customers write them. A lexicon this small finds a shift, not the mood of a single row.
_NEGATIVE = """
    absurd angry annoyed annoying appalling atrocious awful bad broken cheated complain complaint crap damn disappointed
    disappointing disgrace disgusted disgusting disrespectful dreadful failed failure fraud frustrated frustrating furious
    garbage hate hell hopeless horrible idiot idiots ignored incompetent insane insult joke lied lies lousy mad mess miserable
    nightmare nonsense outrageous pathetic pissed poor rage ridiculous robbed rubbish rude scam scammed shame shameful shit sick
    stole stolen stupid suck sucks terrible theft thieves tired trash ugly unacceptable unfair unhappy unhelpful upset useless
    wasted worse worst worthless wrong wtf
    """
NEGATIVE_WORDS = frozenset(_NEGATIVE.split())

FEATURES = ("length", "punctuation", "negative_words", "rare_words")
_REMEDY = (
    "Choose representatives by medoid and farthest point instead of the shortest or cleanest row, keep more rows per cluster, or use"
    " cluster weights instead of deletion."
)


def representative_bias(
    before: pa.Table, removal_diff: pa.Table, *, limit: float = 0.5, confidence: float = 0.95, rare_share: float = RARE_SHARE
) -> Verdict:
    """Warn if kept rows differ from the removed rows of their own cluster by more than `limit` standard deviations in one feature.

    Paired inside clusters: the differences removed minus kept are averaged for each kept row, so that one large cluster counts
    once, and divided by their standard deviation over clusters (Cohen's d of paired differences). Warned is when |d| > `limit`
    and its interval excludes zero. Features of the conversation without its system message: log of the number of characters; share
    of characters that are punctuation or symbols; share of words that are `NEGATIVE_WORDS`; share of words that are rare in
    `before`.

    Args:
        before: table of `ROW_SCHEMA` with all removed and kept rows.
        removal_diff: table of `diff.REMOVAL_SCHEMA`; only near-duplicates of training rows are compared.
        rare_share: see `RARE_SHARE`.

    Returns:
        Verdict of the feature with the largest |d|; n is the number of clusters. Insufficient evidence below `CLUSTERS_REQUIRED`
        clusters, if there are any. The medoid rule itself leans towards common wording: a warning on rare words alone says just that.

    Raises:
        InputDataError: a row of the diff is not among `before`.

    Source of the interval: L. Hedges and I. Olkin, Statistical Methods for Meta-Analysis (1985), section 5.
    """
    pairs = pl.DataFrame({name: removal_diff[name] for name in ("row_id", "kept_row_id", "reason", "removed_text", "kept_text")})
    pairs = pairs.filter(pl.col("reason") == NEAR_TRAIN)
    clusters = pairs["kept_row_id"].n_unique()
    common: dict[str, Any] = {
        "statistic": "largest standardized difference, removed minus kept inside near-duplicate clusters (n: clusters)",
        "n": clusters,
        "n_required": CLUSTERS_REQUIRED,
        "threshold": limit,
        "confidence": confidence,
        "baseline": "the kept row of each cluster",
        "check_version": CHECK_VERSION,
        "config": {"limit": limit, "confidence": confidence, "rare_share": rare_share, "features": list(FEATURES)},
        "remedy": _REMEDY,
        "tier": "rules",
    }
    if not clusters:
        return Verdict(
            decision=Decision.PASS,
            summary="No row was removed in favor of another: every row speaks for itself.",
            **{**common, "n": before.num_rows, "n_required": 1, "statistic": "near-duplicates removed (n: rows before)"},
        )
    if clusters < CLUSTERS_REQUIRED:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{clusters} clusters lost rows; {CLUSTERS_REQUIRED} are needed to see a bias of half a standard deviation.",
            details={"pairs": len(pairs)},
            **{**common, "remedy": "Read the removal diff: there is too little of it for a test."},
        )
    differences = _differences(exact_unique(before), pairs, rare_share)
    by_cluster = differences.group_by("kept_row_id").agg(pl.col(FEATURES).mean()).sort("kept_row_id")
    sizes = {name: _standardized(by_cluster[name].to_numpy(), confidence) for name in FEATURES}
    worst = max(FEATURES, key=lambda name: abs(sizes[name].estimate))
    warned = [name for name in FEATURES if abs(sizes[name].estimate) > limit and not sizes[name].low <= 0 <= sizes[name].high]
    common |= {
        "estimate": sizes[worst].estimate,
        "ci_low": sizes[worst].low,
        "ci_high": sizes[worst].high,
        "details": {
            "pairs": len(pairs),
            "features": {
                name: {
                    "d": sizes[name].estimate,
                    "low": sizes[name].low,
                    "high": sizes[name].high,
                    "mean_difference": float(by_cluster[name].to_numpy().mean()),
                }
                for name in FEATURES
            },
        },
        "plot": plots.forest(
            [(f.replace("_", " "), round(d.estimate, 3), round(d.low, 3), round(d.high, 3)) for f, d in sizes.items()],
            threshold=0.0,
            threshold_label="alike",
            title="Removed rows against the kept row of their cluster",
            x_label="standardized difference (right: more in removed rows)",
        ),
    }
    if not warned:
        said = (
            f"In {clusters:,} clusters kept and removed rows are alike; the largest difference is d = {sizes[worst].estimate:.2f}"
        )
        return Verdict(decision=Decision.PASS, summary=f"{said} ({worst.replace('_', ' ')}).", **common)
    said = "; ".join(
        f"{'more' if sizes[f].estimate > 0 else 'less'} {f.replace('_', ' ')} (d = {sizes[f].estimate:.2f})" for f in warned
    )
    return Verdict(
        decision=Decision.WARN,
        summary=f"In {clusters:,} clusters the removed rows have {said} than the rows kept in their place.",
        evidence=_evidence(pairs, differences, worst, math.copysign(1, sizes[worst].estimate)),
        **common,
    )


def text_features(texts: pl.Series, rare_words: pl.Series) -> pl.DataFrame:
    """`FEATURES` of each text, shape (n, 4); the shares of a text without characters (or words) are 0."""
    characters = texts.str.len_chars()
    marks = texts.str.count_matches(r"[\p{P}\p{S}]")
    words = (
        pl.DataFrame({"row": pl.Series(np.arange(len(texts)), dtype=pl.Int64), "word": _words(texts)}).explode("word").drop_nulls()
    )
    counted = words.group_by("row").agg(
        negative_words=pl.col("word").is_in(sorted(NEGATIVE_WORDS)).mean(),
        rare_words=pl.col("word").is_in(rare_words.implode()).mean(),
    )
    frame = pl.DataFrame({"row": pl.Series(np.arange(len(texts)), dtype=pl.Int64)})
    shares = frame.join(counted, on="row", how="left", maintain_order="left").select(
        pl.col("negative_words", "rare_words").fill_null(0.0)
    )
    return pl.DataFrame({"length": characters.cast(pl.Float64).log1p(), "punctuation": (marks / characters).fill_nan(0.0)}).hstack(
        shares
    )


def _words(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().str.extract_all(r"\w+")


def _rare(texts: pl.Series, share: float) -> pl.Series:
    """Words that at most `share` of the texts hold, or two."""
    words = pl.DataFrame({"word": _words(texts).list.unique()}).explode("word").drop_nulls()
    return words.group_by("word").len().filter(pl.col("len") <= max(2, share * len(texts)))["word"]


def _differences(unique: pa.Table, pairs: pl.DataFrame, rare_share: float) -> pl.DataFrame:
    """`row_id`, `kept_row_id` and the features of the removed row minus those of the kept one."""
    texts = conversation_texts(unique)
    known = pl.DataFrame({"row_id": unique["row_id"], "text": texts})
    ids = pl.concat([pairs["row_id"], pairs["kept_row_id"]]).unique(maintain_order=True)
    involved = pl.DataFrame({"row_id": ids}).join(known, on="row_id", how="left", maintain_order="left")
    missing = involved.filter(pl.col("text").is_null())
    if len(missing):
        raise InputDataError(
            f"{len(missing)} rows of the removal diff are not among the rows before, such as {missing['row_id'][0]}.",
            remedy="Give the rows the diff was made from.",
        )
    measured = involved.select("row_id").hstack(text_features(involved["text"], _rare(texts, rare_share)))
    joined = pairs.join(measured, on="row_id").join(measured, left_on="kept_row_id", right_on="row_id", suffix="_kept")
    return joined.select("row_id", "kept_row_id", *(pl.col(name) - pl.col(f"{name}_kept") for name in FEATURES))


def _standardized(differences: NDArray[np.float64], confidence: float) -> Interval:
    """Mean over standard deviation of the differences, with a normal interval."""
    from scipy.stats import norm

    n, mean, spread = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    # A spread of nothing but rounding would make d anything at all.
    d = mean / max(spread, abs(mean) / _LARGEST) if mean else 0.0
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(1 / n + d * d / (2 * n))
    return Interval(d, d - half, d + half, confidence)


def _evidence(pairs: pl.DataFrame, differences: pl.DataFrame, feature: str, sign: float) -> list[Mapping[str, Any]]:
    worst = differences.sort(pl.col(feature) * sign, "row_id", descending=[True, False]).head(MAX_EVIDENCE)
    shown = worst.join(pairs, on=["row_id", "kept_row_id"], how="left", maintain_order="left")
    return [
        {
            "row_id": record["row_id"],
            "kept_row_id": record["kept_row_id"],
            "feature": feature,
            "difference": round(record[feature], 4),
            "removed_text": excerpt(record["removed_text"], 240),
            "kept_text": excerpt(record["kept_text"], 240),
        }
        for record in shown.iter_rows(named=True)
    ]
