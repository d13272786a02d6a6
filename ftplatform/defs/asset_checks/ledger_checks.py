"""M2 over time: were the terms looked at lately, what do revoked ones reach, and is a notice's influence gone?"""

from collections.abc import Iterator
from datetime import UTC, datetime

from ftplatform.defs.asset_checks.license_checks import uses_of
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import LICENSE_LEDGER, Family, family_of
from ftplatform.defs.ledger import DECLARATION, observe_declarations, open_ledger
from ftplatform.defs.lineage_index import lineage_index
from ftplatform.defs.op_tags import GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.removals import judge_removal
from ftplatform.defs.terms import license_blocks
from ftplatform.defs.watching import time_to_live, watched
from ftplatform.licensing.blast_radius import check as reach_rules
from ftplatform.licensing.checks import uses_for
from ftplatform.licensing.removal import check as removal_rules
from ftplatform.licensing.states import State
from ftplatform.licensing.terms import SourceTerms, assess
from ftplatform.licensing.watchers import dead_man
from ftplatform.verdict import Decision, Verdict

_ORDER = (Decision.FAIL, Decision.INSUFFICIENT_EVIDENCE, Decision.WARN, Decision.PASS)


def ledger_checks(plan: Plan) -> Iterator[Check]:
    """`license_fresh` on raw corpora; `license_blast_radius` and `influence_removed` on adapters.

    The latter is on every adapter, lest a running code location does not know it on the day a notice comes.
    """
    for asset in plan.lineage.assets:
        if family_of(asset) is Family.RAW:
            yield _fresh(plan, asset)
        elif family_of(asset) is Family.ADAPTERS:
            yield _blast_radius(plan, asset)
            yield _removed(plan, asset)


def _fresh(plan: Plan, asset: str) -> Check:
    block = license_blocks(plan.project)[asset]

    def judge(judging: Judging) -> Verdict:
        now = datetime.now(UTC)
        # The names alone: watchers are not asked here.
        watchers = {watching.watcher for watching in watched(plan) if watching.source == asset}
        with open_ledger(plan.root, judging.store) as ledger:
            if not watchers:
                # Declaration and evidence were read for this very judgment: that is a look.
                observe_declarations(ledger, {asset: plan.declared_terms[asset]}, now)
            looks = ledger.last_looked(asset)
        seen = [looks.get(name) for name in watchers or {DECLARATION}]
        last = {} if None in seen else {asset: min(look for look in seen if look is not None)}
        return dead_man.license_fresh(last, {asset: time_to_live(block)}, now)

    return Check(
        name="license_fresh",
        asset=asset,
        judge=judge,
        version=dead_man.CHECK_VERSION,
        description="The terms were looked at within their time to live: an unwatched license is not a valid one.",
        deciding={"ttl_days": time_to_live(block).days, "watch": sorted(block.watch)},
        blocking=False,
        order_after=(LICENSE_LEDGER,),
    )


def _blast_radius(plan: Plan, asset: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        store = judging.store
        with open_ledger(plan.root, store) as ledger:
            observed = ledger.states()
        # What upstream of the adapter and its evaluations carries terms, and whatever the ledger has followed besides.
        results = f"{Family.EVAL_RESULTS}/{asset.split('/', 1)[1]}"
        near = {asset, *plan.lineage.ancestors(asset), *plan.lineage.ancestors(results)}
        carrying = {name: terms for name, terms in plan.terms.items() if name in near and terms.has_own_license}
        states = dict.fromkeys(carrying, State.ACTIVE)
        states |= {name: state.state for name, state in observed.items() if name in states or state.state in reach_rules.AT_RISK}
        # Terms that a person concluded and that forbid what we do are as lost to us as revoked ones.
        states |= {
            name: State.RELICENSED for name, terms in carrying.items() if states[name] is State.ACTIVE and _forbids(plan, terms)
        }
        at_risk = [name for name, state in states.items() if state in reach_rules.AT_RISK]
        if not at_risk:
            return reach_rules.license_blast_radius([], states, judging.snapshot.digest, downstream=())
        with lineage_index(plan, store) as index:
            radii = [index.blast_radius(name, must_exist=False) for name in at_risk]
            downstream = index.downstream(judging.snapshot.digest)
            return reach_rules.license_blast_radius(radii, states, judging.snapshot.digest, downstream=downstream)

    return Check(
        name="license_blast_radius",
        asset=asset,
        judge=judge,
        version=reach_rules.CHECK_VERSION,
        description="What of revoked or disputed sources is in this adapter, in what was measured about it, and in what serves it.",
        deciding={name: terms.digest for name, terms in plan.terms.items() if name in plan.lineage.ancestors(asset)},
        severity="warn",
        blocking=False,
        order_after=(LICENSE_LEDGER,),
    )


def _forbids(plan: Plan, terms: SourceTerms) -> bool:
    return bool(assess(terms, plan.policy).rights.refused(uses_for(terms.kind, uses_of(plan, terms.name))))


def _removed(plan: Plan, asset: str) -> Check:
    notices = tuple(plan.removals.get(asset, ()))

    def judge(judging: Judging) -> Verdict:
        if not notices:
            return _nothing_claimed(judging)
        verdicts = [judge_removal(plan, judging.store, judging.snapshot, notice)[0] for notice in notices]
        return min(verdicts, key=lambda verdict: _ORDER.index(verdict.decision))

    return Check(
        name="influence_removed",
        asset=asset,
        judge=judge,
        version=removal_rules.CHECK_VERSION,
        description="What a notice claims, and what was made from it, is gone from everything this adapter was made from.",
        deciding={"notices": list(notices)},
        order_after=(LICENSE_LEDGER,),
        pool=GPU_POOL,
    )


def _nothing_claimed(judging: Judging) -> Verdict:
    rows = judging.snapshot.file("rows.parquet").rows or 0
    return Verdict(
        decision=Decision.PASS if rows else Decision.INSUFFICIENT_EVIDENCE,
        summary=f"No notice in force reached this adapter: none of its {rows:,} rows is claimed.",
        statistic=removal_rules.STATISTIC,
        estimate=0.0 if rows else None,
        n=rows,
        n_required=1,
        threshold=0.0,
        baseline="license ledger",
        remedy="Nothing to do." if rows else "Train the adapter on rows.",
        check_version=removal_rules.CHECK_VERSION,
        config={"notices": []},
        tier="rules",
        details={"notices": []},
    )
