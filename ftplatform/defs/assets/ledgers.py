"""Assets that are records rather than training rows: the license ledger; reward ledgers from `rewards`, serving logs from `serving`."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ftplatform.canonical import digest
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import asset_options, define
from ftplatform.defs.assets.rewards import reward_assets
from ftplatform.defs.assets.serving import serving_assets
from ftplatform.defs.keys import LICENSE_LEDGER
from ftplatform.defs.ledger import license_state, observe_declarations, open_ledger
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "1"


def ledger_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """`license_ledger`, `reward_ledgers/*`, `serving/*`."""
    yield _license_ledger(plan)
    yield from reward_assets(plan)
    yield from serving_assets(plan)


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


def _describe(path: str) -> Any:
    def describe(snapshot: Snapshot) -> Metadata:
        table = snapshot.read_table(path)
        return {**table_metadata(table), "records": records_table(table.slice(0, 50).to_pylist())}

    return describe
