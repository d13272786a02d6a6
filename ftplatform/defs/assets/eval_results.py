"""`eval_results/*`: base and tuned model asked the same questions; the answers are kept, so that checks can judge them again."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from ftplatform import progress
from ftplatform.defs.access import record_decisions, vault_names
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.examining import declared_eval_sets, exam_config, refusal_judge
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.metadata import Metadata, records_table
from ftplatform.defs.op_tags import GPU_OP_TAGS, GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.run_tags import REBUILD_TAG
from ftplatform.project.models import Adapter
from ftplatform.rows.schema import Role
from ftplatform.store import Snapshot, SnapshotDraft, Store

if TYPE_CHECKING:
    from ftplatform.evaluation.answer_cache import AnswerCache

CODE_VERSION = "3"
#: Folder of the adapter's files inside its snapshot.
ADAPTER_FOLDER = "adapter"
#: Length limit for answers to reserved rows, and the most of them that are asked.
RESERVE_NEW_TOKENS = 64
RESERVE_ITEMS = 400
_TEMPLATE_TOKENS = 16
#: Slices shown beside the results; all of them are in the summary.
SHOWN_SLICES = 20
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
            from ftplatform.evaluation.answer_cache import AnswerCache

            # Whoever asks for a rebuild does not trust what is there, answers included.
            cache = AnswerCache(opened.backend, reuse=context.run.tags.get(REBUILD_TAG) != "true")
            return _evaluate(plan, name, adapter, snapshots, opened, cache, draft)

        config = {
            "system_prompt": adapter.system_prompt,
            "reserve": [RESERVE_NEW_TOKENS, RESERVE_ITEMS],
            **exam_config(plan, evals_of(plan.project, adapter)),
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
    plan: Plan,
    name: str,
    adapter: Adapter,
    snapshots: Mapping[str, Snapshot],
    store: Store,
    cache: "AnswerCache",
    draft: SnapshotDraft,
) -> Mapping[str, Any]:
    from ftplatform.evaluation.eval_sets import EvalSet
    from ftplatform.evaluation.generation import Generator
    from ftplatform.evaluation.kinds import Kind
    from ftplatform.evaluation.suite import evaluate
    from ftplatform.evaluation.tasks import Metric

    exams = {e: snapshots[asset_name(Family.EVAL_SETS, e)] for e in evals_of(plan.project, adapter)}
    sets = declared_eval_sets(plan, exams, store)
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
        cache=cache,
        judge=refusal_judge(plan),
        progress=lambda stage, done, total: progress.advance(f"evaluate {name}, {stage}", done, total),
    )
    draft.add_table("answers.parquet", result.answers)
    draft.add_table("transcripts.parquet", result.transcripts)
    draft.add_json("summary.json", dict(result.summary))
    # How many answers came from the cache is no fact of the result, which is the same either way.
    return {"conditions": sorted(set(result.answers["condition"].to_pylist()))}


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


def _describe(snapshot: Snapshot) -> Metadata:
    from ftplatform.evaluation.summary import result_rows, worst_slices

    summary = snapshot.read_json("summary.json")
    return {
        "dagster/row_count": snapshot.file("answers.parquet").rows or 0,
        "results": records_table(result_rows(summary)),
        "weakest_slices": records_table(worst_slices(summary, SHOWN_SLICES)),
    }
