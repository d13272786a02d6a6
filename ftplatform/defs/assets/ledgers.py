"""Assets that are records rather than training rows: the license ledger, reward ledgers, serving logs."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ftplatform.canonical import digest
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import asset_options, define
from ftplatform.defs.assets.reading import content, counts_record
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name
from ftplatform.defs.ledger import license_state, observe_declarations, open_ledger
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.models import Endpoint, Reward
from ftplatform.rows.sources import list_files
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "1"


def ledger_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """`license_ledger`, `reward_ledgers/*`, `serving/*`."""
    yield _license_ledger(plan)
    for name, reward in plan.project.rewards.items():
        yield _reward_ledger(plan, asset_name(Family.REWARD_LEDGERS, name), reward)
    for name, endpoint in plan.project.endpoints.items():
        yield _serving(plan, asset_name(Family.SERVING, name), endpoint)


def _license_ledger(plan: Plan) -> dg.AssetsDefinition:
    options = asset_options(
        LICENSE_LEDGER,
        kinds=["parquet"],
        owner=None,
        description=None,
        default="What is declared and concluded about every license, and what follows.",
    )

    @define(options, code_version=CODE_VERSION)
    def license_ledger(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        from ftplatform.licensing.ledger import ledger_table

        opened, policy = store.open(), plan.policy
        with open_ledger(plan.root, opened) as ledger:
            news = observe_declarations(ledger, plan.declared_terms)
        terms = license_state(plan.loaded, plan.declared_terms, opened).terms

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            draft.add_table("ledger.parquet", ledger_table(terms.values(), policy))
            return {"policy": policy.digest, "entries": len(terms)}

        config = {"policy": policy.digest, "terms": digest({name: t.digest for name, t in terms.items()})}
        result = build(context, opened, Recipe(LICENSE_LEDGER, CODE_VERSION, config), fill, _describe("ledger.parquet"))
        return result._replace(metadata={**(result.metadata or {}), "news": news})

    return license_ledger


def _reward_ledger(plan: Plan, asset: str, reward: Reward) -> dg.AssetsDefinition:
    options = asset_options(
        asset,
        kinds=["parquet"],
        owner=reward.owner,
        description=reward.description,
        default="Proxy reward and human outcome of the same items, per checkpoint.",
    )

    @define(options, code_version=CODE_VERSION)
    def reward_ledger(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.rewards.ledger import per_checkpoint, read_rewards

            read = read_rewards(list_files(reward.path, plan.root), source=asset)
            draft.add_table("rewards.parquet", read.table)
            draft.add_table("quarantine.parquet", read.quarantine)
            draft.add_table("checkpoints.parquet", per_checkpoint(read.table))
            return {"counts": counts_record(read.counts)}

        recipe = Recipe(asset, CODE_VERSION, config={"files": content(plan, reward.path)})
        return build(context, store.open(), recipe, fill, _describe("checkpoints.parquet"))

    return reward_ledger


def _serving(plan: Plan, asset: str, endpoint: Endpoint) -> dg.AssetsDefinition:
    options = asset_options(
        asset,
        kinds=["parquet"],
        owner=endpoint.owner,
        description=endpoint.description,
        default="Request log of an endpoint, with its hour-of-week traffic and idle gaps.",
    )

    @define(options, code_version=CODE_VERSION)
    def serving(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.serving.request_log import hour_of_week, idle_gaps, read_requests

            read = read_requests(list_files(endpoint.path, plan.root), source=asset, fields=dict(endpoint.fields))
            draft.add_table("requests.parquet", read.table)
            draft.add_table("quarantine.parquet", read.quarantine)
            draft.add_table("hour_of_week.parquet", hour_of_week(read.table))
            return {"counts": counts_record(read.counts), "idle_gaps": idle_gaps(read.table)}

        recipe = Recipe(asset, CODE_VERSION, config={"files": content(plan, endpoint.path), "fields": dict(endpoint.fields)})
        return build(context, store.open(), recipe, fill, _describe("hour_of_week.parquet"))

    return serving


def _describe(path: str) -> Any:
    def describe(snapshot: Snapshot) -> Metadata:
        table = snapshot.read_table(path)
        return {**table_metadata(table), "records": records_table(table.slice(0, 50).to_pylist())}

    return describe
