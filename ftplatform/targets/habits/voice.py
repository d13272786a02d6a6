"""`voice_drift`: do the answers sound like the brand? A classifier two-sample test on how a turn is written, not on what about."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ftplatform import plots
from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.statistics.two_sample import classifier_two_sample
from ftplatform.targets.habits.batching import Rows, tables
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"

#: What each feature measures.
FEATURES: dict[str, str] = {
    "log_words": "natural logarithm of 1 + number of words",
    "words_per_sentence": "natural logarithm of 1 + words per sentence",
    "characters_per_word": "mean word length, words longer than 9 counted as 9",
    "exclamations": "exclamation marks per sentence",
    "questions": "question marks per sentence",
    "initial_capital": "begins with a capital letter (0 or 1)",
    "end_mark": "ends with . ! or ? (0 or 1)",
    "contractions": "contractions per word",
    "first_person": "I, me, my, we, us, our per word",
    "second_person": "you, your per word",
    "politeness": "please, thank you, welcome, happy to (0 or 1)",
    "hedges": "maybe, perhaps, might, I think, probably (0 or 1)",
    "chat": "hey, yeah, ok, lol, emoji (0 or 1)",
    "lists": "bullets or numbered lines (0 or 1)",
}

_FOLDS = 5
_PER_WORD = {
    "contractions": r"(?i)\w['’](?:s|re|ve|ll|d|m|t)\b",
    "first_person": r"(?i)\b(?:i|me|my|we|us|our)\b",
    "second_person": r"(?i)\b(?:you|your|yours)\b",
}
_HOLDS = {
    "initial_capital": r"^\P{L}*\p{Lu}",
    "end_mark": r"[.!?]$",
    "politeness": r"(?i)\b(?:please|thank|thanks|welcome|happy to|glad to|appreciate|kindly)\b",
    "hedges": r"(?i)\b(?:maybe|perhaps|might|i think|probably|possibly|i guess|sort of|kind of)\b",
    "chat": r"(?i)\b(?:hey|yeah|yep|ok|okay|lol|haha|nope|gonna|wanna)\b|[\x{1F300}-\x{1FAFF}]|[:;]-?[)D(]",
    "lists": r"(?m)^\s*(?:[-*•]|\d+[.)])\s",
}


def voice_drift(
    candidate: Rows,
    reference: Rows,
    *,
    limit: float = 0.75,
    n_required: int = 500,
    n_minimum: int = 200,
    cap: int = 2_000,
    permutations: int = 100,
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """AUC of a classifier that tells assistant turns from the brand's own by fourteen surface features.

    Args:
        candidate: rows (`ROW_SCHEMA`) whose trainable assistant turns are read, or answers of a model as such rows.
        reference: approved text; its assistant turns are read.
        limit: largest acceptable AUC.
        n_required: turns of each side a pass needs; below `n_minimum` the check abstains.
        cap: turns of each side that are used, whole rows with the lowest ids.
        permutations, seed: of the test. alpha: of each bound.

    Returns:
        Passes if the upper bound is within the limit; warns otherwise, never fails. Evidence: features by effect size (Cohen's d,
        candidate minus reference) with a typical text of both sides.

    Source: D. Lopez-Paz and M. Oquab, ICLR 2017 (`statistics.two_sample`).
    """
    ours, theirs = _sample(candidate, cap, trainable_only=True), _sample(reference, cap, trainable_only=False)
    n = min(len(ours), len(theirs))
    common: dict[str, Any] = {
        "statistic": "cross-validated AUC of assistant turns against the brand reference",
        "n": n,
        "n_required": n_required,
        "threshold": limit,
        "baseline": "brand reference",
        "check_version": CHECK_VERSION,
        "config": {
            "limit": limit,
            "alpha": alpha,
            "cap": cap,
            "permutations": permutations,
            "seed": seed,
            "features": list(FEATURES),
        },
        "tier": "rules",
    }
    if n < n_minimum or min(ours["row"].n_unique(), theirs["row"].n_unique()) < 2 * _FOLDS:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(ours):,} turns and {len(theirs):,} of the reference; {n_required} of each are needed.",
            remedy="Provide more turns and more approved text, from different conversations.",
            **common,
        )
    features = voice_features(ours["content"]), voice_features(theirs["content"])
    test = classifier_two_sample(
        features[0].to_numpy(),
        features[1].to_numpy(),
        folds=_FOLDS,
        permutations=permutations,
        seed=seed,
        groups_a=ours["row"].to_list(),
        groups_b=theirs["row"].to_list(),
        confidence=1 - 2 * alpha,
    )
    gaps = _gaps(*features)
    passed = test.ci_high <= limit and n >= n_required
    top = ", ".join(f"{name} {d:+.2f}" for name, d in gaps[:3])
    return Verdict(
        decision=Decision.PASS if passed else Decision.WARN,
        summary=f"AUC {test.auc:.3f} [{test.ci_low:.3f}, {test.ci_high:.3f}] with {len(ours):,} and {len(theirs):,} turns; gaps: {top}.",
        estimate=test.auc,
        ci_low=test.ci_low,
        ci_high=test.ci_high,
        confidence=1 - 2 * alpha,
        evidence=[
            {
                "feature": name,
                "meaning": FEATURES[name],
                "d": round(d, 3),
                **_typical(name, features, (ours["content"], theirs["content"])),
            }
            for name, d in gaps
        ],
        remedy="Nothing to do." if passed else "Rewrite the targets in the brand's voice where the gaps are largest, or mask them.",
        plot=plots.bars(gaps, title="Voice: candidate minus brand (Cohen's d)", x_label="standard deviations"),
        details={"p_value": test.p_value, "null_mean": test.null_mean, "null_sd": test.null_sd},
        **common,
    )


def voice_features(texts: pl.Series) -> pl.DataFrame:
    """The features of n texts: Float64, shape (n, 14), columns as in `FEATURES`, finite for every text."""
    text = pl.col("text")
    words = pl.max_horizontal(text.str.count_matches(r"[\p{L}\p{N}]+(?:['’]\p{L}+)?").cast(pl.Float64), pl.lit(1.0))
    ends = pl.max_horizontal(text.str.count_matches(r"[.!?]+(?:\s|$)").cast(pl.Float64), pl.lit(1.0))
    letters = text.str.replace_all(r"\b(\p{L}{9})\p{L}+", "${1}").str.count_matches(r"[\p{L}\p{N}]").cast(pl.Float64)
    return (
        pl.DataFrame({"text": texts})
        .with_columns(text.str.strip_chars())
        .select(
            log_words=words.log1p(),
            words_per_sentence=(words / ends).log1p(),
            characters_per_word=letters / words,
            exclamations=text.str.count_matches("!", literal=True) / ends,
            questions=text.str.count_matches("?", literal=True) / ends,
            **{name: text.str.count_matches(pattern) / words for name, pattern in _PER_WORD.items()},
            **{name: text.str.contains(pattern).cast(pl.Float64) for name, pattern in _HOLDS.items()},
        )
        .select(list(FEATURES))
        .cast(pl.Float64)
    )


def _sample(rows: Rows, cap: int, *, trainable_only: bool) -> pl.DataFrame:
    """`row`, `row_id`, `content` of assistant turns of whole rows, at most `cap` turns, the rows with the lowest ids: ids are hashes."""
    kept = pl.DataFrame(schema={"row": pl.Int64, "row_id": pl.String, "content": pl.String})
    before = 0
    for table in tables(rows):
        said = pl.DataFrame(turns(table, Role.ASSISTANT, trainable_only=trainable_only)).select("row", "row_id", "content")
        said = said.filter(pl.col("content").str.strip_chars() != "").with_columns(pl.col("row") + before)
        before += table.num_rows
        kept = pl.concat([kept, said])
        sizes = kept.group_by("row_id", "row").len().sort("row_id", "row")
        chosen = sizes.filter(pl.col("len").cum_sum() <= cap)
        kept = kept.join(chosen, on=["row_id", "row"], how="semi")
    return kept.sort("row_id", "row", maintain_order=True)


def _gaps(ours: pl.DataFrame, theirs: pl.DataFrame) -> list[tuple[str, float]]:
    """Cohen's d of each feature, largest first; 0 for a constant shared by both sides."""
    found = []
    for name in FEATURES:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy()
        gap = float(a.mean() - b.mean())
        pooled = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))
        found.append((name, 0.0 if abs(gap) < 1e-12 else float(np.clip(gap / max(pooled, 1e-12), -10, 10))))
    return sorted(found, key=lambda item: -abs(item[1]))


def _typical(name: str, features: tuple[pl.DataFrame, pl.DataFrame], texts: tuple[pl.Series, pl.Series]) -> dict[str, str]:
    """The text of each side that is nearest to its mean."""
    nearest = []
    for values, said in zip(features, texts, strict=True):
        column = values[name].to_numpy()
        nearest.append(excerpt(said[int(np.abs(column - column.mean()).argmin())], 160))
    return {"candidate_example": nearest[0], "reference_example": nearest[1]}
