"""`reward_ledgers/*`: what the proxy said and what people found, checkpoint by checkpoint."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.reading import content, counts_record
from ftplatform.defs.assets.reward_loops import LOOP_PACKAGES, LOOP_VERSION, loop_config, loop_role, run_loop
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.op_tags import GPU_OP_TAGS, GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.plots import markdown_image
from ftplatform.project.rewards import Reward, RewardLoop
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

    if reward.loop is not None:
        return _run_here(plan, asset, reward, reward.loop, options)
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


def _run_here(plan: Plan, asset: str, reward: Reward, loop: RewardLoop, options: dict[str, Any]) -> dg.AssetsDefinition:
    parents = plan.lineage.parents[asset]

    @define(
        options,
        code_version=f"{CODE_VERSION}.{LOOP_VERSION}",
        ins={argument(p): dg.AssetIn(to_key(p)) for p in parents},
        pool=GPU_POOL,
        op_tags=GPU_OP_TAGS,
    )
    def reward_loop(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        require_gates(asset, plan.gates_of(asset), opened, snapshots)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.rewards.ledger import per_checkpoint

            ledger, stopped = run_loop(plan, asset, reward, loop, snapshots, opened, draft)
            draft.add_table(REWARDS_FILE, ledger)
            draft.add_table(COURSE_FILE, per_checkpoint(ledger))
            return {"stopped": stopped}

        recipe = Recipe(
            asset,
            f"{CODE_VERSION}.{LOOP_VERSION}",
            config=loop_config(plan, reward, loop),
            inputs=[(loop_role(loop, p), s) for p, s in snapshots.items()],
            packages=LOOP_PACKAGES,
        )
        return build(context, opened, recipe, fill, _describe)

    return reward_loop


def _describe(snapshot: Snapshot) -> Metadata:
    from ftplatform.rewards.course_plot import course_plot

    course = snapshot.read_table(COURSE_FILE)
    latest = course.slice(max(0, course.num_rows - _SHOWN))
    stopped = snapshot.facts.get("stopped")
    return {
        **({"stopped": dg.MetadataValue.text(stopped)} if stopped else {}),
        **table_metadata(course),
        "course": dg.MetadataValue.md(markdown_image(course_plot(course), alt="reward and outcome per checkpoint")),
        "records": records_table(latest.to_pylist()),
    }
