"""M12 on the graph: what leaked."""

from collections.abc import Iterator

import pyarrow as pa

from ftplatform.contamination import exact, groups, near
from ftplatform.contamination.paraphrase.check import CHECK_VERSION as PARAPHRASE_VERSION
from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.encoding import encoder_of
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.defs.reviews import paraphrase_verdicts
from ftplatform.rows.placeholders import filled_from
from ftplatform.verdict import Decision, Verdict

#: Name of the eval rows a split sets aside, beside the eval sets of the project.
RESERVE = "reserve"


def contamination_checks(plan: Plan) -> Iterator[Check]:
    """The comparisons of what is trained on with every eval set."""
    eval_sets = tuple(asset_name(Family.EVAL_SETS, name) for name in plan.project.eval_sets)
    vaults = frozenset(asset_name(Family.EVAL_SETS, name) for name, spec in plan.project.eval_sets.items() if spec.vault)
    for asset in plan.lineage.assets:
        family = family_of(asset)
        if family is Family.SPLITS or (family in {Family.SYNTHETIC, Family.FEEDBACK} and eval_sets):
            yield from _comparisons(asset, eval_sets, vaults)
            if eval_sets:
                yield _paraphrase(plan, asset, eval_sets, vaults)
        if family is Family.SPLITS:
            yield _group_leakage(asset, eval_sets)


def _evals(judging: Judging) -> dict[str, pa.Table]:
    evals = {other: s.read_table("rows.parquet") for other, s in judging.others.items() if family_of(other) is Family.EVAL_SETS}
    if family_of(judging.asset) is Family.SPLITS:
        reserve = judging.snapshot.read_table("eval.parquet")
        if reserve.num_rows:
            evals[RESERVE] = reserve
    return evals


def _train(judging: Judging) -> pa.Table:
    return judging.snapshot.read_table(ROWS_FILE[family_of(judging.asset)])


def _sides(judging: Judging) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Both sides to compare. Where one was masked and the other was not, a placeholder is read as the value that stands in its place on
    the other side: nobody can tell whether it was another one, and a leak must not hide behind it."""
    train, evals = _train(judging), _evals(judging)
    evals = {name: filled_from(table, [train]) for name, table in evals.items()}
    return filled_from(train, evals.values()), evals


def _comparisons(asset: str, eval_sets: tuple[str, ...], vaults: frozenset[str]) -> Iterator[Check]:
    def judge_near(judging: Judging) -> Verdict:
        train, evals = _sides(judging)
        rule = near.NearRule(vault_sets=vaults, held_out_sets=frozenset(evals) & {RESERVE})
        return near.contamination_near(train, evals, rule)

    yield Check(
        name="contamination_exact",
        asset=asset,
        judge=lambda judging: exact.contamination_exact(*_sides(judging)),
        version=exact.CHECK_VERSION,
        description="No eval item stands in the rows: user turn, answer, or both, normalized, system text left out.",
        looks_at=eval_sets,
    )
    yield Check(
        name="contamination_near",
        asset=asset,
        judge=judge_near,
        version=near.CHECK_VERSION,
        description="No eval item stands in the rows in part, inside longer text, or with a few words changed.",
        looks_at=eval_sets,
        deciding={"vaults": sorted(vaults)},
    )


def _paraphrase(plan: Plan, asset: str, eval_sets: tuple[str, ...], vaults: frozenset[str]) -> Check:
    """Compares declared eval sets only: a reserve asks what its corpus teaches, in other words, by its nature.

    A set that cannot be calibrated refuses where a vault is to be protected, and warns in a project without one.
    """

    def judge(judging: Judging) -> Verdict:
        from ftplatform.contamination.paraphrase import contamination_paraphrase

        train, sets = _sides(judging)
        evals = {name: table for name, table in sets.items() if name != RESERVE}
        encoder = encoder_of(plan)
        reviewed = paraphrase_verdicts(judging.store, judging.asset)

        def found(chosen: dict[str, pa.Table]) -> Verdict:
            return contamination_paraphrase(train, chosen, encoder=encoder, reviewed=reviewed)

        guarded = {name: table for name, table in evals.items() if name in vaults}
        if not guarded or len(guarded) == len(evals):
            return found(evals)
        # What the other sets cannot tell must not hide what the vaults can; what they do find counts.
        others, vault = found({name: evals[name] for name in evals.keys() - guarded.keys()}), found(guarded)
        return others if others.decision is Decision.FAIL and vault.decision is not Decision.FAIL else vault

    return Check(
        name="contamination_paraphrase",
        asset=asset,
        judge=judge,
        version=PARAPHRASE_VERSION,
        description="No eval item stands in the rows in other words.",
        looks_at=eval_sets,
        required=bool(vaults),
        # The path and not the bytes: nothing of a model is read when Dagster loads the code. The verdict names its digest.
        deciding={"vaults": sorted(vaults), "encoder": plan.project.encoder.model_dump() if plan.project.encoder else None},
    )


def _group_leakage(asset: str, eval_sets: tuple[str, ...]) -> Check:
    return Check(
        name="group_leakage",
        asset=asset,
        judge=lambda judging: groups.group_leakage(_train(judging), _evals(judging)),
        version=groups.CHECK_VERSION,
        description="No conversation, customer or thread is on both sides.",
        looks_at=eval_sets,
    )
