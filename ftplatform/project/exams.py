"""Exams in the project file: eval sets and probes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from ftplatform.project.data import Data, License, LicenseField
from ftplatform.project.fields import Name
from ftplatform.project.rubrics import Criterion, CriterionRule, JudgeSpec, Rubric

__all__ = ["Criterion", "CriterionRule", "EvalKind", "EvalSet", "JudgeSpec", "Rubric"]


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
    selections: int = Field(default=10, ge=1)
    """Of a vault: how many checkpoints may be selected on its results before it must be refreshed."""
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
