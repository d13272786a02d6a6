"""All checks of a project, with the project's own overrides applied."""

from collections.abc import Iterator
from dataclasses import replace

from ftplatform.defs.access import withheld_names, withholding
from ftplatform.defs.asset_checks.adapter_checks import adapter_checks
from ftplatform.defs.asset_checks.alignment_checks import alignment_checks
from ftplatform.defs.asset_checks.contamination_checks import contamination_checks
from ftplatform.defs.asset_checks.dedup_checks import dedup_checks
from ftplatform.defs.asset_checks.eval_checks import eval_checks
from ftplatform.defs.asset_checks.exposure_checks import exposure_checks
from ftplatform.defs.asset_checks.feedback_checks import feedback_checks
from ftplatform.defs.asset_checks.habit_checks import habit_checks
from ftplatform.defs.asset_checks.ledger_checks import ledger_checks
from ftplatform.defs.asset_checks.license_checks import license_checks
from ftplatform.defs.asset_checks.realism_checks import realism_checks
from ftplatform.defs.asset_checks.reward_checks import reward_checks
from ftplatform.defs.asset_checks.row_checks import row_checks
from ftplatform.defs.asset_checks.rubric_checks import rubric_checks
from ftplatform.defs.asset_checks.serving_checks import serving_checks
from ftplatform.defs.asset_checks.variant_checks import variant_checks
from ftplatform.defs.checks import Check
from ftplatform.defs.plan import Plan


def all_checks(plan: Plan) -> Iterator[Check]:
    """Every check. Missing evidence refuses on what a release is built from and warns elsewhere (SPEC 2.5.2).

    No check shows what an item of a vault says.
    """
    withheld = withheld_names(plan.project)
    families = (
        license_checks,
        ledger_checks,
        row_checks,
        dedup_checks,
        contamination_checks,
        feedback_checks,
        realism_checks,
        variant_checks,
        habit_checks,
        adapter_checks,
        alignment_checks,
        eval_checks,
        exposure_checks,
        rubric_checks,
        reward_checks,
        serving_checks,
    )
    for family in families:
        for check in family(plan):
            override = plan.project.gates.get(check.name)
            yield replace(
                check,
                judge=withholding(check.judge, withheld),
                required=check.required and plan.lineage.is_upstream_of_release(check.asset),
                severity=(override.severity if override and override.severity else check.severity),
                threshold=override.threshold if override else None,
            )
