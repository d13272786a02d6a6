"""The behavior policy file: who may promise what, which tools and queues exist, what warrants an apology, how the brand sounds.

Read like the project file itself: every value is text with a line, nothing unknown is accepted, and each problem says where it is.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from ftplatform.project.credentials import shown
from ftplatform.project.fields import Model, Name
from ftplatform.project.problems import KeyPath, Problem, ProjectFileError, nearest
from ftplatform.project.yaml_source import YamlDocument, parse_yaml
from ftplatform.targets.habits.policy import CALL_FIELDS, Act, CommitmentKind, call_fields

_AMOUNT = re.compile(r"\d{1,12}(?:\.\d{1,4})? [A-Z]{3}")


def _amount(value: str) -> str:
    if not _AMOUNT.fullmatch(value):
        raise ValueError(f"{shown(value)} is not an amount with its currency; write it as '150 USD'")
    return value


def _arguments(value: str) -> str:
    try:
        named = call_fields(value)
    except ValueError:
        raise ValueError(f'{shown(value)} is no JSON object; write it as \'{{"about": "{{claim}}"}}\'') from None
    if unknown := sorted(named - set(CALL_FIELDS)):
        known = ", ".join(f"{{{name}}}" for name in CALL_FIELDS)
        raise ValueError(f"{{{unknown[0]}}} is nothing a call can take over; known are {known}")
    return value


Amount = Annotated[str, AfterValidator(_amount)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Pattern = Annotated[str, Field(min_length=1, max_length=500)]
Arguments = Annotated[str, Field(max_length=500), AfterValidator(_arguments)]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,100}$")]


class AuthorityLine(Model):
    """One thing an assistant may promise."""

    action: Text
    """Its name."""
    covers: Annotated[list[CommitmentKind], Field(min_length=1)]
    """Kinds of promise it allows."""
    max_amount: Amount | None = None
    """The most in one promise, with its currency: ``150 USD``."""
    tool: ToolName | None = None
    """Tool that has to be called in the conversation; one of `tools`."""
    requires: list[Pattern] = []
    """Regular expressions, each of which an earlier tool result has to match."""


class CallLine(Model):
    """How a call is written where `habits` of a dataset make a claim true (`phantom_action: tool_call`)."""

    arguments: Arguments = "{}"
    """JSON object; in its texts {claim} stands for the sentence, {kind} for the act, {group} for the row's group."""
    result: Text = '{"status":"ok"}'
    """What the tool answers."""


class ToolLine(Model):
    """A tool that exists."""

    does: Annotated[list[Act], Field(min_length=1)]
    """What a call of it is evidence of."""
    when: Pattern | None = None
    """Regular expression a call has to match, where one tool both checks and does."""
    call: CallLine | None = None
    """How a call is written that makes a claim true; without it none is."""


class ApologyRule(Model):
    """When an apology is due."""

    fault_field: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,60}$")] | None = None
    """Key of a row's `meta` that is true after a failure of the company."""
    evidence: list[Pattern] = []
    """Regular expressions; an earlier tool result that matches one shows such a failure."""


class VoiceRule(Model):
    """How the brand sounds."""

    reference: Name | None = None
    """Source of approved texts, by its name in the project file."""
    forbidden: list[Text] = []
    """Phrases that are never said."""


class Rewrites(Model):
    """What stands in for a sentence that the policy does not allow."""

    commitment: Text | None = None
    """For a promise without authority."""
    phantom_action: Text | None = None
    """For an act that never took place."""
    apology: Text | None = None
    """For an apology without a reason."""


class BehaviorPolicy(Model):
    """The whole file. The world is closed: what is not listed does not exist."""

    name: Name
    """Its name."""
    version: Text
    """Its version; people quote it."""
    authority: list[AuthorityLine] = []
    """What an assistant may promise."""
    tools: dict[ToolName, ToolLine] = {}
    """The tools that exist, by name."""
    failure: Pattern | None = None
    """Regular expression: a tool result that matches it says the call failed. Results that begin with "error" or the like, by default."""
    queues: list[Text] = []
    """Teams and queues that exist, as agents name them."""
    apology: ApologyRule = ApologyRule()
    """When an apology is due."""
    voice: VoiceRule = VoiceRule()
    """How the brand sounds."""
    rewrites: Rewrites = Rewrites()
    """What stands in for a sentence that the policy does not allow."""

    @model_validator(mode="after")
    def _known_tools(self) -> BehaviorPolicy:
        for line in self.authority:
            if line.tool is not None and line.tool not in self.tools:
                near = nearest(line.tool, self.tools)
                hint = f"; did you mean {near!r}?" if near else ""
                raise ValueError(f"authority {line.action!r} names the tool {line.tool!r}, which 'tools' does not list{hint}")
        return self

    def document(self) -> dict[str, Any]:
        """As plain data: what the checks are given."""
        found = self.model_dump(mode="json")
        found["rewrites"] = {name: text for name, text in found["rewrites"].items() if text is not None}
        return found


def load_behavior_policy(data: bytes, *, file: str) -> BehaviorPolicy:
    """Parse and check a behavior policy.

    Args:
        data: the file's bytes.
        file: its name, for problems.

    Raises:
        ProjectFileError: with every problem, each with its line.
    """
    document, problems = parse_yaml(data, file)
    if document is None:
        raise ProjectFileError(problems)
    content = document.root.plain()
    if not isinstance(content, dict):
        raise ProjectFileError([_problem(document, (), "the behavior policy must be a mapping, starting with 'name: ...'")])
    try:
        policy = BehaviorPolicy.model_validate(content)
    except ValidationError as error:
        said = {(problem.path, problem.line) for problem in problems}
        found = [_explained(document, detail) for detail in error.errors(include_url=False)]
        raise ProjectFileError([*problems, *(p for p in found if (p.path, p.line) not in said)]) from None
    if problems:
        raise ProjectFileError(problems)
    return policy


def _explained(document: YamlDocument, detail: Any) -> Problem:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    path, _, node = document.walk(location)
    got = f"; got {shown(node.text)}" if node.text is not None else ""
    match detail["type"]:
        case "extra_forbidden":
            allowed = _keys_at(path[:-1])
            return _problem(document, path, "unknown key", allowed, nearest(str(path[-1]), allowed))
        case "missing":
            return _problem(document, path, f"missing: the key {location[-1]!r} is required here")
        case "enum":
            allowed = tuple(re.findall(r"'([^']*)'", str(detail["ctx"]["expected"])))
            near = nearest(node.text, allowed) if node.text else None
            return _problem(document, path, f"{shown(node.text or '')} is not accepted", allowed, near)
        case "value_error":
            return _problem(document, path, str(detail["ctx"]["error"]))
        case _:
            return _problem(document, path, detail["msg"].removeprefix("Input ") + got)


def _problem(
    document: YamlDocument, path: KeyPath, message: str, allowed: tuple[str, ...] = (), suggestion: str | None = None
) -> Problem:
    place = document.position(path)
    return Problem(
        file=document.file, line=place.line, column=place.column, path=path, message=message, allowed=allowed, suggestion=suggestion
    )


_BLOCKS: dict[str, type[Model]] = {
    "authority": AuthorityLine,
    "tools": ToolLine,
    "call": CallLine,
    "apology": ApologyRule,
    "voice": VoiceRule,
    "rewrites": Rewrites,
}


def _keys_at(path: KeyPath) -> tuple[str, ...]:
    """Keys that are known at `path`."""
    # A tool may be named like a block: its name is the second step, a block of its own the third.
    named = path[2] if len(path) > 2 and path[0] == "tools" else path[0] if path else None
    model = BehaviorPolicy if named is None else _BLOCKS[str(named)]
    return tuple(model.model_fields)
