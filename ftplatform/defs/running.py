"""Runs a selection in this process, for the command line and the tests: the same job the UI launches."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from ftplatform.defs.build import build_defs
from ftplatform.defs.checks import Check, Mode, lane
from ftplatform.defs.keys import from_key
from ftplatform.defs.plan import Plan
from ftplatform.defs.run_tags import MODE_TAG, REBUILD_TAG
from ftplatform.errors import FtplatformError
from ftplatform.store import Evaluation


@dataclass(frozen=True)
class RunOutcome:
    """What a run did.

    Attributes:
        run_id: Dagster's id, empty if there was nothing to run.
        success: whether every step succeeded.
        materialized: assets built or confirmed.
        refusals: step -> why a gate or a blocking check refused it.
        errors: step -> what went wrong otherwise.
        checks: latest evaluation of every selected check, None where it was never judged.
    """

    run_id: str
    success: bool
    materialized: tuple[str, ...]
    refusals: dict[str, str]
    errors: dict[str, str]
    checks: tuple[tuple[Check, Evaluation | None], ...]

    @property
    def refused(self) -> bool:
        """Whether a step failed or a check refuses."""
        return not self.success or any(
            e is not None and e.verdict is not None and not e.verdict.passed and e.severity == "error" for _, e in self.checks
        )


def select_assets(plan: Plan, definitions: dg.Definitions, selection: str | None) -> list[str]:
    """Assets of a Dagster selection string, parents first; a bare name such as ``adapters/support`` selects that asset.

    Raises:
        FtplatformError: if the selection does not parse or selects nothing.
    """
    if not selection or selection == "*":
        return list(plan.lineage.assets)
    if selection in plan.lineage.parents:
        return [selection]
    graph = definitions.resolve_asset_graph()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's own parser of `not ...` uses a beta parameter
            keys = dg.AssetSelection.from_string(selection).resolve(graph)
    except (dg.DagsterError, ValueError) as error:
        raise FtplatformError(
            f"{selection!r} is not a valid selection: {error}", remedy='Try: key:"adapters/*" or +key:"releases/support"'
        ) from error
    chosen = {from_key(key) for key in keys}
    if not chosen:
        raise FtplatformError(f"{selection!r} selects no asset.", remedy=f"Assets: {', '.join(plan.lineage.assets)}")
    return [asset for asset in plan.lineage.assets if asset in chosen]


def materialize(plan: Plan, instance: dg.DagsterInstance, selection: str | None = None, *, rebuild: bool = False) -> RunOutcome:
    """Materialize a selection with all its checks."""
    definitions = build_defs(plan.loaded)
    assets = select_assets(plan, definitions, selection)
    checks = plan.checks_of(assets)
    tags = {REBUILD_TAG: "true"} if rebuild else {}
    return _execute(plan, definitions, instance, assets, checks, tags)


def check(plan: Plan, instance: dg.DagsterInstance, selection: str | None = None, *, mode: Mode = Mode.RUN) -> RunOutcome:
    """Judge the checks of a selection on what exists; materialize nothing. Assets never built are left out."""
    definitions = build_defs(plan.loaded)
    store = plan.open_store()
    built = {asset for asset in plan.lineage.assets if store.head(asset)}
    selected = plan.checks_of(select_assets(plan, definitions, selection))
    checks = [c for c in selected if c.asset in built and set(c.looks_at) <= built]
    if not checks:
        raise FtplatformError("nothing has been built yet that could be checked.", remedy="Run: ftplatform run")
    outcome = _execute(plan, definitions, instance, [], checks, {MODE_TAG: str(mode)})
    left_out = [(c, None) for c in selected if c not in checks]
    return RunOutcome(
        outcome.run_id, outcome.success, outcome.materialized, outcome.refusals, outcome.errors, (*outcome.checks, *left_out)
    )


def _execute(
    plan: Plan,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    assets: Sequence[str],
    checks: Sequence[Check],
    tags: dict[str, str],
) -> RunOutcome:
    selection = dg.AssetSelection.assets(*(asset.split("/") for asset in assets)).without_checks() if assets else None
    for c in checks:
        one = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(c.asset.split("/")), c.name))
        selection = one if selection is None else selection | one
    assert selection is not None
    job = dg.define_asset_job("selected", selection=selection)
    resolved = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("selected")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    result = resolved.execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags=tags,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    refusals: dict[str, str] = {}
    errors: dict[str, str] = {}
    for event in result.all_events:
        if event.is_step_failure and event.step_key:
            (refusals if _is_refusal(event) else errors)[event.step_key] = _reason(event)
    store = plan.open_store()
    mode = Mode(tags.get(MODE_TAG, str(Mode.RUN)))
    evaluations = tuple((c, store.latest_evaluation(c.asset, lane(c.name, mode, c.statistical))) for c in checks)
    materialized = tuple(from_key(e.asset_key) for e in result.get_asset_materialization_events() if e.asset_key)
    return RunOutcome(result.run_id, result.success, materialized, refusals, errors, evaluations)


def _is_refusal(event: dg.DagsterEvent) -> bool:
    data = event.step_failure_data
    if data.user_failure_data is not None:  # dg.Failure: the gate speaks
        return True
    return data.error is not None and data.error.cls_name == "DagsterAssetCheckFailedError"


def _reason(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    # Dagster wraps what a step raised; what that was raised from is for the log.
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error.message.strip() if error else "failed"
