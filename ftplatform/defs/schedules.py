"""Schedules: the nightly re-validation."""

from collections.abc import Callable

import dagster as dg

from ftplatform.defs.jobs import REVALIDATE
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.watching import look_round
from ftplatform.errors import FtplatformError
from ftplatform.project.models import Schedules


def nightly(schedules: Schedules, reload: Callable[[], Plan]) -> dg.ScheduleDefinition:
    """Refreshes the license ledger, runs all checks, and materializes nothing.

    A schedule on a check-only job rather than `AutomationCondition.on_cron` on the checks: `on_cron` waits for new data and would
    never look again at what did not change, and licenses change while data does not.
    """

    @dg.schedule(
        name="nightly",
        job=REVALIDATE,
        cron_schedule=schedules.nightly,
        execution_timezone=schedules.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks at every watched license, re-validates every asset and rebuilds none.",
    )
    def schedule(context: dg.ScheduleEvaluationContext, store: StoreResource) -> dg.RunRequest:
        try:
            found = look_round(reload(), store.open(), everything=True)
            for place, problem in found.problems.items():
                context.log.warning("%s: %s", place, problem)
        except FtplatformError as error:
            # The night goes on: `license_fresh` tells of a look that did not happen.
            context.log.warning("the license ledger was not refreshed: %s", error)
        return dg.RunRequest()

    return schedule
