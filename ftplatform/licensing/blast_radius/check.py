"""The check `license_blast_radius`: did anything that was revoked or is in dispute reach this adapter? (SPEC M2)"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ftplatform.licensing.blast_radius.drawing import path_svg
from ftplatform.licensing.blast_radius.radius import BlastRadius, Reach, Step, path_text
from ftplatform.licensing.states import STANDING, State
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "1"

#: States that make a source worth following: its concluded terms no longer count, or some of its rows were withdrawn.
AT_RISK: frozenset[State] = (frozenset(State) - STANDING) | {State.WITHDRAWN_ROWS}


def license_blast_radius(
    radii: Iterable[BlastRadius], states: Mapping[str, State], adapter: str, *, downstream: Collection[str]
) -> Verdict:
    """Whether a revoked or disputed source reaches an adapter, or what was measured about it.

    Args:
        radii: the blast radius of every source in a state of `AT_RISK` (others are ignored).
        states: the state of every source that is looked at, by name; the sources of the adapter and of its evaluations at least.
        adapter: its snapshot.
        downstream: what was made from it (`GraphIndex.downstream`), so that evaluations resting on such a source are seen although the
            source is not in the weights.

    Returns:
        Warn if any reaches it; pass if none does, with n the number of sources looked at; insufficient evidence if there are none, or
        if a source at risk came without its radius.
    """
    by_source = {radius.source: radius for radius in radii}
    at_risk = sorted(source for source, state in states.items() if State(state) in AT_RISK)
    lacking = [source for source in at_risk if source not in by_source]
    reaches = [by_source[source].reach(adapter, downstream) for source in at_risk if source in by_source]
    hits = sorted((reach for reach in reaches if reach.affected or reach.evaluations), key=_gravity)

    def verdict(decision: Decision, summary: str, remedy: str, estimate: float | None = float(len(hits))) -> Verdict:
        return Verdict(
            decision=decision,
            summary=summary,
            statistic="revoked or disputed sources that reach the adapter",
            n=len(states),
            n_required=1,
            estimate=estimate,
            threshold=0.0,
            baseline="license ledger",
            evidence=[_evidence(reach, states[reach.source]) for reach in hits[:MAX_EVIDENCE]],
            remedy=remedy,
            check_version=CHECK_VERSION,
            config={"at_risk": sorted(str(state) for state in AT_RISK)},
            tier="rules",
            plot=path_svg([path for reach in hits for path in _paths(reach)], title="How they reach it") if hits else None,
            details={"adapter": adapter, "at_risk": at_risk},
        )

    if not states:
        return verdict(
            Decision.INSUFFICIENT_EVIDENCE,
            "The ledger knows no source of this adapter.",
            "Refresh the license ledger.",
            estimate=None,
        )
    if hits:
        first = hits[0]
        names = ", ".join(reach.source for reach in hits[:3]) + (f" and {len(hits) - 3} more" if len(hits) > 3 else "")
        return verdict(
            Decision.WARN,
            f"{len(hits)} of {len(states)} sources are revoked or disputed and reach this adapter or what is claimed about it: {names}.",
            f"Decide about {first.source} ({states[first.source]}): retrain without it, or conclude its license anew.",
        )
    if lacking:
        return verdict(
            Decision.INSUFFICIENT_EVIDENCE,
            f"Nobody followed {lacking[0]}, which is {states[lacking[0]]}"
            + (f", and {len(lacking) - 1} more." if len(lacking) > 1 else "."),
            "Rebuild the lineage index, then run the check again.",
            estimate=None,
        )
    return verdict(
        Decision.PASS, f"None of {len(states)} sources that is revoked or disputed reaches this adapter.", "Nothing to do."
    )


def _gravity(reach: Reach) -> tuple[int, int, str]:
    """Worst first: strongest influence, then most rows."""
    if reach.affected is None:
        return (9, 0, reach.source)
    return (reach.affected.influences[0], -(reach.affected.tainted_rows or 0), reach.source)


def _paths(reach: Reach) -> list[tuple[Step, ...]]:
    listed = [reach.affected] if reach.affected else list(reach.evaluations[:1])
    return [affected.path for affected in (*reach.endpoints[:2], *listed)]


def _evidence(reach: Reach, state: State) -> dict[str, Scalar]:
    affected = reach.affected
    return {
        "source": reach.source,
        "state": str(state),
        "influence": ", ".join(i.label for i in affected.influences) if affected else "claim",
        "tainted_rows": affected.tainted_rows if affected else None,
        "shared_rows": affected.shared_rows if affected else None,
        "token_share": affected.token_share if affected else None,
        "step_share": affected.step_share if affected else None,
        "derived_rows": affected.derived_rows if affected else None,
        "evaluations": len(reach.evaluations),
        "endpoints": ", ".join(endpoint.asset for endpoint in reach.endpoints),
        "gpu_hours_to_retrain": reach.retraining.gpu_hours,
        "adapters_without_cost": reach.retraining.unmeasured,
        "path": path_text((affected or reach.evaluations[0]).path),
    }
