"""M1 on the graph: an adapter is its closure."""

from collections.abc import Iterator

from ftplatform.closure import complete
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.verdict import Verdict


def adapter_checks(plan: Plan) -> Iterator[Check]:
    """`closure_complete` on every adapter."""
    for name in plan.project.adapters:
        yield Check(
            name="closure_complete",
            asset=asset_name(Family.ADAPTERS, name),
            judge=_closure_complete,
            version=complete.CHECK_VERSION,
            description="Every reference of the closure resolves to bytes that re-hash; nothing in it is pinned to a person or a machine.",
        )


def _closure_complete(judging: Judging) -> Verdict:
    manifest = judging.snapshot.read_json("closure/closure.json")
    resolve = complete.store_resolver(judging.store, judging.snapshot.digest)
    return complete.closure_complete(manifest, resolve, name=str(judging.snapshot.facts["closure"]))
