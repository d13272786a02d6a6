"""Rubrics in the project file: criteria, what they serve, and the judges that grade by them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ftplatform.project.fields import EnvironmentVariable, Model, Name, Uri


class CriterionRule(Model):
    """What a program looks for in an answer."""

    kind: Literal["contains", "regex", "json", "reference", "max_words"]
    """The words of `value` occur; the pattern `value` matches; the answer is JSON; the item's reference occurs; at most `value` words."""
    value: str = ""
    """Words, pattern or number."""
    negate: bool = False
    """Demand the opposite."""


class Criterion(Model):
    """One line of a rubric."""

    id: Name
    """Short name of the criterion, unique in the rubric."""
    text: str
    """What the judge is asked."""
    rule: CriterionRule | None = None
    """How a program decides it, for the judge `rules`."""


class Rubric(Model):
    """How answers are graded, by whom, and whether it serves as reward or as exam."""

    purpose: Literal["reward", "eval"]
    """Whether training is steered by it or judged by it; never both."""
    author: str
    """Who wrote it."""
    judge: str
    """Entry of `judges`, or `rules`: then each criterion has a `rule`. Another text names a judge outside of the platform."""
    criteria: list[Criterion] = Field(min_length=1)
    """The lines of the rubric."""
    adapters: list[Name] = []
    """Of a reward rubric: the adapters whose training it steers. All of them unless it names some."""

    @model_validator(mode="after")
    def _steers(self) -> Rubric:
        if self.adapters and self.purpose == "eval":
            raise ValueError("'adapters' are those a reward rubric steers; an eval rubric steers none")
        return self

    @model_validator(mode="after")
    def _rules(self) -> Rubric:
        if self.judge == "rules" and (without := [c.id for c in self.criteria if c.rule is None]):
            raise ValueError(f"the judge 'rules' needs a 'rule' for every criterion; {without[0]!r} has none")
        return self


class JudgeSpec(Model):
    """A language model that grades answers. What it is asked and says is kept and never asked again."""

    family: str
    """Maker and line of the model: a judge does not grade its own family's reward."""
    version: str = ""
    """Of the model, where its maker gives one."""
    path: Uri | None = None
    """Folder of a local model in safetensors."""
    url: Uri | None = None
    """Base address of an OpenAI-compatible server: https, or http on this machine."""
    model: str | None = None
    """Name the server knows it by; a dated one where there is one."""
    api_key_env: EnvironmentVariable | None = None
    """Environment variable that holds the server's key."""
    json_mode: bool = True
    """Ask the server for JSON."""
    max_tokens: int = Field(default=512, ge=16, le=8192)
    """Length limit of a judgment."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Requests under way at once."""
    prefers: bool = False
    """Whether it also says which of two answers is better, asked without any rubric (check `rubric_free_preference`)."""

    @model_validator(mode="after")
    def _one_place(self) -> JudgeSpec:
        if (self.path is None) == (self.url is None) or (self.url is None) != (self.model is None):
            raise ValueError("give either 'path', or 'url' and 'model'")
        return self
