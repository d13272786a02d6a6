"""Schedules: the nightly re-validation."""

import dagster as dg

from ftplatform.defs.jobs import REVALIDATE
from ftplatform.project.models import Schedules


def nightly(schedules: Schedules) -> dg.ScheduleDefinition:
    """Runs all checks and materializes nothing.

    A schedule on a check-only job rather than `AutomationCondition.on_cron` on the checks: `on_cron` waits for new data and would
    never look again at what did not change, and licenses change while data does not.
    """
    return dg.ScheduleDefinition(
        name="nightly",
        job=REVALIDATE,
        cron_schedule=schedules.nightly,
        execution_timezone=schedules.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Re-validates every asset and rebuilds none.",
    )
