"""Answers that answer nothing: what a rubric gives them, it gives for nothing.

A constant text won 86.5 % of AlpacaEval 2 at controlled length (X. Zheng et al., arXiv 2410.07137). These four are weaker: what already
they are given is a lower bound of what training against the rubric will find.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ftplatform.rubrics.criteria import Criterion, Rule


class NullModel(StrEnum):
    """How an answer comes about without reading the question."""

    CONSTANT = "constant"
    """One careful-sounding text for everything."""
    ECHO = "echo"
    """The question itself."""
    KEYWORDS = "keyword-stuffed"
    """The words of the criteria, claimed to be met."""
    OVER_LONG = "over-long"
    """The constant text followed by several hundred words of padding."""


_CONSTANT = (
    "Thank you for your question. I looked at it carefully and want to be open about what is uncertain. In short, the right course depends"
    " on your situation, and these points matter most:\n\n1. The facts as they are known today.\n2. The options you have, with their"
    " advantages and disadvantages.\n3. The next step, which is to check the details with a person responsible.\n\nExample: in a similar"
    " case all three points were needed. Please note the limits of this answer. Sources: [1], [2]. Let me know if I can help with"
    " anything else."
)
_PADDING = (
    " It is also worth looking at this from a wider angle, since every case has a background, conditions that apply now, and"
    " consequences that follow from each choice, all of which should be weighed with care before anything is decided."
)
_PADDING_TIMES = 20


def null_answers(model: NullModel, criteria: Sequence[Criterion], prompts: Sequence[str]) -> list[str]:
    """The answers of a null model to `prompts`, in their order. Only `ECHO` reads them.

    Args:
        criteria: of the rubric that will grade the answers; `KEYWORDS` is made from their texts and from what their rules look for.
    """
    match model:
        case NullModel.ECHO:
            return list(prompts)
        case NullModel.KEYWORDS:
            return [_stuffed(criteria)] * len(prompts)
        case NullModel.OVER_LONG:
            return [_CONSTANT + _PADDING * _PADDING_TIMES] * len(prompts)
        case NullModel.CONSTANT:
            return [_CONSTANT] * len(prompts)


def _stuffed(criteria: Sequence[Criterion]) -> str:
    claims = [f"- {criterion.text.strip()} Yes." for criterion in criteria]
    wanted = [criterion.rule.value for criterion in criteria if criterion.rule is not None and _is_wanted(criterion.rule)]
    return "\n".join(["This answer meets every criterion:", *claims, *wanted])


def _is_wanted(rule: Rule) -> bool:
    return rule.kind == "contains" and not rule.negate
