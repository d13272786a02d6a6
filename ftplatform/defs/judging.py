"""The judge of a rubric, made from what the project says of it; transcripts are kept in the store."""

from typing import TYPE_CHECKING, Any

from ftplatform.defs.plan import Plan
from ftplatform.errors import InputDataError
from ftplatform.project.models import JudgeSpec, Rubric
from ftplatform.project.uris import parse_source_uri
from ftplatform.store import Store

if TYPE_CHECKING:
    from ftplatform.evaluation.judges.interface import Judge
    from ftplatform.evaluation.judges.model_judge import Chat
    from ftplatform.evaluation.judges.prompting import JudgePrompt

#: The judge that is a program.
RULES = "rules"


def grading(plan: Plan, eval_set: str) -> dict[str, Any] | None:
    """Rubric and judge of an eval set as they decide its scores; None if it is scored by its metric."""
    name = plan.project.eval_sets[eval_set].rubric
    return None if name is None else grading_by(plan, name)


def grading_by(plan: Plan, name: str) -> dict[str, Any] | None:
    """A rubric and its judge as they decide scores; None if its judge is outside of the platform."""
    rubric = plan.project.rubrics[name]
    if not _is_ours(plan, rubric):
        return None
    criteria = [c.model_dump(mode="json") for c in rubric.criteria]
    return {"criteria": criteria, "judge": rubric.judge, "settings": judge_settings(plan, rubric.judge)}


def judge_settings(plan: Plan, name: str) -> dict[str, Any] | None:
    """What of an entry of `judges` decides its answers; None for the judge that is a program."""
    spec = plan.project.judges.get(name)
    return None if spec is None else spec.model_dump(mode="json", exclude={"api_key_env", "concurrency", "prefers"})


def judge_of(plan: Plan, eval_set: str, store: Store) -> "Judge | None":
    """The judge that grades an eval set; None if it is scored by its metric.

    Raises:
        InputDataError: a local judge's folder is not on this machine.
        UnsafeModel: it holds code or pickled weights.
        TransportError: the judge's URL is not allowed.
    """
    name = plan.project.eval_sets[eval_set].rubric
    return None if name is None else judge_of_rubric(plan, name, store)


def judge_of_rubric(plan: Plan, name: str, store: Store) -> "Judge | None":
    """The judge that grades by a rubric; None if the rubric names one outside of the platform. Raises as `judge_of`."""
    from ftplatform.evaluation.judges.prompting import JudgePrompt
    from ftplatform.evaluation.judges.rules import Rule, RuleJudge, RuleKind

    rubric = plan.project.rubrics[name]
    if not _is_ours(plan, rubric):
        return None
    if rubric.judge == RULES:
        rules = [(c.id, c.rule) for c in rubric.criteria if c.rule is not None]
        return RuleJudge(RULES, [Rule(id, RuleKind(rule.kind), rule.value, rule.negate) for id, rule in rules])
    return model_judge(plan, rubric.judge, JudgePrompt({c.id: c.text for c in rubric.criteria}), store)


def model_judge(plan: Plan, name: str, prompt: "JudgePrompt", store: Store) -> "Judge":
    """An entry of `judges`, asked `prompt`. Raises as `judge_of`."""
    from ftplatform.evaluation.judges.model_judge import ModelJudge
    from ftplatform.evaluation.judges.transcripts import Transcripts

    spec = plan.project.judges[name]
    return ModelJudge(
        id=name,
        family=spec.family,
        version=spec.version,
        prompt=prompt,
        chat=_chat(plan, name, spec),
        transcripts=Transcripts(store.backend),
    )


def _is_ours(plan: Plan, rubric: Rubric) -> bool:
    return rubric.judge == RULES or rubric.judge in plan.project.judges


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
