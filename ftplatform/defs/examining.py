"""What an adapter is asked, as the project declares it now: the same for its evaluation, a replicate's and a migration's."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ftplatform.defs.encoding import encoder_identity, encoder_of
from ftplatform.defs.judging import grading, judge_of
from ftplatform.defs.plan import Plan
from ftplatform.project.models import EvalKind
from ftplatform.store import Snapshot, Store

if TYPE_CHECKING:
    from ftplatform.evaluation.eval_sets import EvalSet
    from ftplatform.evaluation.refusal_judge import RefusalJudge

#: Folder of a harness task inside the snapshot of its eval set.
HARNESS_FOLDER = "harness"
#: What of an eval set decides its answers and scores.
_DECIDING = ("kind", "metric", "max_new_tokens", "temperature", "top_p", "samples")


def declared_eval_sets(plan: Plan, exams: Mapping[str, Snapshot], store: Store) -> "list[EvalSet]":
    """Eval sets ready to be asked, with their metric or judge and their decoding.

    Args:
        exams: snapshots of the sets, by name.
        store: where judges keep what they were asked and said.
    """
    from ftplatform.evaluation.eval_sets import EvalSet
    from ftplatform.evaluation.harness.task import HarnessTask
    from ftplatform.evaluation.kinds import Kind
    from ftplatform.evaluation.tasks import Metric

    sets = []
    for name, exam in exams.items():
        if plan.project.eval_sets[name].kind is EvalKind.LM_EVAL:
            task = HarnessTask.load(exam.local_folder(HARNESS_FOLDER))
            limit = plan.project.eval_sets[name].max_new_tokens
            rows = exam.read_table("rows.parquet")
            sets.append(EvalSet(name=name, kind=Kind.TASK, rows=rows, harness=task, max_new_tokens=limit))
            continue
        spec = {**_settings(plan, name)}
        kind, metric = Kind(spec.pop("kind")), Metric(spec.pop("metric"))
        rows, judge = exam.read_table("rows.parquet"), judge_of(plan, name, store)
        sets.append(EvalSet(name=name, kind=kind, rows=rows, metric=metric, judge=judge, **spec))
    return sets


def refusal_judge(plan: Plan) -> "RefusalJudge":
    """The judge of probes, with the project's encoder if it has one."""
    from ftplatform.evaluation.refusal_judge import RefusalJudge

    return RefusalJudge(encoder_of(plan))


def exam_config(plan: Plan, names: list[str]) -> dict[str, Any]:
    """Everything but the rows that decides answers and scores on these sets; JSON-able, for the recipe of an evaluation."""
    encoder = {} if plan.project.encoder is None else {"encoder": encoder_identity(plan)}
    graded = {f"grading of {name}": how for name in names if (how := grading(plan, name)) is not None}
    return {"eval_sets": {name: _settings(plan, name) for name in names}, **encoder, **graded}


def _settings(plan: Plan, name: str) -> dict[str, Any]:
    return plan.project.eval_sets[name].model_dump(mode="json", include=set(_DECIDING))
