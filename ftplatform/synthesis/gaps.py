"""`input_feature_gaps`: which surface features differ, by how much, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform import plots
from ftplatform.rows.masking import excerpt
from ftplatform.synthesis.samples import Rows, Sample, sample_turns
from ftplatform.synthesis.surface_features import FEATURES, repeated_words, surface_features
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "input_feature_gaps/1"

#: Effect sizes beyond this are reported as this: two different constants have no finite one.
LARGEST_D = 10.0
_REMEDY = (
    "Condition the teacher (or `condition_style`) on the gaps listed, largest first, or seed it with real inputs; then run again."
)


def input_feature_gaps(
    candidate: Rows,
    reference: Rows,
    *,
    fail_above: float = 0.8,
    warn_above: float = 0.5,
    n_required: int = 500,
    n_minimum: int = 200,
    cap: int = 2000,
    confidence: float = 0.99,
    seed: int = 0,
) -> Verdict:
    """Cohen's d of each surface feature, with simultaneous intervals; fails when two features clearly differ.

    One feature may differ for a reason of its own (a form that writes the first capital); two large ones are another way of writing.
    So the statistic is the second largest |d|.

    Args:
        candidate, reference: as in `surface.input_surface_match`; user turns only are read.
        fail_above: fails if the lower bounds of two features exceed it; passes only if at most one upper bound does.
        warn_above: a larger |d| of any feature warns.
        n_required: user turns per side a pass needs; below `n_minimum` the check abstains, between the two it only warns.
        cap, seed: of the sample.
        confidence: of the twelve intervals together (Bonferroni; .99 is z = 3.34).

    Returns:
        Verdict whose evidence lists the features by |d| with a typical text of both sides; n is the smaller side.
    """
    ours, theirs = sample_turns(candidate, cap, seed), sample_turns(reference, cap, seed)
    n = min(len(ours), len(theirs))
    common: dict[str, Any] = {
        "statistic": "second largest absolute Cohen's d of the surface features",
        "n": n,
        "n_required": n_required,
        "threshold": fail_above,
        "baseline": "production inputs",
        "check_version": CHECK_VERSION,
        "config": {
            "fail_above": fail_above,
            "warn_above": warn_above,
            "n_required": n_required,
            "n_minimum": n_minimum,
            "cap": cap,
            "confidence": confidence,
            "seed": seed,
            "features": list(FEATURES),
        },
        "tier": "rules",
    }
    if n < n_minimum or min(ours.units.n_unique(), theirs.units.n_unique()) < 10:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(ours):,} candidate and {len(theirs):,} reference user turns; {n_required} on each side are needed.",
            remedy=f"Provide at least {n_required} user turns from different conversations on both sides.",
            **common,
        )
    features = sample_features(ours, theirs)
    gaps = feature_gaps(*features, ours.units, theirs.units, confidence=confidence)
    d, d_low, d_high = (gaps[name].to_numpy() for name in ("d", "d_low", "d_high"))
    # The interval of |d|: one that crosses zero reaches down to it.
    magnitude = _second(np.abs(d))
    low, high = _second(np.maximum(0, np.maximum(d_low, -d_high))), _second(np.maximum(np.abs(d_low), np.abs(d_high)))
    large = gaps.filter(pl.col("d").abs() > warn_above)
    named = ", ".join(f"{name} {d:+.2f}" for name, d in large.select("feature", "d").iter_rows()) or "none"
    said = f"gaps above {warn_above}: {named}; second largest |d| {magnitude:.2f} [{low:.2f}, {high:.2f}]"
    if low > fail_above:
        decision = Decision.FAIL
    elif high <= fail_above and not len(large):
        decision = Decision.PASS
    else:
        decision = Decision.WARN
    if n < n_required:
        decision, said = Decision.WARN, f"{said}; only {n} of {n_required} user turns on the smaller side: a warning at most"
    return Verdict(
        decision=decision,
        summary=f"{said[0].upper()}{said[1:]}.",
        estimate=magnitude,
        ci_low=low,
        ci_high=high,
        confidence=confidence,
        evidence=gap_evidence(gaps, features, (ours.texts, theirs.texts)),
        remedy=_REMEDY,
        plot=plots.forest(
            list(gaps.select("feature", "d", "d_low", "d_high").iter_rows()),
            title="Surface gaps: candidate minus real user turns (Cohen's d)",
            x_label="standard deviations",
            highlight=large["feature"].to_list(),
        ),
        details={"gaps": gaps.to_dicts()},
        **common,
    )


def sample_features(candidate: Sample, reference: Sample) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Surface features of both samples; a word repeated in either is known to both."""
    known = repeated_words(candidate.texts, reference.texts)
    return surface_features(candidate.texts, known), surface_features(reference.texts, known)


def feature_gaps(
    candidate: pl.DataFrame, reference: pl.DataFrame, candidate_units: pl.Series, reference_units: pl.Series, *, confidence: float
) -> pl.DataFrame:
    """Effect size of each feature: feature, candidate (mean), reference (mean), d, d_low, d_high; largest |d| first.

    d is the difference of the means over the pooled standard deviation (Cohen 1988); 0 where the feature is the same constant on both
    sides, and +-`LARGEST_D` at most. The interval is normal, simultaneous over the features (Bonferroni): the means get
    cluster-robust standard errors (turns of a conversation go together), the deviation adds d^2 / 2n (L. V. Hedges and I. Olkin,
    Statistical Methods for Meta-Analysis, 1985, chapter 5).
    """
    from scipy.stats import norm

    a, b = candidate.to_numpy(), reference.to_numpy()
    n_a, n_b = len(a), len(b)
    gap = a.mean(axis=0) - b.mean(axis=0)
    pooled = np.sqrt(((n_a - 1) * a.var(axis=0, ddof=1) + (n_b - 1) * b.var(axis=0, ddof=1)) / (n_a + n_b - 2))
    gap[np.abs(gap) < 1e-12] = 0.0
    scale = np.maximum(pooled, 1e-12)
    d = np.clip(gap / scale, -LARGEST_D, LARGEST_D)
    variance = (_clustered_variance(a, candidate_units) + _clustered_variance(b, reference_units)) / scale**2
    half = float(norm.ppf(1 - (1 - confidence) / (2 * a.shape[1]))) * np.sqrt(variance + d**2 / (2 * (n_a + n_b)))
    frame = pl.DataFrame(
        {
            "feature": candidate.columns,
            "candidate": a.mean(axis=0),
            "reference": b.mean(axis=0),
            "d": d,
            "d_low": np.maximum(d - half, -LARGEST_D),
            "d_high": np.minimum(d + half, LARGEST_D),
        }
    )
    return frame.sort(pl.col("d").abs(), descending=True, maintain_order=True)


def gap_evidence(
    gaps: pl.DataFrame, features: tuple[pl.DataFrame, pl.DataFrame], texts: tuple[pl.Series, pl.Series]
) -> list[dict[str, Any]]:
    """One record per feature, with the text nearest to the mean of each side, masked."""
    rows = []
    for record in gaps.iter_rows(named=True):
        name = record["feature"]
        typical = [
            text[int(np.abs(values[name].to_numpy() - mean).argmin())]
            for values, text, mean in zip(features, texts, (record["candidate"], record["reference"]), strict=True)
        ]
        rows.append(
            {
                "feature": name,
                "meaning": FEATURES[name],
                "d": round(record["d"], 3),
                "d_low": round(record["d_low"], 3),
                "d_high": round(record["d_high"], 3),
                "candidate_mean": round(record["candidate"], 4),
                "reference_mean": round(record["reference"], 4),
                "candidate_example": excerpt(typical[0], 160),
                "reference_example": excerpt(typical[1], 160),
            }
        )
    return rows


def _clustered_variance(values: NDArray[np.float64], units: pl.Series) -> NDArray[np.float64]:
    """Squared CR1 standard error of each column's mean (Cameron and Miller 2015, as `statistics.clustered_mean`)."""
    codes = units.rank("dense").to_numpy() - 1
    count = int(codes.max()) + 1
    residuals = values - values.mean(axis=0)
    sums = np.stack([np.bincount(codes, weights=column, minlength=count) for column in residuals.T], axis=1)
    return count / (count - 1) * (sums**2).sum(axis=0) / len(values) ** 2


def _second(values: NDArray[np.float64]) -> float:
    return float(np.sort(values)[-2])
