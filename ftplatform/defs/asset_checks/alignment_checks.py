"""M5 beside the evaluation: the fence and the risky rows before training, the served weights after it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa

from ftplatform import progress
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.evaluation import probe_fence, risk_rows
from ftplatform.evaluation.representations import MODEL_TIER, TEXT_TIER, Represent
from ftplatform.project.models import EvalKind
from ftplatform.release import served
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.store import Snapshot
from ftplatform.verdict import Verdict

#: What the safety mix may not teach to: everything an adapter is examined with besides its task.
_PROBES = frozenset(EvalKind) - {EvalKind.TASK}
_SAFE = (EvalKind.OVERREFUSAL_PROBES, EvalKind.HELPFULNESS_PROBES)

#: The report on an adapter's alignment is as old as the oldest of these.
_REPORT = ("refusal_retention", "overrefusal_retention", "helpfulness_retention")

#: Floating-point operations worth spending on representations: some minutes on two cores, and on one GPU.
_AFFORDABLE = {"cpu": 2e13, "cuda": 2e17}
_BYTES_PER_TOKEN = 4


def alignment_checks(plan: Plan) -> Iterator[Check]:
    """`probe_fence` on every source of a safety mix, `safety_risk_rows` on splits, `served_matches_evaluated` on releases.

    The fence stands on the source, upstream of the adapter: it holds before anything is trained, and again for its evaluation and
    release.
    """
    for source in dict.fromkeys(a.safety_mix.source for a in plan.project.adapters.values() if a.safety_mix):
        yield _probe_fence(plan, source)
    for dataset in plan.project.datasets:
        yield _safety_risk_rows(plan, dataset)
    for name, adapter in plan.project.adapters.items():
        if adapter.release:
            yield _served_matches_evaluated(name)


def _sets(plan: Plan, adapters: list[str], *kinds: EvalKind) -> list[str]:
    """Assets of the eval sets of these kinds that any of `adapters` is judged on."""
    names = {name for adapter in adapters for name in evals_of(plan.project, plan.project.adapters[adapter])}
    return [asset_name(Family.EVAL_SETS, n) for n, spec in plan.project.eval_sets.items() if n in names and spec.kind in kinds]


def _rows(snapshots: Mapping[str, Snapshot], assets: list[str]) -> pa.Table:
    return pa.concat_tables([ROW_SCHEMA.empty_table(), *(snapshots[asset].read_table("rows.parquet") for asset in assets)])


def _probe_fence(plan: Plan, source: str) -> Check:
    users = [name for name, a in plan.project.adapters.items() if a.safety_mix and a.safety_mix.source == source]
    sets, harmful = _sets(plan, users, *_PROBES), _sets(plan, users, EvalKind.REFUSAL_PROBES)

    def judge(judging: Judging) -> Verdict:
        probes = {asset: judging.others[asset].read_table("rows.parquet") for asset in sets}
        return probe_fence.probe_fence(judging.snapshot.read_table("rows.parquet"), probes, harmful)

    return Check(
        name="probe_fence",
        asset=asset_name(Family.RAW, source),
        judge=judge,
        version=probe_fence.CHECK_VERSION,
        description="No probe stands in the safety mix, in any wording, and three categories of harm are absent from it.",
        looks_at=tuple(sets),
        deciding={"probes": sets, "harmful": harmful},
    )


def _safety_risk_rows(plan: Plan, dataset: str) -> Check:
    users = [name for name, adapter in plan.project.adapters.items() if adapter.dataset == dataset]
    harmful, safe = _sets(plan, users, EvalKind.REFUSAL_PROBES), _sets(plan, users, *_SAFE)
    production = plan.project.datasets[dataset].production_inputs
    reference = [asset_name(Family.RAW, production)] if production else []
    # Adapters of one dataset may stand on several bases; one is asked.
    base = [asset_name(Family.BASE_MODELS, plan.project.adapters[name].base) for name in users][:1]

    def judge(judging: Judging) -> Verdict:
        rows = judging.snapshot.read_table("train.parquet")
        anchors, safe_rows, usual = (_rows(judging.others, assets) for assets in (harmful, safe, reference))
        enough = anchors.num_rows and safe_rows.num_rows and usual.num_rows
        model = judging.others[base[0]] if base and enough else None
        represent, tier = _representation(model, [rows, anchors, safe_rows, usual])
        limits = judging.limit("max_share")
        return risk_rows.safety_risk_rows(
            rows, anchors, safe_rows, usual, represent, tier=tier, baseline=", ".join(reference) or None, **limits
        )

    return Check(
        name="safety_risk_rows",
        asset=asset_name(Family.SPLITS, dataset),
        judge=judge,
        version=risk_rows.CHECK_VERSION,
        description="The rows nearest to harmful requests are no nearer than what customers write.",
        looks_at=tuple(dict.fromkeys([*harmful, *safe, *reference, *base])),
        severity="warn",
        blocking=False,
        deciding={"harmful": harmful, "safe": safe, "reference": reference, "base": base},
    )


def _representation(model: Snapshot | None, tables: list[pa.Table]) -> tuple[Represent, str]:
    """The base model's view of a text where that is affordable, else its characters."""
    from ftplatform.evaluation.representations import base_representation, character_tfidf
    from ftplatform.training.manifest import resolve_device

    size = sum(table["messages"].nbytes for table in tables)
    if model is not None:
        work = 2 * float(model.facts.get("parameters", 0)) * size / _BYTES_PER_TOKEN
        device = resolve_device("auto")
        if work <= _AFFORDABLE[device]:
            told = partial(progress.advance, f"representations by {model.asset}")
            return base_representation(model.local_folder(MODEL_FOLDER), device=device, progress=told), MODEL_TIER
    return character_tfidf(risk_rows.user_texts(pa.concat_tables(tables)) or ["-"]), TEXT_TIER


def _served_matches_evaluated(name: str) -> Check:
    results = asset_name(Family.EVAL_RESULTS, name)

    def judge(judging: Judging) -> Verdict:
        evaluation = judging.others[results]
        (examined,) = (judging.store.snapshot(ref.snapshot) for ref in evaluation.inputs if ref.role == "adapter")
        limits: dict[str, Any] = {} if judging.threshold is None else {"max_age": timedelta(days=judging.threshold)}
        return served.served_matches_evaluated(
            _adapter_files(judging.snapshot),
            _adapter_files(examined),
            evaluated_at=_reported_at(judging, evaluation),
            now=datetime.now(UTC),
            baseline=f"{results}@{evaluation.digest[:12]}",
            **limits,
        )

    return Check(
        name="served_matches_evaluated",
        asset=asset_name(Family.RELEASES, name),
        judge=judge,
        version=served.CHECK_VERSION,
        description="The released weights are byte for byte those whose alignment was examined, at most 30 days ago.",
        looks_at=(results,),
    )


def _adapter_files(snapshot: Snapshot) -> dict[str, str]:
    front = f"{ADAPTER_FOLDER}/"
    return {entry.path.removeprefix(front): entry.sha256 for entry in snapshot.files if entry.path.startswith(front)}


def _reported_at(judging: Judging, evaluation: Snapshot) -> datetime | None:
    """When the oldest part of the alignment report was judged at full strength; None if a part is missing or about other answers."""
    moments = []
    for check in _REPORT:
        found = judging.store.latest_evaluation(evaluation.asset, check)
        if found is None or found.verdict is None or found.judged.get(evaluation.asset) != evaluation.digest:
            return None
        moments.append(datetime.fromisoformat(found.evaluated_at))
    return min(moments)
