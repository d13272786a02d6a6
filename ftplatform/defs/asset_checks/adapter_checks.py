"""M1 on the graph: an adapter is its closure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from ftplatform.closure import complete, equivalence, rehearsal_checks
from ftplatform.closure.rehearsal import read_scores, rehearsals
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.op_tags import GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.rehearsals import rehearsed_lately, with_scores
from ftplatform.project.models import Adapter
from ftplatform.verdict import Verdict


def adapter_checks(plan: Plan) -> Iterator[Check]:
    """`closure_complete`, `closure_replay`, `bus_factor` on every adapter; `closure_equivalent` blocks where it was asked for.

    Replicates cost as many training runs as there are seeds, and nobody has made any when an adapter is trained for the first time. So
    an adapter that does not ask for them (`rehearsal`) has `closure_equivalent` judged where somebody made some, and only a failure
    counts; one that asks is not released before they are there and agree.
    """
    for name, adapter in plan.project.adapters.items():
        asset = asset_name(Family.ADAPTERS, name)
        yield Check(
            name="closure_complete",
            asset=asset,
            judge=_closure_complete,
            version=complete.CHECK_VERSION,
            description="Every reference of the closure resolves to bytes that re-hash; nothing in it is pinned to a person or a machine.",
        )
        yield Check(
            name="closure_replay",
            asset=asset,
            judge=_closure_replay,
            version=rehearsal_checks.CHECK_VERSION,
            description="The first steps, trained again from the closure alone in a fresh process, give the same losses.",
            blocking=False,
            required=False,
            pool=GPU_POOL,
        )
        yield _closure_equivalent(asset, replicates_asked_for(adapter))
        yield _bus_factor(asset, adapter)


def replicates_asked_for(adapter: Adapter) -> int | None:
    """How many replicates an adapter's release needs; None if the project does not ask for any."""
    return None if adapter.rehearsal is None else adapter.rehearsal.seeds


def _closure_complete(judging: Judging) -> Verdict:
    manifest = judging.snapshot.read_json("closure/closure.json")
    resolve = complete.store_resolver(judging.store, judging.snapshot.digest)
    return complete.closure_complete(manifest, resolve, name=str(judging.snapshot.facts["closure"]))


def _closure_replay(judging: Judging) -> Verdict:
    rehearsal, waiting = rehearsed_lately(judging.store, judging.snapshot)
    return rehearsal_checks.closure_replay(rehearsal, waiting=waiting)


def _closure_equivalent(asset: str, asked_for: int | None) -> Check:
    required = asked_for or equivalence.LEAST_REPLICATES

    def judge(judging: Judging) -> Verdict:
        backend = judging.store.backend
        margin = equivalence.MARGIN if judging.threshold is None else judging.threshold
        rehearsal = with_scores(rehearsals(backend, asset), str(judging.snapshot.facts["closure"]))
        kept = rehearsal.scores if rehearsal is not None else None
        tables = read_scores(backend, [kept.adapter, *(r["scores"] for r in kept.replicates)]) if kept is not None else []
        own = tables[0] if tables else equivalence.SCORES_SCHEMA.empty_table()
        return equivalence.closure_equivalent(own, tables[1:], margin=margin, alpha=judging.alpha, required=required)

    return Check(
        name="closure_equivalent",
        asset=asset,
        judge=judge,
        version=equivalence.CHECK_VERSION,
        description="The adapter behaves like replicates of itself under other seeds: every metric, and every slice.",
        blocking=True,
        required=asked_for is not None,
        deciding={"replicates": required},
    )


def _bus_factor(asset: str, adapter: Adapter) -> Check:
    author = None if adapter.owner is None or adapter.owner.startswith("team:") else adapter.owner

    def judge(judging: Judging) -> Verdict:
        rehearsed = rehearsals(judging.store.backend, asset)
        return rehearsal_checks.bus_factor(rehearsed, author=author, now=datetime.now(UTC))

    return Check(
        name="bus_factor",
        asset=asset,
        judge=judge,
        version=rehearsal_checks.CHECK_VERSION,
        description="Somebody besides the author has lately replayed the adapter to the end.",
        severity="warn",
        blocking=False,
        required=False,
        deciding={"author": author},
    )
