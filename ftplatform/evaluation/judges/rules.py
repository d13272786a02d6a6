"""A judge without a model: each criterion is a rule that a program decides, over all answers at once.

Texts are compared in the normal form of `tasks.normalized`, so that case and punctuation do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import polars as pl

from ftplatform.canonical import digest
from ftplatform.errors import EvaluationError
from ftplatform.evaluation.judges.interface import ItemVerdict, Judged, JudgeItem, Progress
from ftplatform.evaluation.judges.transcripts import TRANSCRIPT_SCHEMA
from ftplatform.evaluation.tasks import Metric, score, unusable


class RuleKind(StrEnum):
    """What a rule looks at."""

    CONTAINS = "contains"
    """The words of `value` occur in the answer, one after the other."""
    REGEX = "regex"
    """`value` matches somewhere in the answer as it is (Rust syntax; `(?i)` ignores case)."""
    JSON = "json"
    """The answer is one JSON value."""
    REFERENCE = "reference"
    """The words of the item's reference occur in the answer."""
    MAX_WORDS = "max_words"
    """The answer has at most `value` words."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One criterion: its id, what is looked at, and what for. `negate` demands the opposite."""

    id: str
    kind: RuleKind
    value: str = ""
    negate: bool = False

    def __post_init__(self) -> None:
        if self.kind in (RuleKind.CONTAINS, RuleKind.REGEX) and not self.value:
            raise ValueError(f"rule {self.id}: {self.kind} needs a value")
        if self.kind is RuleKind.REGEX and unusable([self.value], Metric.REGEX):
            raise ValueError(f"rule {self.id}: {self.value[:80]!r} is no regular expression of the supported kind")
        if self.kind is RuleKind.MAX_WORDS and not self.value.isdecimal():
            raise ValueError(f"rule {self.id}: max_words needs a whole number, not {self.value[:20]!r}")


class RuleJudge:
    """See `interface.Judge`. Asks nobody; `score` is the share of rules that an answer meets.

    Args:
        id: name of the judge.
        rules: at least one, with distinct ids.

    Raises:
        ValueError: otherwise.
    """

    family = "rules"
    version = "1"

    def __init__(self, id: str, rules: Sequence[Rule]) -> None:
        if not rules or len({rule.id for rule in rules}) != len(rules):
            raise ValueError(f"judge {id} needs rules with distinct ids")
        self.id = id
        self._rules = tuple(rules)

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the rules."""
        return digest([asdict(rule) for rule in self._rules])

    def judge(self, items: Sequence[JudgeItem], *, progress: Progress | None = None) -> Judged:
        """Verdicts on `items`.

        Raises:
            EvaluationError: if a rule reads the reference and an item has none.
        """
        met = {rule.id: self._met(rule, items) for rule in self._rules}
        verdicts = []
        for i, item in enumerate(items):
            criteria = {name: float(column[i]) for name, column in met.items()}
            missed = [name for name, value in criteria.items() if not value]
            reason = f"not met: {', '.join(missed)}" if missed else ""
            verdicts.append(ItemVerdict(item.item_id, sum(criteria.values()) / len(criteria), criteria, reason))
        if progress is not None and items:
            progress(len(items), len(items))
        return Judged(verdicts, TRANSCRIPT_SCHEMA.empty_table(), 0)

    def _met(self, rule: Rule, items: Sequence[JudgeItem]) -> list[bool]:
        answers = [item.answer for item in items]
        if rule.kind is RuleKind.MAX_WORDS:
            words = pl.Series(answers, dtype=pl.String).str.count_matches(r"\S+")
            found = (words <= int(rule.value)).to_list()
        else:
            found = [value == 1.0 for value in score(answers, self._expected(rule, items), _METRICS[rule.kind]).to_pylist()]
        return [value != rule.negate for value in found]

    def _expected(self, rule: Rule, items: Sequence[JudgeItem]) -> list[str]:
        if rule.kind is not RuleKind.REFERENCE:
            return [rule.value] * len(items)
        if absent := next((item.item_id for item in items if item.reference is None), None):
            raise EvaluationError(
                f"Rule {rule.id} of judge {self.id} compares with a reference and item {absent} has none.",
                remedy="End the row with an assistant turn, or drop the rule.",
            )
        return [str(item.reference) for item in items]


_METRICS = {
    RuleKind.CONTAINS: Metric.CONTAINS,
    RuleKind.REFERENCE: Metric.CONTAINS,
    RuleKind.REGEX: Metric.REGEX,
    RuleKind.JSON: Metric.JSON_VALID,
}
