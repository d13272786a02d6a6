"""`input_surface_match`: do the user turns we train on look like what users really type?

Topic coverage cannot answer that: clean synthetic text about the right topics has the same centroid as production text. A
classifier on character n-grams cannot either: it separates any two samples with another topic mix. So the question is put to a
classifier two-sample test on surface features only: length, capitals, punctuation, shorthand, unknown words, connectors.
"""

from __future__ import annotations

from typing import Any

from ftplatform import plots
from ftplatform.synthesis.calibration import FAIL_ABOVE, PASS_BELOW, Calibration
from ftplatform.synthesis.gaps import feature_gaps, gap_evidence, sample_features
from ftplatform.synthesis.samples import Rows, sample_turns
from ftplatform.synthesis.surface_auc import FOLDS, LEAST_UNITS, surface_auc
from ftplatform.synthesis.surface_features import FEATURES
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "input_surface_match/2"

_REMEDY = (
    "Resample the inputs from real user text, condition the teacher on the gaps listed (largest first), or mix in real inputs;"
    " then run again and watch the AUC fall."
)


def input_surface_match(
    candidate: Rows,
    reference: Rows,
    *,
    calibration: Calibration | None = None,
    pass_below: float | None = None,
    fail_above: float | None = None,
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
        calibration: limits measured on the channel's own real inputs (`calibrate_surface`); the general ones otherwise.
        pass_below: passes if the upper bound of the AUC is at most this; goes before the calibration.
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
    if pass_below is None:
        pass_below = calibration.pass_below if calibration else PASS_BELOW
    if fail_above is None:
        fail_above = max(calibration.fail_above if calibration else FAIL_ABOVE, pass_below)
    common: dict[str, Any] = {
        "statistic": "cross-validated AUC of candidate vs reference user turns on surface features",
        "n_required": n_required,
        "threshold": pass_below,
        "baseline": "production inputs",
        "check_version": CHECK_VERSION,
        "config": {
            "pass_below": pass_below,
            "fail_above": fail_above,
            "calibration": calibration.id if calibration else None,
            "n_required": n_required,
            "n_minimum": n_minimum,
            "cap": cap,
            "permutations": permutations,
            "confidence": confidence,
            "folds": FOLDS,
            "seed": seed,
            "features": list(FEATURES),
        },
        "tier": "rules",
        "remedy": _REMEDY,
    }
    ours, theirs = sample_turns(candidate, cap, seed), sample_turns(reference, cap, seed)
    n = min(len(ours), len(theirs))
    details: dict[str, Any] = {"candidate_user_turns": ours.turns, "reference_user_turns": theirs.turns}
    if calibration is not None:
        details["calibration"] = calibration.to_record()
    if n < n_minimum or min(ours.units.n_unique(), theirs.units.n_unique()) < LEAST_UNITS:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(ours):,} candidate and {len(theirs):,} reference user turns; {n_required} on each side are needed.",
            n=n,
            details=details,
            **{**common, "remedy": f"Provide at least {n_required} user turns from different conversations on both sides."},
        )
    features = sample_features(ours, theirs)
    test = surface_auc(ours, theirs, features, permutations=permutations, confidence=confidence, seed=seed)
    gaps = feature_gaps(*features, ours.units, theirs.units, confidence=0.99)
    said = f"AUC {test.auc:.3f} [{test.ci_low:.3f}, {test.ci_high:.3f}] with {len(ours):,} and {len(theirs):,} user turns"
    top = ", ".join(f"{name} {d:+.2f}" for name, d in gaps.head(3).select("feature", "d").iter_rows())
    if test.ci_low > fail_above:
        decision, summary = Decision.FAIL, f"{said}: the inputs are unlike what users type. Largest gaps (d): {top}."
    elif test.ci_high <= pass_below:
        decision, summary = Decision.PASS, f"{said}: the inputs look like what users type."
    else:
        decision, summary = (
            Decision.WARN,
            f"{said}: neither alike (upper bound <= {pass_below:.3g}) nor clearly unlike. Largest gaps: {top}.",
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
        evidence=gap_evidence(gaps, features, (ours.texts, theirs.texts)),
        plot=plots.bars(
            [(name, d) for name, d in gaps.select("feature", "d").iter_rows()],
            title="Surface gaps: candidate minus real user turns (Cohen's d)",
            x_label="standard deviations",
        ),
        details={
            **details,
            "p_value": test.p_value,
            "null_mean": test.null_mean,
            "null_sd": test.null_sd,
            "gaps": gaps.to_dicts(),
        },
        **common,
    )
