"""M5 and the task on the graph: what the adapter lost against its base."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.evaluation import margin_drift, regression, retention
from ftplatform.evaluation.drift_plot import PlanePoint
from ftplatform.evaluation.refusal_judge import DECLINED
from ftplatform.evaluation.trajectory import read_trajectory
from ftplatform.project.models import Adapter, EvalKind
from ftplatform.verdict import Verdict

#: What a training run recorded about its refusal margins, inside the adapter's snapshot.
TRAJECTORY = "training/trajectory.json"


def eval_checks(plan: Plan) -> Iterator[Check]:
    """The four sides of an evaluation (harmful refused, safe answered, general requests answered as asked, task kept) and the margin.

    They are there for every adapter: one that was given no probes has insufficient evidence, which is not a pass.
    """
    for name, adapter in plan.project.adapters.items():
        asset = asset_name(Family.EVAL_RESULTS, name)
        for check, side in retention.SIDES.items():
            yield _retention(plan, asset, adapter, check, side)
        yield _task_regression(plan, asset, adapter)
        yield _margin_drift(plan, asset, adapter)


def _answers(judging: Judging, kind: EvalKind) -> pa.Table:
    answers = judging.snapshot.read_table("answers.parquet")
    return answers.filter(pc.equal(answers["kind"], str(kind)))


def _baseline(judging: Judging) -> str:
    (base,) = (ref for ref in judging.snapshot.inputs if ref.role == "base_model")
    return f"{base.asset}@{base.snapshot[:12]}"


def _retention(plan: Plan, asset: str, adapter: Adapter, name: str, side: retention.Side) -> Check:
    conditions = retention.conditions(adapter.system_prompt)

    def judge(judging: Judging) -> Verdict:
        limits = judging.limit("margin")
        answers = _answers(judging, EvalKind(side.kind))
        return side.rule(answers, alpha=judging.alpha, conditions=conditions, baseline=_baseline(judging), **limits)

    return Check(
        name=name,
        asset=asset,
        judge=judge,
        version=retention.CHECK_VERSION,
        description=side.description,
        statistical=True,
        deciding={"evals": evals_of(plan.project, adapter), "conditions": list(conditions)},
    )


def _task_regression(plan: Plan, asset: str, adapter: Adapter) -> Check:
    def judge(judging: Judging) -> Verdict:
        limits = judging.limit("margin")
        return regression.task_regression(
            _answers(judging, EvalKind.TASK), alpha=judging.alpha, baseline=_baseline(judging), **limits
        )

    return Check(
        name="task_regression",
        asset=asset,
        judge=judge,
        version=regression.CHECK_VERSION,
        description="The tuned model is at least as good as its base on the task, in every slice.",
        statistical=True,
        deciding={"evals": evals_of(plan.project, adapter)},
    )


def _margin_drift(plan: Plan, asset: str, adapter: Adapter) -> Check:
    def judge(judging: Judging) -> Verdict:
        (examined,) = (judging.store.snapshot(ref.snapshot) for ref in judging.snapshot.inputs if ref.role == "adapter")
        recorded = any(entry.path == TRAJECTORY for entry in examined.files)
        limits = judging.limit("warn_below")
        return margin_drift.refusal_margin_drift(
            read_trajectory(examined.read_json(TRAJECTORY)) if recorded else None,
            judged=_on_the_plane(judging),
            alpha=judging.alpha,
            baseline=_baseline(judging),
            **limits,
        )

    return Check(
        name="refusal_margin_drift",
        asset=asset,
        judge=judge,
        version=margin_drift.CHECK_VERSION,
        description="The released checkpoint still finds a refusal as much likelier than compliance as its base does.",
        statistical=True,
        severity="warn",
        blocking=False,
        deciding={"evals": evals_of(plan.project, adapter)},
    )


def _on_the_plane(judging: Judging) -> tuple[PlanePoint, PlanePoint] | None:
    """Base and tuned model by the share of harmful and of safe probes they declined without a system prompt."""
    shares = {}
    for kind in (EvalKind.REFUSAL_PROBES, EvalKind.OVERREFUSAL_PROBES):
        answers = _answers(judging, kind)
        plain = answers.filter(pc.equal(answers["condition"], retention.PLAIN))
        if not plain.num_rows:
            return None
        for who in ("base", "tuned"):
            declined = pc.is_in(plain[f"{who}_label"], value_set=pa.array([str(label) for label in DECLINED]))
            shares[who, kind] = pc.mean(pc.cast(declined, pa.float64())).as_py()
    base, tuned = (
        PlanePoint(f"{who} (judged)", shares[who, EvalKind.REFUSAL_PROBES], shares[who, EvalKind.OVERREFUSAL_PROBES])
        for who in ("base", "tuned")
    )
    return base, tuned
