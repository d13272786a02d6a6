"""Rubrics and criteria as the checks read them, and what kind of thing a criterion asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ftplatform.canonical import digest
from ftplatform.rows.normalize import normalize_text


class Shape(StrEnum):
    """What a criterion asks for. PRESENCE is the easiest to learn by heart: saying something, whatever else is said."""

    PRESENCE = "presence"
    """Something occurs in the answer: a mention, a list, a source, a warning."""
    ABSENCE = "absence"
    """Something does not occur."""
    QUALITY = "quality"
    """The answer as a whole is right, relevant, short, clear."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a program decides a criterion: as `project.rubrics.CriterionRule`."""

    kind: str
    value: str = ""
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric. The id is a name and says nothing about what is asked."""

    id: str
    text: str
    rule: Rule | None = None

    @property
    def text_hash(self) -> str:
        """SHA-256 of the normalized text: another case or punctuation is the same question."""
        return digest(normalize_text(self.text))

    @property
    def shape(self) -> Shape:
        """By its rule if it has one, by its words otherwise; see `shape_of_text`."""
        if self.rule is None:
            return shape_of_text(self.text)
        if self.rule.kind in _QUALITY_RULES:
            return Shape.QUALITY
        return Shape.ABSENCE if self.rule.negate else Shape.PRESENCE


@dataclass(frozen=True, slots=True)
class RubricCard:
    """A rubric as it is declared.

    Attributes:
        name: in the project.
        purpose: whether it steers training or examines it.
        author: who wrote it. judge: who grades by it. family: maker and line of that judge, as declared.
        criteria: at least one.
    """

    name: str
    purpose: Literal["reward", "eval"]
    author: str
    judge: str
    family: str
    criteria: Sequence[Criterion]


_QUALITY_RULES = frozenset({"reference", "max_words"})

_SAYING = (
    r"mention|include|contain|list|state|provide|cite|quote|name|give|offer|acknowledge|admit|link|refer|add|use|show|present|describe"
    r"|explain|recommend|suggest|propos|propose|warn|apologi[sz]e|greet|thank|ask|request|confirm|introduce|summari[sz]e|point|cover"
    r"|discuss|disclose|address|say|tell|advise|invite"
)
_PRESENCE = re.compile(rf"\b(?:{_SAYING})(?:s|es|d|ed|ing)?\b|\bthere (?:is|are)\b|\b(?:has|have) an?\b")
_ABSENCE = re.compile(
    rf"\b(?:(?:(?:{_SAYING})(?:s|es|d|ed|ing)?|is|are|has|have) (?:no|nothing|none|neither)"
    r"|no|not|never|without|avoid(?:s|ed)?|refrains?|free of|absent|absence|omit(?:s|ted)?|excludes?|nothing|none|neither)\b"
)


def shape_of_text(text: str) -> Shape:
    """The shape of a criterion by its words (English): whichever comes first of a verb of saying or having (mentions, lists, explains,
    "there is"), which makes it presence, and a negation or a verb of avoiding ("does not", "without", "uses no"), which makes it
    absence. With neither it is quality.

    A rule of thumb, written down so that everybody gets the same answer. Where a criterion has a program's rule, the rule counts.
    """
    words = normalize_text(text)
    presence, absence = _PRESENCE.search(words), _ABSENCE.search(words)
    if absence is not None and (presence is None or absence.start() <= presence.start()):
        return Shape.ABSENCE
    return Shape.QUALITY if presence is None else Shape.PRESENCE
