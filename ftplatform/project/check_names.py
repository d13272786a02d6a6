"""The names of all checks, by failure mode. A leaf: the project file is validated against it, the Dagster layer binds to it."""

from __future__ import annotations

from typing import Final

#: Mode of the specification to the checks that guard against it; `""` holds what serves no single mode.
CHECKS_BY_MODE: Final[dict[str, tuple[str, ...]]] = {
    "": ("row_schema", "task_regression"),
    "M1": ("closure_complete", "closure_replay", "closure_equivalent", "bus_factor"),
    "M2": ("license_known", "license_allows_use", "license_fresh", "license_blast_radius", "influence_removed", "obligations_met"),
    "M3": ("cold_start_exposure", "cold_start_observed", "keepwarm_effective", "keepwarm_fence"),
    "M4": ("feedback_lineage", "correction_is_target", "label_agreement", "label_audit", "actor_concentration", "metric_breadth"),
    "M5": (
        "refusal_retention",
        "overrefusal_retention",
        "helpfulness_retention",
        "refusal_margin_drift",
        "safety_risk_rows",
        "probe_fence",
        "served_matches_evaluated",
    ),
    "M6": (
        "rubric_role_separation",
        "gain_transfer",
        "rubric_free_preference",
        "null_model_floor",
        "criterion_shape",
        "eval_budget",
    ),
    "M7": (
        "slice_survival",
        "row_filter_guard",
        "hard_row_survival",
        "representative_bias",
        "dedup_reviewed",
        "threshold_sensitivity",
        "provenance_union",
    ),
    "M8": (
        "reward_task_divergence",
        "anchored_noninferiority",
        "overopt_curve",
        "reward_disagreement",
        "style_creep",
        "feedback_targeting",
    ),
    "M9": (
        "input_surface_match",
        "input_feature_gaps",
        "input_tail_coverage",
        "content_mix_match",
        "eval_population",
        "reference_health",
    ),
    "M10": ("target_variant_share", "prior_inversion", "model_variant_rate", "user_turn_untouched"),
    "M11": ("unauthorized_commitment", "phantom_action", "unwarranted_apology", "shorthand_leak", "voice_drift"),
    "M12": (
        "contamination_exact",
        "contamination_near",
        "contamination_paraphrase",
        "group_leakage",
        "triage_leak",
        "performance_gap",
        "vault_exposure",
    ),
}

#: Checks that compare a statistic with a limit a project may move; the others are exact rules, and a threshold would do nothing.
ADJUSTABLE_CHECKS: Final[frozenset[str]] = frozenset(
    {
        "correction_is_target",
        "label_agreement",
        "actor_concentration",
        "unwarranted_apology",
        "shorthand_leak",
        "voice_drift",
        "input_surface_match",
        "refusal_retention",
        "overrefusal_retention",
        "helpfulness_retention",
        "refusal_margin_drift",
        "safety_risk_rows",
        "served_matches_evaluated",
        "task_regression",
        "target_variant_share",
        "model_variant_rate",
        "closure_equivalent",
        "null_model_floor",
        "eval_budget",
        "cold_start_exposure",
        "cold_start_observed",
        "anchored_noninferiority",
        "reward_disagreement",
        "style_creep",
        "feedback_targeting",
    }
)

#: Every check name, in the order of the modes.
KNOWN_CHECKS: Final[tuple[str, ...]] = tuple(name for names in CHECKS_BY_MODE.values() for name in names)
