"""Sensors: thin wrappers that compare an observation with the cursor and ask for exactly what follows.

The cursor is the state; `run_key` only guards against a tick that is delivered twice. Dagster remembers run keys for ever and drops
a repeated one silently, so each holds a counter: a license that goes A, B, A asks for work every time.
"""

import json
import os
from collections.abc import Callable

import dagster as dg

from ftplatform.canonical import digest
from ftplatform.defs.alerts import latest_evaluations, message, new_failures, post, state_of
from ftplatform.defs.changes import Observation, Request, changed, data_digests, license_digests, rebuild, relicense
from ftplatform.defs.checks import Mode
from ftplatform.defs.governor import announce, obeying
from ftplatform.defs.jobs import BUILD, REVALIDATE
from ftplatform.defs.keys import to_key
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.run_tags import MODE_TAG, TRIGGER_TAG
from ftplatform.defs.watching import look_round
from ftplatform.errors import FtplatformError

#: Seconds between looks. Hashing content is work; the license file of a source is small.
LICENSE_INTERVAL = 30
WATCH_INTERVAL = 60
DATA_INTERVAL = 60
ALERT_INTERVAL = 30


def change_sensor(
    name: str,
    reload: Callable[[], Plan],
    observe: Callable[[Plan], Observation],
    respond: Callable[[Plan, list[str]], Request],
    *,
    interval: int,
    description: str,
    judge_after: bool = False,
    tells_governors: bool = False,
) -> dg.SensorDefinition:
    """A sensor that requests `respond(changed names)` whenever `observe` differs from the cursor.

    Training that the governor of a reward loop holds is not requested; it is remembered, and requested once the governor lets it run.

    The first tick records a baseline and requests nothing. A project file or source that cannot be read is an error of the tick,
    with the cursor untouched: the change is seen once it is readable again.

    Args:
        reload: reads the project file anew; the code server lives longer than an edit of the file.
        observe: name -> digest, now.
        respond: the work a change asks for.
        judge_after: ask for a second run, of the affected checks on what exists. In the run that rebuilds, a refusal skips everything
            after it, and what stands there would not show what the change means for it.
        tells_governors: record the states of governors, and show them on the pages of their ledger and adapter when they change.
    """

    @dg.sensor(
        name=name,
        jobs=[BUILD, REVALIDATE],
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        plan = reload()
        now = observe(plan)
        cursor = json.loads(context.cursor) if context.cursor else None
        before = cursor or {}
        told, news = announce(plan, before.get("governors", {})) if tells_governors else ({}, [])
        state = {"sequence": before.get("sequence", 0), "seen": now, "held": before.get("held", []), "governors": told}
        if cursor is None:
            return dg.SensorResult(skip_reason="baseline recorded", cursor=json.dumps(state), asset_events=news)
        names = changed(now, cursor["seen"])
        answer = respond(plan, names) if names else Request((), ())
        request, state["held"] = obeying(plan, answer, state["held"])
        if not request.assets:
            if not names and not news:
                return dg.SkipReason("nothing changed")
            held = ", ".join(state["held"])
            why = f"held by a governor: {held}" if held else "nothing to build" if names else "nothing changed"
            return dg.SensorResult(skip_reason=why, cursor=json.dumps(state), asset_events=news)
        state["sequence"] += 1
        sequence = state["sequence"]
        key = f"{name}-{sequence}-{digest(now)[:16]}"
        run = dg.RunRequest(
            run_key=key,
            job_name=BUILD.name,
            asset_selection=[to_key(asset) for asset in request.assets],
            asset_check_keys=[dg.AssetCheckKey(to_key(asset), check) for asset, check in request.checks],
            tags={TRIGGER_TAG: name},
        )
        context.log.info(
            "changed: %s; requesting %d assets and %d checks; held by governors: %s",
            ", ".join(names) or "what governors let run again",
            len(request.assets),
            len(request.checks),
            ", ".join(state["held"]) or "none",
        )
        # What is not trained again is judged all the same: what changed may forbid it.
        runs = [run, *_judge_existing(plan, answer, key, name)] if judge_after else [run]
        return dg.SensorResult(run_requests=runs, cursor=json.dumps(state), asset_events=news)

    return sensor


def _judge_existing(plan: Plan, request: Request, key: str, trigger: str) -> list[dg.RunRequest]:
    """A run of the requested checks that have something to look at; none if there is none."""
    store = plan.open_store()
    built = {asset for asset in plan.lineage.assets if store.head(asset)}
    wanted = set(request.checks)
    checks = [c for c in plan.checks if (c.asset, c.name) in wanted and {c.asset, *c.looks_at} <= built]
    if not checks:
        return []
    keys = [dg.AssetCheckKey(to_key(check.asset), check.name) for check in checks]
    tags = {TRIGGER_TAG: trigger, MODE_TAG: str(Mode.RUN)}
    return [dg.RunRequest(run_key=f"{key}-judge", job_name=REVALIDATE.name, asset_check_keys=keys, tags=tags)]


def license_sensor(reload: Callable[[], Plan]) -> dg.SensorDefinition:
    """Declared licenses, evidence files, policy or uses changed: check and rebuild what hangs on them."""
    return change_sensor(
        "license_declarations",
        reload,
        license_digests,
        relicense,
        interval=LICENSE_INTERVAL,
        judge_after=True,
        description="Watches license declarations and their evidence; requests exactly the descendants of what changed.",
    )


def watch_sensor(reload: Callable[[], Plan]) -> dg.SensorDefinition:
    """Looks at the places where terms are stated; what the looks change in the ledger, `license_declarations` answers."""

    @dg.sensor(
        name="license_watch",
        minimum_interval_seconds=WATCH_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at watched licenses that are due, and records what changed in the license ledger.",
    )
    def sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SkipReason:
        found = look_round(reload(), store.open())
        for place, problem in found.problems.items():
            context.log.warning("%s: %s", place, problem)
        return dg.SkipReason(f"{found.looked} places looked at, {found.news} news")

    return sensor


def data_sensor(reload: Callable[[], Plan]) -> dg.SensorDefinition:
    """Bytes of a source changed: rebuild and retrain what is made from it."""
    return change_sensor(
        "source_content",
        reload,
        data_digests,
        rebuild,
        interval=DATA_INTERVAL,
        tells_governors=True,
        description="Watches the content (not the dates) of source files; requests exactly the descendants of what changed.",
    )


def alert_sensor(plan: Plan) -> dg.SensorDefinition:
    """Tells about checks that did not pass: always to the log, and to the webhook if one is configured.

    Reads the store, so that a failing non-blocking check, after which the run is a success, is told as well. An alert whose delivery
    failed is told again at the next tick.
    """

    @dg.sensor(
        name="check_failure_alert",
        minimum_interval_seconds=ALERT_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Logs newly failed checks and posts them to the alert webhook.",
    )
    def sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult | dg.SkipReason:
        latest = latest_evaluations(plan.checks, store.open())
        seen = json.loads(context.cursor) if context.cursor else {}
        now = {key: state_of(evaluation) for key, evaluation in latest.items()}
        failures = new_failures(latest, seen)
        if not failures:
            if now != seen:
                context.update_cursor(json.dumps(now))
            return dg.SkipReason("no new failures")
        text = message(failures)
        context.log.warning(text)
        if variable := plan.project.alerts.webhook_env:
            url = os.environ.get(variable)
            if not url:
                raise FtplatformError(
                    f"alerts.webhook_env names {variable}, which is not set.", remedy=f"Set {variable} for the daemon."
                )
            post(url, text)
        return dg.SensorResult(skip_reason=f"told {len(failures)} failed checks", cursor=json.dumps(now))

    return sensor
