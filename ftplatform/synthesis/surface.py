"""`input_surface_match`: do the user turns we train on look like what users really type?

Topic coverage cannot answer that: clean synthetic text about the right topics has the same centroid as production text. A
classifier on character n-grams cannot either: it separates any two samples with another topic mix. So the question is put to a
classifier two-sample test on surface features only: length, capitals, punctuation, shorthand, unknown words, connectors.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.statistics.two_sample import classifier_two_sample
from ftplatform.synthesis.surface_features import FEATURES, repeated_words, surface_features
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "input_surface_match/1"

_FOLDS = 5
_REMEDY = (
    "Resample the inputs from real user text, condition the teacher on the gaps listed (largest first), or mix in real inputs;"
    " then run again and watch the AUC fall."
)


def input_surface_match(
    candidate: pa.Table,
    reference: pa.Table,
    *,
    pass_below: float = 0.60,
    fail_above: float = 0.75,
    n_required: int = 500,
    n_minimum: int = 200,
    cap: int = 2000,
    permutations: int = 200,
    confidence: float = 0.90,
    seed: int = 0,
) -> Verdict:
    """Classifier two-sample test of user turns on twelve surface features.

    Args:
        candidate: rows to judge (synthetic set or training split), `ROW_SCHEMA`; user turns only are read.
        reference: rows of real production inputs.
        pass_below: passes if the upper bound of the AUC is at most this.
        fail_above: fails if the lower bound is above this; between the two warns. Real samples of different *channels* differ
            by more (requests typed into an app and spoken to an assistant: .99), so the reference must come from the channel the
            model will serve.
        n_required: user turns per side a pass needs; below `n_minimum` the check abstains, between the two it only warns (the null
            standard deviation of the AUC is .040 at 200 and .024 at 500 per side).
        cap: user turns per side that are used, whole conversations chosen by hash.
        confidence: of the two-sided interval; .90 makes each bound a one-sided 95 % bound.
        permutations, seed: of the test.

    Returns:
        Verdict with the AUC, its interval and permutation p-value; evidence lists every feature by effect size (Cohen's d,
        candidate minus reference) with a typical text of both sides; n is the smaller side.

    Source: D. Lopez-Paz and M. Oquab, ICLR 2017.
    """
    common: dict[str, Any] = {
        "statistic": "cross-validated AUC of candidate vs reference user turns on surface features",
        "n_required": n_required,
        "threshold": pass_below,
        "baseline": "production inputs",
        "check_version": CHECK_VERSION,
        "config": {
            "pass_below": pass_below,
            "fail_above": fail_above,
            "n_required": n_required,
            "n_minimum": n_minimum,
            "cap": cap,
            "permutations": permutations,
            "confidence": confidence,
            "folds": _FOLDS,
            "seed": seed,
            "features": list(FEATURES),
        },
        "tier": "rules",
        "remedy": _REMEDY,
    }
    all_candidate, all_reference = _user_turns(candidate), _user_turns(reference)
    ours, theirs = _sample(all_candidate, cap, seed), _sample(all_reference, cap, seed)
    n = min(len(ours), len(theirs))
    health = {**_health(reference, all_reference), "candidate_user_turns": len(all_candidate)}
    if n < n_minimum or min(ours["unit"].n_unique(), theirs["unit"].n_unique()) < 2 * _FOLDS:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(ours):,} candidate and {len(theirs):,} reference user turns; {n_required} on each side are needed.",
            n=n,
            details=health,
            **{**common, "remedy": f"Provide at least {n_required} user turns from different conversations on both sides."},
        )
    known = repeated_words(ours["text"], theirs["text"])
    features = surface_features(ours["text"], known), surface_features(theirs["text"], known)
    test = classifier_two_sample(
        features[0].to_numpy(),
        features[1].to_numpy(),
        folds=_FOLDS,
        permutations=permutations,
        seed=seed,
        groups_a=ours["unit"].to_list(),
        groups_b=theirs["unit"].to_list(),
        confidence=confidence,
    )
    gaps = feature_gaps(*features)
    said = f"AUC {test.auc:.3f} [{test.ci_low:.3f}, {test.ci_high:.3f}] with {len(ours):,} and {len(theirs):,} user turns"
    top = ", ".join(f"{name} {d:+.2f}" for name, d in gaps.head(3).select("feature", "d").iter_rows())
    if test.ci_low > fail_above:
        decision, summary = Decision.FAIL, f"{said}: the inputs are unlike what users type. Largest gaps (d): {top}."
    elif test.ci_high <= pass_below:
        decision, summary = Decision.PASS, f"{said}: the inputs look like what users type."
    else:
        decision, summary = (
            Decision.WARN,
            f"{said}: neither alike (upper bound <= {pass_below}) nor clearly unlike. Largest gaps: {top}.",
        )
    if n < n_required:
        decision, summary = Decision.WARN, f"{summary} Only {n} of {n_required} user turns on the smaller side: a warning at most."
    return Verdict(
        decision=decision,
        summary=summary,
        n=n,
        estimate=test.auc,
        ci_low=test.ci_low,
        ci_high=test.ci_high,
        confidence=confidence,
        evidence=_evidence(gaps, features, (ours["text"], theirs["text"])),
        plot=plots.bars(
            [(name, d) for name, d in gaps.select("feature", "d").iter_rows()],
            title="Surface gaps: candidate minus real user turns (Cohen's d)",
            x_label="standard deviations",
        ),
        details={
            **health,
            "p_value": test.p_value,
            "null_mean": test.null_mean,
            "null_sd": test.null_sd,
            "gaps": gaps.to_dicts(),
        },
        **common,
    )


def feature_gaps(candidate: pl.DataFrame, reference: pl.DataFrame) -> pl.DataFrame:
    """Effect size of each feature: feature, candidate (mean), reference (mean), d (Cohen 1988, pooled), largest first.

    d is 0 where the feature is the same constant on both sides, and capped at +-10 where it is two different constants.
    """
    records = []
    for name in candidate.columns:
        a, b = candidate[name].to_numpy(), reference[name].to_numpy()
        gap = float(a.mean() - b.mean())
        pooled = float(np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)))
        d = 0.0 if abs(gap) < 1e-12 else float(np.clip(gap / max(pooled, 1e-12), -10, 10))
        records.append({"feature": name, "candidate": float(a.mean()), "reference": float(b.mean()), "d": d})
    return pl.DataFrame(records).sort(pl.col("d").abs(), descending=True)


def _user_turns(rows: pa.Table) -> pl.DataFrame:
    """text, unit (conversation or customer, else the row) of every user turn with text."""
    said = turns(rows, Role.USER)
    keys = pl.DataFrame({"source": rows["source"], "group": rows["group"], "row_id": rows["row_id"]}).select(
        # Copies of a row are different people who said the same.
        alone=pl.concat_str("row_id", pl.int_range(pl.len()).over("row_id"), separator="\x1f"),
        grouped=pl.concat_str("source", "group", separator="\x1f"),
    )
    units = keys.select(pl.coalesce("grouped", "alone")).to_series()
    frame = pl.DataFrame({"text": said["content"]}).with_columns(unit=units.gather(pl.Series(said["row"])))
    return frame.filter(pl.col("text").str.strip_chars() != "")


def _sample(frame: pl.DataFrame, cap: int, seed: int) -> pl.DataFrame:
    """Whole units in the order of SHA-256(seed, unit), as long as there is room for `cap` turns."""
    if len(frame) <= cap:
        return frame
    sizes = frame.group_by("unit").len()
    order = sorted(sizes.iter_rows(), key=lambda item: hashlib.sha256(f"{seed}\x1f{item[0]}".encode()).digest())
    chosen, room = [], cap
    for unit, size in order:
        if size <= room:
            chosen.append(unit)
            room -= size
    return frame.filter(pl.col("unit").is_in(chosen))


def _evidence(
    gaps: pl.DataFrame, features: tuple[pl.DataFrame, pl.DataFrame], texts: tuple[pl.Series, pl.Series]
) -> list[dict[str, Any]]:
    rows = []
    for record in gaps.iter_rows(named=True):
        name = record["feature"]
        # The text nearest to its side's mean is typical of it.
        typical = [
            text[int(np.abs(values[name].to_numpy() - mean).argmin())]
            for values, text, mean in zip(features, texts, (record["candidate"], record["reference"]), strict=True)
        ]
        rows.append(
            {
                "feature": name,
                "meaning": FEATURES[name],
                "d": round(record["d"], 3),
                "candidate_mean": round(record["candidate"], 4),
                "reference_mean": round(record["reference"], 4),
                "candidate_example": excerpt(typical[0], 160),
                "reference_example": excerpt(typical[1], 160),
            }
        )
    return rows


def _health(reference: pa.Table, spoken: pl.DataFrame) -> dict[str, Any]:
    """Facts about the reference sample that make it more or less trustworthy; they do not decide here."""
    times = pl.Series(reference["created_at"]).drop_nulls()
    units = spoken["unit"].value_counts()["count"]
    return {
        "reference_user_turns": len(spoken),
        "reference_conversations_or_customers": len(units),
        "reference_duplicate_share": 1 - spoken["text"].n_unique() / len(spoken) if len(spoken) else None,
        "reference_largest_unit_share": float(units.max()) / len(spoken) if len(spoken) else None,  # pyright: ignore[reportArgumentType]
        "reference_oldest": times.min().isoformat() if len(times) else None,  # pyright: ignore
        "reference_newest": times.max().isoformat() if len(times) else None,  # pyright: ignore
    }
