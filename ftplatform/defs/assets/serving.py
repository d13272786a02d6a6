"""`serving/*`: the request log of an endpoint, its hours of the week, and the plan that keeps its adapter warm."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import asset_options, define
from ftplatform.defs.assets.reading import content, counts_record
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.serving import Endpoint
from ftplatform.rows.sources import list_files
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "2"

#: Settings that decide what is in the snapshot; the rest decides how it is judged.
_READING = {"fields", "pings", "timezone", "idle_threshold", "replicas", "user_hours", "costs"}


def serving_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One asset per endpoint."""
    for name, endpoint in plan.project.endpoints.items():
        yield _serving(plan, asset_name(Family.SERVING, name), endpoint)


def _serving(plan: Plan, asset: str, endpoint: Endpoint) -> dg.AssetsDefinition:
    options = asset_options(
        asset,
        kinds=["parquet"],
        owner=endpoint.owner,
        description=endpoint.description,
        default="Request log of an endpoint, with its traffic by hour of the week and its keep-warm plan.",
    )

    @define(options, code_version=CODE_VERSION)
    def serving(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.serving.idle import idle_gaps, touches
            from ftplatform.serving.idle_threshold import known_threshold
            from ftplatform.serving.planning import keep_warm_facts
            from ftplatform.serving.request_log import read_requests
            from ftplatform.serving.request_marks import PingRule
            from ftplatform.serving.traffic import hour_of_week

            rule = PingRule(marker=endpoint.pings.marker, texts=tuple(endpoint.pings.texts))
            files = list_files(endpoint.path, plan.root)
            read = read_requests(files, source=asset, fields=dict(endpoint.fields), pings=rule)
            draft.add_table("requests.parquet", read.table)
            draft.add_table("quarantine.parquet", read.quarantine)
            draft.add_table("hour_of_week.parquet", hour_of_week(read.table, timezone=endpoint.timezone))
            costs = endpoint.costs
            facts = keep_warm_facts(
                read.table,
                known_threshold(touches(read.table), endpoint.idle_threshold),
                None if costs is None else (costs.ping, costs.cold_start),
                replicas=endpoint.replicas,
                user_hours=endpoint.watched_hours,
                timezone=endpoint.timezone,
            )
            return {"counts": counts_record(read.counts), "idle_gaps": idle_gaps(read.table), **facts}

        config = {"files": content(plan, endpoint.path), "reading": endpoint.model_dump(mode="json", include=_READING)}
        return build(context, store.open(), Recipe(asset, CODE_VERSION, config=config), fill, _describe)

    return serving


def _describe(snapshot: Snapshot) -> Metadata:
    table = snapshot.read_table("hour_of_week.parquet")
    plan = snapshot.facts.get("keep_warm_plan") or {}
    shown = {f"keep_warm_{key}": value for key, value in plan.items() if isinstance(value, str | int | float)}
    return {**table_metadata(table), "records": records_table(table.slice(0, 50).to_pylist()), **shown}
