"""`eval_results/*`: base and tuned model asked the same questions; the answers are kept, so that checks can judge them again."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform import progress
from ftplatform.defs.access import record_decisions, vault_names
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.metadata import Metadata, records_table
from ftplatform.defs.op_tags import GPU_OP_TAGS, GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.models import Adapter
from ftplatform.rows.schema import Role
from ftplatform.store import Snapshot, SnapshotDraft, Store

CODE_VERSION = "2"
#: Folder of the adapter's files inside its snapshot.
ADAPTER_FOLDER = "adapter"
#: Length limit for answers to reserved rows, and the most of them that are asked.
RESERVE_NEW_TOKENS = 64
RESERVE_ITEMS = 400
_TEMPLATE_TOKENS = 16
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")


def eval_result_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One per adapter."""
    for name, adapter in plan.project.adapters.items():
        yield _eval_result(plan, name, adapter)


def _eval_result(plan: Plan, name: str, adapter: Adapter) -> dg.AssetsDefinition:
    asset = asset_name(Family.EVAL_RESULTS, name)
    parents = plan.lineage.parents[asset]
    options = asset_options(
        asset,
        kinds=["pytorch"],
        owner=adapter.owner,
        description=None,
        default=f"Answers of {adapter.base} and of the tuned model, side by side.",
    )

    @define(
        options,
        code_version=CODE_VERSION,
        ins={argument(p): dg.AssetIn(to_key(p)) for p in parents},
        pool=GPU_POOL,
        op_tags=GPU_OP_TAGS,
    )
    def eval_result(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        require_gates(asset, plan.gates_of(asset), opened, snapshots)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            return _evaluate(plan, name, adapter, snapshots, opened, draft)

        config = {
            "system_prompt": adapter.system_prompt,
            "eval_sets": {
                e: plan.project.eval_sets[e].model_dump(mode="json", include={"kind", "metric", "max_new_tokens"})
                for e in evals_of(plan.project, adapter)
            },
            "reserve": [RESERVE_NEW_TOKENS, RESERVE_ITEMS],
        }
        inputs_by_role = [(_role(p), s) for p, s in snapshots.items()]
        recipe = Recipe(asset, CODE_VERSION, config=config, inputs=inputs_by_role, packages=_PACKAGES)
        result = build(context, opened, recipe, fill, _describe)
        # Recorded before anybody can see the results.
        record_decisions(opened, result.value, vault_names(plan.project), adapter.system_prompt)
        return result

    return eval_result


def _role(asset: str) -> str:
    return {Family.ADAPTERS: "adapter", Family.BASE_MODELS: "base_model", Family.SPLITS: "reserve"}.get(
        Family(asset.split("/")[0]), "evaluates"
    )


def _evaluate(
    plan: Plan, name: str, adapter: Adapter, snapshots: Mapping[str, Snapshot], store: Store, draft: SnapshotDraft
) -> Mapping[str, Any]:
    from ftplatform.evaluation.generation import Generator
    from ftplatform.evaluation.suite import EvalSet, Kind, evaluate
    from ftplatform.evaluation.tasks import Metric

    sets = []
    for e in evals_of(plan.project, adapter):
        spec = plan.project.eval_sets[e]
        rows = snapshots[asset_name(Family.EVAL_SETS, e)].read_table("rows.parquet")
        sets.append(
            EvalSet(name=e, kind=Kind(spec.kind), rows=rows, metric=Metric(spec.metric), max_new_tokens=spec.max_new_tokens)
        )
    base = snapshots[asset_name(Family.BASE_MODELS, adapter.base)]
    held_out = snapshots[asset_name(Family.SPLITS, adapter.dataset)].read_table("eval.parquet")
    reserve = _answered(held_out, base.facts.get("max_tokens")).slice(0, RESERVE_ITEMS)
    if reserve.num_rows:
        # Rows of the mix itself, set aside before deduplication: they can see what deduplication removed.
        sets.append(
            EvalSet(name="reserve", kind=Kind.TASK, rows=reserve, metric=Metric.TOKEN_F1, max_new_tokens=RESERVE_NEW_TOKENS)
        )
    generator = Generator.load(
        base.local_folder(MODEL_FOLDER),
        snapshots[asset_name(Family.ADAPTERS, name)].local_folder(ADAPTER_FOLDER),
        threads=adapter.training.threads,
    )
    result = evaluate(
        generator,
        sets,
        system_prompt=adapter.system_prompt,
        cached_base=_base_answers_of_others(plan, name, store),
        progress=lambda stage, done, total: progress.advance(f"evaluate {name}, {stage}", done, total),
    )
    draft.add_table("answers.parquet", result.answers)
    draft.add_table("base_answers.parquet", result.base_answers)
    draft.add_json("summary.json", dict(result.summary))
    return {"summary": dict(result.summary), "conditions": sorted(set(result.answers["condition"].to_pylist()))}


def _answered(rows: pa.Table, context: int | None) -> pa.Table:
    """Reserved rows as questions: the last exchange of each, behind its system message, with the assistant's turn as reference.

    A closing "thanks" of the customer asks nothing and is left out. So are rows that may not fit the model's context; a token of a
    byte-level vocabulary has at least one byte, and each message costs a few tokens of template.

    Args:
        context: tokens the model reads, or None if it has no limit.
    """
    kept = []
    for row in rows.to_pylist():
        messages = row["messages"]
        last = max((i for i, m in enumerate(messages) if m["role"] == Role.ASSISTANT), default=-1)
        asked = max((i for i, m in enumerate(messages[: max(last, 0)]) if m["role"] == Role.USER), default=-1)
        if asked < 0:
            continue
        exchange = [*(m for m in messages[:1] if m["role"] == Role.SYSTEM), *messages[asked : last + 1]]
        size = sum(len(m["content"].encode()) + _TEMPLATE_TOKENS for m in exchange)
        if context is None or size + RESERVE_NEW_TOKENS <= context:
            kept.append({**row, "messages": exchange})
    return pa.Table.from_pylist(kept, schema=rows.schema)


def _base_answers_of_others(plan: Plan, name: str, store: Store) -> pa.Table | None:
    """What the base models already answered in the evaluations of other adapters; greedy answers of the same model are the same."""
    found = []
    for other in plan.project.adapters:
        asset = asset_name(Family.EVAL_RESULTS, other)
        if other != name and store.head(asset) is not None:
            found.append(store.current(asset).read_table("base_answers.parquet"))
    return pa.concat_tables(found) if found else None


def _describe(snapshot: Snapshot) -> Metadata:
    summary = snapshot.facts["summary"]
    rows = []
    for eval_set, conditions in summary.items():
        for condition, facts in conditions.items():
            row = {"eval_set": eval_set, "condition": condition, "kind": facts["kind"], "n": facts["n"]}
            for who in ("base", "tuned"):
                row |= {f"{who} {label}": share for label, share in facts.get(who, {}).items()}
                if f"{who}_score" in facts:
                    row[f"{who} score"] = facts[f"{who}_score"]
            rows.append(row)
    return {"dagster/row_count": snapshot.file("answers.parquet").rows or 0, "results": records_table(rows)}
