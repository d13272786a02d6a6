"""M12 on the graph: the doors that people open. Who saw a vault, what was written from its failures, and what the scores betray."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.contamination import performance_gap as gap
from ftplatform.contamination import triage, vault
from ftplatform.defs.access import asked, ledger, retired_items, vault_names
from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.outcomes import outcomes
from ftplatform.defs.plan import Plan
from ftplatform.project.models import EvalKind
from ftplatform.store import Snapshot, Store
from ftplatform.store.access_log import AccessRecord
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

#: Tables of a split with rows that were there when it was made, whatever became of them.
_SPLIT_TABLES = ("train.parquet", "eval.parquet", "removed.parquet")
_SEVERITY = [Decision.PASS, Decision.WARN, Decision.INSUFFICIENT_EVIDENCE, Decision.FAIL]


def exposure_checks(plan: Plan) -> Iterator[Check]:
    """`vault_exposure` on every vault, `triage_leak` on what is trained on, `performance_gap` where a vault has a counterpart."""
    for name in sorted(vault_names(plan.project)):
        yield _vault_exposure(name)
    for asset in plan.lineage.assets:
        family = family_of(asset)
        if family is Family.SPLITS or (family in {Family.SYNTHETIC, Family.FEEDBACK} and plan.is_trained_on(asset)):
            yield _triage_leak(plan, asset)
    for name in plan.project.adapters:
        if counterparts := _counterparts(plan, name):
            yield _performance_gap(plan, name, counterparts)


def _vault_exposure(name: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        records = ledger(judging.store, name)
        retired, gone = retired_items(judging.store, judging.snapshot, records)
        verdict = vault.vault_exposure(judging.snapshot.read_table("rows.parquet"), records, retired=retired)
        return replace(verdict, details={**verdict.details, "earlier_versions_gone": gone})

    return Check(
        name="vault_exposure",
        asset=asset_name(Family.EVAL_SETS, name),
        judge=judge,
        version=vault.CHECK_VERSION,
        description="Nobody has seen an item of the vault, and few decisions rest on it since it was refreshed.",
        blocking=False,
    )


# ---- triage ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Comparison:
    """What a check of several comparisons found in one of them."""

    adapter: str
    eval_set: str
    verdict: Verdict


def _triage_leak(plan: Plan, asset: str) -> Check:
    """The rows that are new since an adapter was trained, against what that adapter failed afterwards.

    The evaluations are read from the store as they are and are not among what the check looks at: they are downstream, so Dagster
    would find a cycle, and an evaluation made after the rows, which they cannot have been written from, would make the check stale.
    The reserve is left out: it is drawn anew from each version.

    Missing evidence refuses only where a vault was asked: a working set is there to be looked at, and may be small.
    """
    adapters = [name for name in plan.project.adapters if asset in plan.lineage.ancestors(asset_name(Family.ADAPTERS, name))]
    evals = {name: evals_of(plan.project, plan.project.adapters[name]) for name in adapters}
    vaults = vault_names(plan.project)

    def judge(judging: Judging) -> Verdict:
        rows = judging.snapshot.read_table(ROWS_FILE[family_of(asset)])
        access = cache(lambda eval_set: ledger(judging.store, eval_set))
        found = [comparison for adapter in adapters for comparison in _triaged(judging, adapter, rows, access)]
        if not found:
            return _never_evaluated(rows.num_rows)
        found.sort(key=lambda comparison: comparison.eval_set not in vaults)
        counting = [c for c in found if c.eval_set in vaults or c.verdict.decision is not Decision.INSUFFICIENT_EVIDENCE]
        return _worst(counting if any(c.eval_set in vaults for c in found) else found, found)

    return Check(
        name="triage_leak",
        asset=asset,
        judge=judge,
        version=triage.CHECK_VERSION,
        description="No row that is new since an evaluation was written from an item that failed in it.",
        deciding={"evals": evals, "vaults": sorted(vaults)},
        required=any(vaults.intersection(names) for names in evals.values()),
    )


def _triaged(
    judging: Judging, adapter: str, rows: pa.Table, access: Callable[[str], Sequence[AccessRecord]]
) -> Iterator[_Comparison]:
    store = judging.store
    results = _results(store, adapter)
    if results is None:
        return
    batch = _without(rows, _known_rows(store, results, judging.asset))
    judged = outcomes(results.read_table("answers.parquet"))
    for name, version in asked(results).items():
        items = store.snapshot(version).read_table("rows.parquet")
        failed, passed = (_items(items, judged.filter(eval_set=name, failed=outcome)) for outcome in (True, False))
        verdict = triage.triage_leak(batch, failed, passed, access(name))
        yield _Comparison(adapter, name, verdict.with_config({"eval_results": results.digest}))


def _results(store: Store, adapter: str) -> Snapshot | None:
    asset = asset_name(Family.EVAL_RESULTS, adapter)
    return store.current(asset) if store.head(asset) is not None else None


def _known_rows(store: Store, results: Snapshot, asset: str) -> list[pa.ChunkedArray]:
    """Ids of the rows of `asset` that were there when the evaluated adapter was trained; none if it was made without the asset."""
    (adapter,) = (ref.snapshot for ref in results.inputs if ref.role == "adapter")
    before = next((snapshot for snapshot in store.lineage(adapter) if snapshot.asset == asset), None)
    tables = _SPLIT_TABLES if family_of(asset) is Family.SPLITS else ("rows.parquet",)
    return [] if before is None else [before.read_table(file, ["row_id"])["row_id"] for file in tables]


def _without(rows: pa.Table, ids: Sequence[pa.ChunkedArray]) -> pa.Table:
    known = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string()).combine_chunks()
    return rows.filter(pc.invert(pc.is_in(rows["row_id"], value_set=known)))


def _items(rows: pa.Table, outcome: pl.DataFrame) -> pa.Table:
    """The rows of these items, each once."""
    first = pl.DataFrame({"item_id": rows["row_id"]}).with_row_index("at").unique("item_id", keep="first", maintain_order=True)
    return rows.take(first.join(outcome, on="item_id", how="semi", maintain_order="left")["at"].to_arrow())


def _never_evaluated(rows: int) -> Verdict:
    return Verdict(
        decision=Decision.PASS if rows else Decision.INSUFFICIENT_EVIDENCE,
        summary=f"No adapter trained on this was evaluated before: nothing had failed when its {rows:,} rows were written.",
        statistic="evaluations that a row could have been written from",
        estimate=0.0,
        n=rows,
        n_required=1,
        baseline="no earlier evaluation",
        remedy="None needed." if rows else "Give the asset rows.",
        check_version=triage.CHECK_VERSION,
        tier="rules",
    )


# ---- performance gap -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counterparts:
    """The sets an adapter is asked besides a vault, to be compared with it."""

    vault: str
    twins: tuple[str, ...]
    fresh: tuple[str, ...]


def _counterparts(plan: Plan, adapter: str) -> list[_Counterparts]:
    sets = plan.project.eval_sets
    names = evals_of(plan.project, plan.project.adapters[adapter])
    found = [
        _Counterparts(
            name,
            tuple(other for other in names if sets[other].paraphrase_of == name),
            tuple(other for other in names if sets[other].fresh_for == name),
        )
        for name in names
        if sets[name].vault
    ]
    return [each for each in found if each.twins or each.fresh]


def _performance_gap(plan: Plan, adapter: str, counterparts: Sequence[_Counterparts]) -> Check:
    """Reference checkpoints are the base models, and the adapters that share no source of rows with this one.

    An adapter trained on the same rows would hide the very leak. The evaluations of the others are read as they are and are not
    among what the check looks at: an adapter must not wait for another to be evaluated.
    """
    mine = _sources(plan, adapter)
    others = [other for other in plan.project.adapters if mine.isdisjoint(_sources(plan, other))]

    def judge(judging: Judging) -> Verdict:
        evaluations = {other: results for other in others if (results := _results(judging.store, other)) is not None}
        scores, references = _scores(
            judging.snapshot, evaluations, [n for c in counterparts for n in (c.vault, *c.twins, *c.fresh)]
        )
        rule = gap.GapRule(confidence=1 - judging.alpha)
        enough = len(references) >= rule.min_references
        note = f"{len(references)} reference checkpoint(s), too few to be taken into account ({rule.min_references} are needed)"
        found = []
        for c in counterparts:
            vault_, twin, fresh = (
                scores.filter(pl.col("eval_set").is_in(names)).to_arrow() if names else None
                for names in ((c.vault,), c.twins, c.fresh)
            )
            assert vault_ is not None
            verdict = gap.performance_gap(
                vault_, twin, fresh, references=references if enough else (), rule=rule, baseline=None if enough else note
            )
            found.append(_Comparison(adapter, c.vault, verdict))
        return _worst(found, found)

    return Check(
        name="performance_gap",
        asset=asset_name(Family.EVAL_RESULTS, adapter),
        judge=judge,
        version=gap.CHECK_VERSION,
        description="The model does no better on the vault than on items that ask the same and cannot have leaked.",
        statistical=True,
        deciding={"counterparts": {c.vault: {"paraphrase_of": c.twins, "fresh_for": c.fresh} for c in counterparts}},
    )


def _sources(plan: Plan, adapter: str) -> set[str]:
    """Where the rows of an adapter come from."""
    ancestors = plan.lineage.ancestors(asset_name(Family.ADAPTERS, adapter))
    return {asset for asset in ancestors if family_of(asset) in {Family.RAW, Family.SYNTHETIC, Family.FEEDBACK}}


def _scores(results: Snapshot, others: Mapping[str, Snapshot], sets: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """Scores on the items of `sets`: eval_set, family, score, and a column for each reference that answered every one of them."""
    columns = ["eval_set", "kind", "item_id", "group", "base_score", "tuned_score"]

    def answered(snapshot: Snapshot) -> pl.DataFrame:
        frame = pl.DataFrame(pl.from_arrow(snapshot.read_table("answers.parquet", columns)))
        mine = frame.filter(pl.col("eval_set").is_in(sets), pl.col("kind") == str(EvalKind.TASK))
        return mine.with_columns(family=pl.coalesce("group", "item_id"))

    scores = answered(results).rename({"tuned_score": "score", "base_score": _base_model(results)})
    for other, snapshot in others.items():
        names = {"tuned_score": asset_name(Family.ADAPTERS, other), "base_score": _base_model(snapshot)}
        wanted = {column: name for column, name in names.items() if name not in scores.columns}
        theirs = answered(snapshot).select("eval_set", "item_id", *wanted).rename(wanted)
        scores = scores.join(theirs, on=["eval_set", "item_id"], how="left", maintain_order="left")
    references = [c for c in scores.columns if "/" in c and not scores[c].null_count()]
    return scores.select("eval_set", "family", "score", *references), references


def _base_model(results: Snapshot) -> str:
    (base,) = (ref.asset for ref in results.inputs if ref.role == "base_model")
    return base


def _worst(deciding: Sequence[_Comparison], found: Sequence[_Comparison]) -> Verdict:
    """The worst verdict among `deciding`; its evidence is that of all verdicts as bad, each with adapter and set."""
    decision = max((c.verdict.decision for c in deciding), key=_SEVERITY.index)
    worst = [c for c in deciding if c.verdict.decision is decision]
    share = max(1, MAX_EVIDENCE // len(worst))
    first = worst[0]
    lines = [{"adapter": c.adapter, "eval_set": c.eval_set, **line} for c in worst for line in c.verdict.evidence[:share]]
    listed = [
        {"adapter": c.adapter, "eval_set": c.eval_set, "decision": str(c.verdict.decision), "summary": c.verdict.summary}
        for c in found
    ]
    return replace(
        first.verdict,
        summary=f"{first.eval_set}, answered by {first.adapter}: {first.verdict.summary}",
        evidence=lines[:MAX_EVIDENCE],
        details={**first.verdict.details, "comparisons": listed},
    )
