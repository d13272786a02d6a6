"""M7 and M12 on the graph: what was removed, and what leaked."""

from collections.abc import Iterator

import pyarrow as pa

from ftplatform.contamination import exact, groups
from ftplatform.dedup import survival
from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.assets.splits import slice_specs
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.verdict import Verdict

#: Name of the eval rows a split sets aside, beside the eval sets of the project.
RESERVE = "reserve"


def split_checks(plan: Plan) -> Iterator[Check]:
    """`contamination_exact` and `group_leakage` against every eval set; `slice_survival` and `row_filter_guard` on what drops rows."""
    eval_sets = tuple(asset_name(Family.EVAL_SETS, name) for name in plan.project.eval_sets)
    for asset in plan.lineage.assets:
        family = family_of(asset)
        if family is Family.SPLITS:
            yield from _leakage(asset, eval_sets)
            yield _slice_survival(plan, asset)
        elif family in {Family.SYNTHETIC, Family.FEEDBACK} and eval_sets:
            yield _contamination(asset, eval_sets)
        elif family is Family.CORPORA:
            yield _row_filter_guard(plan, asset)


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


def _slice_survival(plan: Plan, asset: str) -> Check:
    name = asset.split("/", 1)[1]
    corpus = asset_name(Family.CORPORA, name)

    def judge(judging: Judging) -> Verdict:
        return survival.slice_survival(
            judging.others[corpus].read_table("rows.parquet"),
            judging.snapshot.read_table("train.parquet"),
            slice_specs(plan.project.datasets[name]),
            moved=judging.snapshot.read_table("eval.parquet"),
            q=judging.alpha,
        )

    return Check(
        name="slice_survival",
        asset=asset,
        judge=judge,
        version=survival.CHECK_VERSION,
        description="No slice falls below its floor or loses more rows to near-deduplication than the rows outside it.",
        looks_at=(corpus,),
        statistical=True,
        deciding=_slices(plan, name),
    )


def _row_filter_guard(plan: Plan, asset: str) -> Check:
    name = asset.split("/", 1)[1]

    def judge(judging: Judging) -> Verdict:
        return survival.row_filter_guard(
            judging.snapshot.read_table("before.parquet"),
            judging.snapshot.read_table("rows.parquet"),
            slice_specs(plan.project.datasets[name]),
            step="the license filter",
            q=judging.alpha,
        )

    return Check(
        name="row_filter_guard",
        asset=asset,
        judge=judge,
        version=survival.CHECK_VERSION,
        description="The license filter thins no slice below its floor or more than the rest.",
        statistical=True,
        deciding=_slices(plan, name),
    )


def _slices(plan: Plan, dataset: str) -> dict[str, object]:
    return {"slices": {n: rule.model_dump(mode="json") for n, rule in plan.project.datasets[dataset].slices.items()}}
