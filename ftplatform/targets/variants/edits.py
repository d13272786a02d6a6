"""Cleaning targets by reviewed edits: proposed as a diff, decided by people, applied only where accepted. Nothing is corrected silently.

A diff is a JSON Lines file, one edit a line: `row_id`, `message` (position in the conversation), `start` and `end` (code points of
that message), `from`, `to`, `reason`, `context` (masked), `decision` (pending, accept, reject), `reviewer`. Rows are named by their
content, so an edit of a row that has changed since finds nothing and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson
import polars as pl

from ftplatform.errors import InputDataError
from ftplatform.rows.masking import excerpt
from ftplatform.targets.variants.findings import Findings, Kind
from ftplatform.targets.variants.words import Rows, batches, in_case_of, normalized, target_turns, word_spans

#: Bytes of one line of a diff, far above what `propose_edits` writes.
_MAX_LINE = 1 << 16
_AROUND = 60


class Decision(StrEnum):
    """What a reviewer said of an edit."""

    PENDING = "pending"
    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One proposed correction.

    Attributes:
        row_id, message, start, end: the place: code points `start` to `end` of message number `message` (from 0).
        before, after: the text there, and what it becomes (`from` and `to` in the file).
        reason: why, with the numbers. context: the masked surroundings, for the reader.
        decision, reviewer: `PENDING` and nobody until a person has decided.
    """

    row_id: str
    message: int
    start: int
    end: int
    before: str
    after: str
    reason: str
    context: str = ""
    decision: Decision = Decision.PENDING
    reviewer: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end or self.message < 0 or self.end - self.start != len(self.before):
            raise ValueError(f"the span {self.start} to {self.end} of message {self.message} does not fit {self.before!r}")
        if not self.after.strip() or self.after == self.before:
            raise ValueError(f"{self.before!r} would become {self.after!r}")
        if self.decision is not Decision.PENDING and not self.reviewer.strip():
            raise ValueError(f"it is decided ({self.decision}) and names no reviewer")

    @property
    def place(self) -> tuple[str, int, int, int]:
        """Row, message, start, end."""
        return self.row_id, self.message, self.start, self.end

    def to_record(self) -> dict[str, Any]:
        """The JSON object of one line."""
        return {
            "row_id": self.row_id,
            "message": self.message,
            "start": self.start,
            "end": self.end,
            "from": self.before,
            "to": self.after,
            "reason": self.reason,
            "context": self.context,
            "decision": str(self.decision),
            "reviewer": self.reviewer,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `to_record`.

        Raises:
            KeyError, TypeError, ValueError: on a missing key, another type, or a contradiction.
        """
        texts = {key: record[name] for key, name in _TEXTS.items()}
        numbers = {key: record[key] for key in ("message", "start", "end")}
        for name, value in texts.items():
            if not isinstance(value, str):
                raise TypeError(f"{_TEXTS[name]!r} is no text")
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name!r} is no whole number")
        return cls(**{**texts, **numbers, "decision": Decision(texts["decision"])})


_TEXTS = {"row_id": "row_id", "before": "from", "after": "to", "reason": "reason", "context": "context"} | {
    "decision": "decision",
    "reviewer": "reviewer",
}


def propose_edits(rows: Rows, found: Findings) -> Iterator[Edit]:
    """An edit for every place where a variant stands in a trainable assistant turn; all pending.

    Args:
        rows: the rows that were searched, read once more. Only turns that hold a variant are looked at word by word.
    """
    by_word = {line["variant"]: line for line in found.variants.iter_rows(named=True) if line["kind"] != Kind.CASE}
    by_form = {line["variant"]: line for line in found.variants.iter_rows(named=True) if line["kind"] == Kind.CASE}
    needles = sorted({*by_word, *(form.lower() for form in by_form)})
    needles += [word.replace("'", "’") for word in needles if "'" in word]
    if not needles:
        return
    for table in batches(rows):
        likely = target_turns(table).filter(pl.col("text").str.contains_any(needles, ascii_case_insensitive=True))
        for row_id, turn, text in likely.select("row_id", "turn", "text").iter_rows():
            for start, end in word_spans(text):
                use = text[start:end]
                line = by_form.get(use) or by_word.get(normalized(use))
                if line is None:
                    continue
                yield Edit(
                    row_id=row_id,
                    message=turn,
                    start=start,
                    end=end,
                    before=use,
                    after=line["partner"] if line["kind"] != Kind.DICTIONARY else in_case_of(line["partner"], use),
                    reason=f"{line['kind']}: {line['count']} of {line['count'] + line['partner_count']} uses ({line['share']:.1%})"
                    + ("" if line["confirmed"] else ", perhaps a word of the domain"),
                    context=_context(text, start, end),
                )


def _context(text: str, start: int, end: int) -> str:
    # Whole words around it, masked as one text so that no half of a number escapes the mask.
    left, right = text.rfind(" ", 0, max(0, start - _AROUND)) + 1, text.find(" ", end + _AROUND)
    return excerpt(text[left : right if right >= 0 else None], 2 * _AROUND + 80)


def with_decisions(edits: Iterable[Edit], decided: Iterable[Edit]) -> Iterator[Edit]:
    """`edits` with the decisions already made on the same edit in an earlier diff."""
    known = {(edit.place, edit.after): edit for edit in decided if edit.decision is not Decision.PENDING}
    for edit in edits:
        earlier = known.get((edit.place, edit.after))
        yield edit if earlier is None else replace(edit, decision=earlier.decision, reviewer=earlier.reviewer)


def decide(
    edits: Iterable[Edit], *, by: str, accept: Iterable[tuple[str, str]] = (), reject: Iterable[tuple[str, str]] = ()
) -> list[Edit]:
    """Decide all pending edits of some words at once.

    Args:
        by: who decided. accept, reject: pairs (from, to), whatever their capitals.

    Raises:
        InputDataError: nobody is named, a pair is in both lists, or in no pending edit.
    """
    if not by.strip():
        raise InputDataError("The decision has no reviewer.", remedy="Name the person who read the edits.")
    said = {(a.lower(), b.lower()): Decision.ACCEPT for a, b in accept}
    for a, b in reject:
        if said.setdefault((a.lower(), b.lower()), Decision.REJECT) is not Decision.REJECT:
            raise InputDataError(f"{a!r} to {b!r} is both accepted and rejected.", remedy="Decide for one.")
    result, used = [], set()
    for edit in edits:
        pair = (edit.before.lower().replace("’", "'"), edit.after.lower())
        if edit.decision is Decision.PENDING and pair in said:
            used.add(pair)
            edit = replace(edit, decision=said[pair], reviewer=by)
        result.append(edit)
    for a, b in said.keys() - used:
        raise InputDataError(f"No pending edit turns {a!r} into {b!r}.", remedy="Give pairs as they stand in the diff.")
    return result


def write_edits(path: Path, edits: Iterable[Edit]) -> int:
    """Write a diff; returns the number of edits."""
    count = 0
    with path.open("wb") as file:
        for edit in edits:
            file.write(orjson.dumps(edit.to_record()) + b"\n")
            count += 1
    return count


def read_edits(path: Path) -> list[Edit]:
    """The edits of a diff.

    Raises:
        InputDataError: naming the file and line that is no edit.
    """
    edits: list[Edit] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 1):
                if not line.strip():
                    continue
                try:
                    edits.append(Edit.from_record(orjson.loads(line)))
                except (KeyError, TypeError, ValueError) as error:
                    said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
                    raise InputDataError(
                        f"{path}, line {number} is no edit: {said}.", remedy="Change only `decision` and `reviewer` of a line."
                    ) from error
    except OSError as error:
        raise InputDataError(f"{path} cannot be read: {error.strerror}.", remedy="Give the diff that was proposed.") from error
    return edits
