"""The one function tests, command line and production call: a project file in, Dagster definitions out."""

import dagster as dg

from ftplatform.defs.asset_checks.bind import bind
from ftplatform.defs.assets import all_assets
from ftplatform.defs.io_managers import SnapshotIOManager
from ftplatform.defs.jobs import BUILD, REVALIDATE
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.schedules import nightly
from ftplatform.defs.sensors import alert_sensor, data_sensor, license_sensor, watch_sensor
from ftplatform.project.loading import LoadedProject, load_project
from ftplatform.rows.masking import mask_logs


def build_defs(loaded: LoadedProject) -> dg.Definitions:
    """Definitions of one project.

    The executor is in-process: Dagster's multiprocess executor costs seconds per step, and training isolates itself when the
    project asks for it (`adapters.*.launcher`).

    Whoever loads them into a process gets masked logs with them: steps read rows, and what they log is kept in Dagster's database.
    """
    mask_logs()
    plan = Plan(loaded)
    store = StoreResource(url=plan.store_url, options=dict(plan.project.store_options))

    def reload() -> Plan:
        return Plan(load_project(loaded.path))

    return dg.Definitions(
        assets=all_assets(plan),
        asset_checks=[bind(check, plan.lineage.ancestors(check.asset)) for check in plan.checks],
        jobs=[BUILD, REVALIDATE],
        schedules=[nightly(plan.project.schedules, reload)],
        sensors=[watch_sensor(reload), license_sensor(reload), data_sensor(reload), alert_sensor(plan)],
        resources={"store": store, "io_manager": SnapshotIOManager(store=store)},
        executor=dg.in_process_executor,
    )
