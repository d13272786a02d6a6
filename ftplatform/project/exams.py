"""Exams in the project file: eval sets, probes and rubrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from ftplatform.project.data import Data, License, LicenseField
from ftplatform.project.fields import EnvironmentVariable, Model, Name, Uri


class EvalKind(StrEnum):
    """What an eval set measures."""

    TASK = "task"
    REFUSAL_PROBES = "refusal_probes"
    OVERREFUSAL_PROBES = "overrefusal_probes"
    HELPFULNESS_PROBES = "helpfulness_probes"
    BEHAVIOR_PROBES = "behavior_probes"
    LM_EVAL = "lm_eval"


class EvalSet(Data):
    """Questions with known answers, or probes. Never trained on."""

    kind: EvalKind = EvalKind.TASK
    """What it measures. `lm_eval` is a task of lm-evaluation-harness: `path` is its task file, and the task brings its own prompts and
    metric."""
    metric: Literal["exact_match", "contains", "token_f1", "rouge_l", "numeric_match", "regex", "json_valid"] = "exact_match"
    """How a task answer is scored against the reference; `json_valid` needs none."""
    license: LicenseField = License()
    """The terms; `evaluate` must be allowed."""
    rubric: Name | None = None
    """Rubric that scores it, in place of `metric`, by the judge the rubric names."""
    vault: bool = False
    """A set nobody looks at item by item while iterating."""
    paraphrase_of: Name | None = None
    """Vault that this set asks again in other words. Each item carries the `group` of the vault item it rephrases, or its row id if
    that has no group."""
    fresh_for: Name | None = None
    """Vault that this set is measured against: items of its kind, written after it and seen by nobody."""
    slice_field: str | None = None
    """Record key whose value becomes the row's slice (category of a probe, intent of a question)."""
    max_new_tokens: int = Field(default=48, ge=1, le=4096)
    """Length limit of a generated answer."""
    temperature: float | None = Field(default=None, ge=0, le=5)
    """Sample at this temperature, the one of production; greedy without it. Greedy answers hide every habit of a minority."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the most likely tokens that together have this probability."""
    samples: int = Field(default=1, ge=1, le=1000)
    """Answers sampled per item, of `behavior_probes`."""

    @model_validator(mode="after")
    def _one_counterpart(self) -> EvalSet:
        if self.paraphrase_of is not None and self.fresh_for is not None:
            raise ValueError("give at most one of 'paraphrase_of' and 'fresh_for': a set is a rewording or new, not both")
        return self

    @model_validator(mode="after")
    def _harness(self) -> EvalSet:
        if self.kind is not EvalKind.LM_EVAL:
            return self
        if len(self.path) != 1 or "://" in self.path[0] or not self.path[0].endswith((".yaml", ".yml")):
            raise ValueError("'path' of an lm_eval set is one local task file, *.yaml")
        own = {"metric", "rubric", "format", "reader", "fields", "paraphrase_of", "fresh_for", "temperature", "top_p", "samples"}
        if given := sorted(own & self.model_fields_set):
            raise ValueError(f"'{given[0]}' is up to the task file of an lm_eval set; leave it out")
        return self

    @model_validator(mode="after")
    def _sampling(self) -> EvalSet:
        if self.samples > 1 and self.kind is not EvalKind.BEHAVIOR_PROBES:
            raise ValueError("'samples' above 1 are for behavior_probes; other sets are compared item by item")
        if not self.temperature and (self.samples > 1 or self.top_p is not None):
            raise ValueError("'samples' and 'top_p' need a 'temperature' above 0: greedy answers are all the same")
        return self


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

    @model_validator(mode="after")
    def _one_place(self) -> JudgeSpec:
        if (self.path is None) == (self.url is None) or (self.url is None) != (self.model is None):
            raise ValueError("give either 'path', or 'url' and 'model'")
        return self
