"""M2 on the graph: is every license known, and does it allow what the project does, as of now?

The terms are read from the project file when the check is judged, not from the snapshot: a license is a state. Their digests are
part of each check's binding, so an edit of one license makes exactly the evaluations that depend on it stale.
"""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.defs.terms import known_parents
from ftplatform.licensing import checks as license_rules
from ftplatform.store import Snapshot
from ftplatform.verdict import Verdict

#: The file that holds the rows of each family, and what their use is judged as.
ROWS_FILE = {
    Family.RAW: "rows.parquet",
    Family.SYNTHETIC: "rows.parquet",
    Family.FEEDBACK: "rows.parquet",
    Family.CORPORA: "rows.parquet",
    Family.SPLITS: "train.parquet",
    Family.EVAL_SETS: "rows.parquet",
    Family.ADAPTERS: "rows.parquet",
}
_COLUMNS = ["row_id", "origins", "parents"]


def license_checks(plan: Plan) -> Iterator[Check]:
    """`license_known` on what enters the platform, `license_allows_use` on that and everything made from it."""
    for asset in plan.lineage.assets:
        family = family_of(asset)
        if family in {Family.RAW, Family.EVAL_SETS, Family.FEEDBACK}:
            yield _known(plan, asset)
            yield _allows_rows(plan, asset)
        elif family in {Family.SYNTHETIC, Family.CORPORA, Family.SPLITS}:
            yield _allows_rows(plan, asset)
        elif family is Family.BASE_MODELS:
            yield _known(plan, asset)
            yield _allows_model(plan, asset)
        elif family in {Family.ADAPTERS, Family.RELEASES}:
            yield _allows_adapter(plan, asset)


def uses_of(plan: Plan, asset: str) -> list[str]:
    """The declared uses that must hold for an asset. What is only compared with, never trained on, needs `evaluate`."""
    family = family_of(asset)
    if family is Family.EVAL_SETS or (family is Family.RAW and not plan.is_trained_on(asset)):
        return ["evaluate"]
    return [str(use) for use in plan.project.use]


def _deciding(plan: Plan, asset: str) -> dict[str, object]:
    """What decides beforehand: policy, uses and the terms of everything the asset can hold rows or weights of."""
    names = [asset, *plan.lineage.ancestors(asset)]
    involved = [plan.terms[name] for name in names if name in plan.terms]
    teachers = {p: plan.terms[p] for t in involved for p in t.derived_from if p in plan.terms}
    terms = {t.name: t.digest for t in [*involved, *teachers.values()]}
    return {"policy": plan.policy.digest, "uses": uses_of(plan, asset), "terms": terms}


def _known(plan: Plan, asset: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        if family_of(asset) is Family.BASE_MODELS:
            return license_rules.license_known(plan.terms, {asset: 1}, plan.policy, unit="models")
        return license_rules.license_known(plan.terms, {asset: _rows(judging.snapshot)}, plan.policy)

    return Check(
        name="license_known",
        asset=asset,
        judge=judge,
        version=license_rules.CHECK_VERSION,
        description="Every row has a license that a person concluded from evidence; a host's tag alone is unknown.",
        deciding=_deciding(plan, asset),
        order_after=(LICENSE_LEDGER,),
    )


def _allows_rows(plan: Plan, asset: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        parent_rows = _parent_rows(plan, judging)
        terms = known_parents(plan.terms, parent_rows)
        return license_rules.license_allows_use(
            _batches(judging.snapshot), terms, uses_of(plan, asset), plan.policy, parent_rows=parent_rows
        )

    return _allows(plan, asset, judge, "The declared uses are among the rights of every row, as of now.")


def _allows_model(plan: Plan, asset: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        return license_rules.license_allows_use_of_model(plan.terms[asset], uses_of(plan, asset), plan.policy)

    return _allows(plan, asset, judge, "The declared uses are among the rights of the base model, as of now.")


def _allows_adapter(plan: Plan, asset: str) -> Check:
    """An adapter is made of its training rows and its base model; a release of its adapter."""
    adapter = asset_name(Family.ADAPTERS, asset.split("/", 1)[1])
    base = asset_name(Family.BASE_MODELS, plan.project.adapters[asset.split("/", 1)[1]].base)

    def judge(judging: Judging) -> Verdict:
        snapshot = judging.snapshot if asset == adapter else judging.others[adapter]
        parent_rows = _parent_rows(plan, judging)
        terms, uses = known_parents(plan.terms, parent_rows), uses_of(plan, asset)
        rows = license_rules.license_allows_use(_batches(snapshot), terms, uses, plan.policy, parent_rows=parent_rows)
        model = license_rules.license_allows_use_of_model(terms[base], uses, plan.policy)
        return rows if model.passed or not rows.passed else model

    others = () if asset == adapter else (adapter,)
    return _allows(plan, asset, judge, "Rows trained on and the base model allow the declared uses, as of now.", others)


def _allows(plan: Plan, asset: str, judge: Callable[[Judging], Verdict], description: str, looks_at: tuple[str, ...] = ()) -> Check:
    return Check(
        name="license_allows_use",
        asset=asset,
        judge=judge,
        version=license_rules.CHECK_VERSION,
        description=description,
        deciding=_deciding(plan, asset),
        looks_at=looks_at,
        order_after=(LICENSE_LEDGER,),
    )


def _rows(snapshot: Snapshot) -> int:
    return sum(entry.rows or 0 for entry in snapshot.files if entry.path == ROWS_FILE[family_of(snapshot.asset)])


def _batches(snapshot: Snapshot) -> Iterable[pa.RecordBatch]:
    return snapshot.iter_batches(ROWS_FILE[family_of(snapshot.asset)], _COLUMNS)


def _parent_rows(plan: Plan, judging: Judging) -> pa.Table | None:
    """Rows that parents may name by id: those of the corpora and seeds this asset is made from."""
    found = []
    for asset in plan.lineage.ancestors(judging.asset):
        if family_of(asset) in {Family.RAW, Family.SYNTHETIC, Family.FEEDBACK} and judging.store.head(asset):
            found.append(judging.store.current(asset).read_table("rows.parquet", _COLUMNS))
    return pa.concat_tables(found) if found else None
