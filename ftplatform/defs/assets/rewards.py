"""`reward_ledgers/*`: what the proxy said and what people found, checkpoint by checkpoint."""

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
from ftplatform.plots import markdown_image
from ftplatform.project.rewards import Reward
from ftplatform.rows.sources import list_files
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "2"
#: Tables of the snapshot: the ledger, and its means per checkpoint (style included).
REWARDS_FILE, COURSE_FILE = "rewards.parquet", "checkpoints.parquet"
_SHOWN = 50


def reward_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One asset per reward ledger."""
    for name, reward in plan.project.rewards.items():
        yield _reward_ledger(plan, asset_name(Family.REWARD_LEDGERS, name), reward)


def _reward_ledger(plan: Plan, asset: str, reward: Reward) -> dg.AssetsDefinition:
    options = asset_options(
        asset,
        kinds=["parquet"],
        owner=reward.owner,
        description=reward.description,
        default="Proxy reward and human outcome of the same items, per checkpoint.",
    )

    fields: dict[str, str] = {**reward.fields}

    @define(options, code_version=CODE_VERSION)
    def reward_ledger(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.rewards.ledger import per_checkpoint, read_rewards

            read = read_rewards(list_files(reward.path, plan.root), source=asset, fields=fields)
            draft.add_table(REWARDS_FILE, read.table)
            draft.add_table("quarantine.parquet", read.quarantine)
            draft.add_table(COURSE_FILE, per_checkpoint(read.table))
            return {"counts": counts_record(read.counts)}

        recipe = Recipe(asset, CODE_VERSION, config={"files": content(plan, reward.path), "fields": fields})
        return build(context, store.open(), recipe, fill, _describe)

    return reward_ledger


def _describe(snapshot: Snapshot) -> Metadata:
    from ftplatform.rewards.course_plot import course_plot

    course = snapshot.read_table(COURSE_FILE)
    latest = course.slice(max(0, course.num_rows - _SHOWN))
    return {
        **table_metadata(course),
        "course": dg.MetadataValue.md(markdown_image(course_plot(course), alt="reward and outcome per checkpoint")),
        "records": records_table(latest.to_pylist()),
    }
