"""The judge of an eval set: made from its rubric and what the project says of the judge; transcripts are kept in the store."""

from typing import TYPE_CHECKING, Any

from ftplatform.defs.plan import Plan
from ftplatform.errors import InputDataError
from ftplatform.project.models import JudgeSpec, Rubric
from ftplatform.project.uris import parse_source_uri
from ftplatform.store import Store

if TYPE_CHECKING:
    from ftplatform.evaluation.judges.interface import Judge
    from ftplatform.evaluation.judges.model_judge import Chat

#: The judge that is a program.
RULES = "rules"


def grading(plan: Plan, eval_set: str) -> dict[str, Any] | None:
    """Rubric and judge of an eval set as they decide its scores; None if it is scored by its metric."""
    found = _declared(plan, eval_set)
    if found is None:
        return None
    rubric, spec = found
    settings = None if spec is None else spec.model_dump(mode="json", exclude={"api_key_env", "concurrency"})
    return {"criteria": [c.model_dump(mode="json") for c in rubric.criteria], "judge": rubric.judge, "settings": settings}


def judge_of(plan: Plan, eval_set: str, store: Store) -> "Judge | None":
    """The judge that grades an eval set; None if it is scored by its metric.

    Raises:
        InputDataError: a local judge's folder is not on this machine.
        UnsafeModel: it holds code or pickled weights.
        EvaluationError: the judge's URL is not allowed.
    """
    from ftplatform.evaluation.judges.model_judge import ModelJudge
    from ftplatform.evaluation.judges.prompting import JudgePrompt
    from ftplatform.evaluation.judges.rules import Rule, RuleJudge, RuleKind
    from ftplatform.evaluation.judges.transcripts import Transcripts

    found = _declared(plan, eval_set)
    if found is None:
        return None
    rubric, spec = found
    if spec is None:
        rules = [(c.id, c.rule) for c in rubric.criteria if c.rule is not None]
        return RuleJudge(RULES, [Rule(id, RuleKind(rule.kind), rule.value, rule.negate) for id, rule in rules])
    return ModelJudge(
        id=rubric.judge,
        family=spec.family,
        version=spec.version,
        prompt=JudgePrompt({c.id: c.text for c in rubric.criteria}),
        chat=_chat(plan, rubric.judge, spec),
        transcripts=Transcripts(store.backend),
    )


def _declared(plan: Plan, eval_set: str) -> tuple[Rubric, JudgeSpec | None] | None:
    name = plan.project.eval_sets[eval_set].rubric
    rubric = None if name is None else plan.project.rubrics[name]
    if rubric is None or (rubric.judge != RULES and rubric.judge not in plan.project.judges):
        return None
    return rubric, plan.project.judges.get(rubric.judge)


def _chat(plan: Plan, name: str, spec: JudgeSpec) -> "Chat":
    from ftplatform.evaluation.generation import Generator
    from ftplatform.evaluation.judges.endpoint import EndpointChat
    from ftplatform.evaluation.judges.local import LocalChat

    if spec.url is not None:
        return EndpointChat(
            spec.url,
            spec.model or name,
            api_key_env=spec.api_key_env,
            max_tokens=spec.max_tokens,
            json_mode=spec.json_mode,
            concurrency=spec.concurrency,
        )
    uri = parse_source_uri(spec.path or "")
    if not uri.is_local:
        raise InputDataError(f"the judge {spec.path} is not on this machine.", remedy="Copy the model to a local folder.")
    return LocalChat(Generator.load(uri.local(plan.root)), name, max_new_tokens=spec.max_tokens)
