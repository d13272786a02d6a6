"""What every judge is: items in, one verdict per item out, with enough said about the judge to know later who decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from ftplatform.evaluation.generation import Conversation

#: Called with (items done, all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """An answer to be graded.

    Attributes:
        item_id: of the eval item.
        conversation: the messages that were answered.
        answer: what is graded.
        reference: a right answer, if one is known.
    """

    item_id: str
    conversation: Conversation
    answer: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class ItemVerdict:
    """What a judge says about one answer.

    Attributes:
        item_id: of the item.
        score: mean over the criteria, in [0, 1]; None if the judge gave no usable answer (see `problem`). None is not 0.
        criteria: score of each criterion, in [0, 1].
        reason: the judge's own words; untrusted text.
        problem: why there is no score.
        request: key of the transcript this verdict was read from; None where nobody had to be asked.
    """

    item_id: str
    score: float | None
    criteria: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    problem: str | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge made of some items.

    Attributes:
        verdicts: one per item, in their order.
        transcripts: what was asked and said, each exchange once: table of `transcripts.TRANSCRIPT_SCHEMA`, empty for rules.
        calls: exchanges that took place now and were not replayed.
    """

    verdicts: Sequence[ItemVerdict]
    transcripts: pa.Table
    calls: int

    @property
    def quarantined(self) -> list[ItemVerdict]:
        """Verdicts without a score: items the judge answered, but not in a way that can be read."""
        return [verdict for verdict in self.verdicts if verdict.score is None]


class Judge(Protocol):
    """Grades answers.

    Two judges of one `family` (the same model, or models of one maker) share their blind spots, so reward and exam must not.
    """

    @property
    def id(self) -> str:
        """Name of the judge in the project."""
        ...

    @property
    def family(self) -> str:
        """Whose judgment it is: ``rules``, or the model family."""
        ...

    @property
    def version(self) -> str:
        """Version of the judge's code or model; another version may judge otherwise."""
        ...

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the criteria and of how they are put to the judge."""
        ...

    def judge(self, items: Sequence[JudgeItem], *, progress: Progress | None = None) -> Judged:
        """Verdicts on `items`.

        Raises:
            FtplatformError: if the judge cannot be asked. What it had said by then is kept.
        """
        ...
