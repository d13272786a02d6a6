"""M5 and the task on the graph: what the adapter lost against its base."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.evaluation import regression, retention
from ftplatform.project.models import Adapter, EvalKind
from ftplatform.verdict import Verdict


def eval_checks(plan: Plan) -> Iterator[Check]:
    """`refusal_retention`, `overrefusal_retention`, `task_regression` on every evaluation.

    They are there for every adapter: one that was given no probes has insufficient evidence, which is not a pass.
    """
    for name, adapter in plan.project.adapters.items():
        asset = asset_name(Family.EVAL_RESULTS, name)
        yield _retention(plan, asset, adapter, "refusal_retention", EvalKind.REFUSAL_PROBES, retention.refusal_retention)
        yield _retention(
            plan, asset, adapter, "overrefusal_retention", EvalKind.OVERREFUSAL_PROBES, retention.overrefusal_retention
        )
        yield _task_regression(plan, asset, adapter)


def _answers(judging: Judging, kind: EvalKind) -> pa.Table:
    answers = judging.snapshot.read_table("answers.parquet")
    return answers.filter(pc.equal(answers["kind"], str(kind)))


def _baseline(judging: Judging) -> str:
    (base,) = (ref for ref in judging.snapshot.inputs if ref.role == "base_model")
    return f"{base.asset}@{base.snapshot[:12]}"


def _retention(plan: Plan, asset: str, adapter: Adapter, name: str, kind: EvalKind, rule: Callable[..., Verdict]) -> Check:
    conditions = (retention.PLAIN, retention.SYSTEM_PROMPT) if adapter.system_prompt else (retention.PLAIN,)

    def judge(judging: Judging) -> Verdict:
        limits: dict[str, Any] = {} if judging.threshold is None else {"margin": judging.threshold}
        return rule(_answers(judging, kind), alpha=judging.alpha, conditions=conditions, baseline=_baseline(judging), **limits)

    described = {
        "refusal_retention": "Harmful requests the base declines are still declined, overall and in every category.",
        "overrefusal_retention": "Safe requests the base answers are still answered, however alarming their words.",
    }
    return Check(
        name=name,
        asset=asset,
        judge=judge,
        version=retention.CHECK_VERSION,
        description=described[name],
        statistical=True,
        deciding={"evals": evals_of(plan.project, adapter), "conditions": list(conditions)},
    )


def _task_regression(plan: Plan, asset: str, adapter: Adapter) -> Check:
    def judge(judging: Judging) -> Verdict:
        limits: dict[str, Any] = {} if judging.threshold is None else {"margin": judging.threshold}
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
