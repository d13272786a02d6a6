"""Exams in the project file: eval sets, probes and rubrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from ftplatform.project.data import Data, License, LicenseField
from ftplatform.project.fields import Model, Name


class EvalKind(StrEnum):
    """What an eval set measures."""

    TASK = "task"
    REFUSAL_PROBES = "refusal_probes"
    OVERREFUSAL_PROBES = "overrefusal_probes"
    HELPFULNESS_PROBES = "helpfulness_probes"
    BEHAVIOR_PROBES = "behavior_probes"


class EvalSet(Data):
    """Questions with known answers, or probes. Never trained on."""

    kind: EvalKind = EvalKind.TASK
    """What it measures."""
    metric: Literal["exact_match", "contains", "token_f1"] = "exact_match"
    """How a task answer is scored against the reference."""
    license: LicenseField = License()
    """The terms; `evaluate` must be allowed."""
    rubric: Name | None = None
    """Rubric that scores it."""
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

    @model_validator(mode="after")
    def _one_counterpart(self) -> EvalSet:
        if self.paraphrase_of is not None and self.fresh_for is not None:
            raise ValueError("give at most one of 'paraphrase_of' and 'fresh_for': a set is a rewording or new, not both")
        return self


class Criterion(Model):
    """One line of a rubric."""

    id: Name
    """Short name of the criterion, unique in the rubric."""
    text: str
    """What the judge is asked."""


class Rubric(Model):
    """How answers are graded, by whom, and whether it serves as reward or as exam."""

    purpose: Literal["reward", "eval"]
    """Whether training is steered by it or judged by it; never both."""
    author: str
    """Who wrote it."""
    judge: str
    """Id of the judge model (`rules` for a programmatic one)."""
    criteria: list[Criterion] = Field(min_length=1)
    """The lines of the rubric."""
