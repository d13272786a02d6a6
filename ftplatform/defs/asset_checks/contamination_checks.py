"""M12 on the graph: what leaked."""

from collections.abc import Iterator

import pyarrow as pa

from ftplatform.contamination import exact, groups
from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.verdict import Verdict

#: Name of the eval rows a split sets aside, beside the eval sets of the project.
RESERVE = "reserve"


def contamination_checks(plan: Plan) -> Iterator[Check]:
    """The comparisons of what is trained on with every eval set."""
    eval_sets = tuple(asset_name(Family.EVAL_SETS, name) for name in plan.project.eval_sets)
    for asset in plan.lineage.assets:
        family = family_of(asset)
        if family is Family.SPLITS:
            yield from _leakage(asset, eval_sets)
        elif family in {Family.SYNTHETIC, Family.FEEDBACK} and eval_sets:
            yield _contamination(asset, eval_sets)


def _evals(judging: Judging) -> dict[str, pa.Table]:
    evals = {other: s.read_table("rows.parquet") for other, s in judging.others.items() if family_of(other) is Family.EVAL_SETS}
    if family_of(judging.asset) is Family.SPLITS:
        reserve = judging.snapshot.read_table("eval.parquet")
        if reserve.num_rows:
            evals[RESERVE] = reserve
    return evals


def _train(judging: Judging) -> pa.Table:
    return judging.snapshot.read_table(ROWS_FILE[family_of(judging.asset)])


def _contamination(asset: str, eval_sets: tuple[str, ...]) -> Check:
    def judge(judging: Judging) -> Verdict:
        return exact.contamination_exact(_train(judging), _evals(judging))

    return Check(
        name="contamination_exact",
        asset=asset,
        judge=judge,
        version=exact.CHECK_VERSION,
        description="No eval item stands in the rows: user turn, answer, or both, normalized, system text left out.",
        looks_at=eval_sets,
    )


def _leakage(asset: str, eval_sets: tuple[str, ...]) -> Iterator[Check]:
    def judge(judging: Judging) -> Verdict:
        return groups.group_leakage(_train(judging), _evals(judging))

    yield _contamination(asset, eval_sets)
    yield Check(
        name="group_leakage",
        asset=asset,
        judge=judge,
        version=groups.CHECK_VERSION,
        description="No conversation, customer or thread is on both sides.",
        looks_at=eval_sets,
    )
