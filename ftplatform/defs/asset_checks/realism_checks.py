"""M9 on the graph: do the inputs look like what users type?"""

from collections.abc import Iterator
from typing import Any

from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.synthesis import surface
from ftplatform.verdict import Verdict


def realism_checks(plan: Plan) -> Iterator[Check]:
    """`input_surface_match` on every synthetic set and split for which the project names production inputs."""
    for name, synthetic in plan.project.synthetic.items():
        if synthetic.production_inputs:
            yield _surface(plan, asset_name(Family.SYNTHETIC, name), synthetic.production_inputs)
    for name, dataset in plan.project.datasets.items():
        if dataset.production_inputs:
            yield _surface(plan, asset_name(Family.SPLITS, name), dataset.production_inputs)


def _surface(plan: Plan, asset: str, production: str) -> Check:
    reference = asset_name(Family.RAW, production)

    def judge(judging: Judging) -> Verdict:
        candidate = judging.snapshot.read_table(ROWS_FILE[family_of(asset)])
        production_rows = judging.others[reference].read_table("rows.parquet")
        limits: dict[str, Any] = {} if judging.threshold is None else {"pass_below": judging.threshold}
        # Each bound of the interval is one-sided at alpha, so both together cover 1 - 2 alpha.
        return surface.input_surface_match(candidate, production_rows, confidence=1 - 2 * judging.alpha, **limits)

    return Check(
        name="input_surface_match",
        asset=asset,
        judge=judge,
        version=surface.CHECK_VERSION,
        description="A classifier on surface features cannot tell the user turns from what users type in production.",
        looks_at=(reference,),
        statistical=True,
    )
