"""Sheets that people fill in, as CSV or JSON Lines, and the log entries their answers become."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from ftplatform.errors import InputDataError
from ftplatform.feedback.decision_log import Adjudication, Annotation, Quality, Review, Ruling
from ftplatform.feedback.events import CorrectionKind, Intent
from ftplatform.rows.masking import mask_text

#: First characters that make a spreadsheet take a cell for a formula; such cells are written with an apostrophe before them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


Answer = Annotation | Adjudication | Review


class Purpose(StrEnum):
    """What a sheet is for."""

    ANNOTATION = "annotation"
    ADJUDICATION = "adjudication"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Layout:
    """Attributes:
    kind: entry that a line becomes.
    key: column with the id.
    shown: columns to be read.
    required, optional: columns to be filled in, with the codes allowed in them; no codes means free text.
    """

    kind: type[Answer]
    key: str
    shown: tuple[str, ...]
    required: Mapping[str, type[StrEnum]]
    optional: Mapping[str, type[StrEnum] | None]

    @property
    def answers(self) -> tuple[str, ...]:
        """Columns to be filled in."""
        return (*self.required, *self.optional)


LAYOUTS: dict[Purpose, Layout] = {
    Purpose.ANNOTATION: Layout(
        Annotation, "event_id", ("prompt", "answer", "correction"), {"intent_code": Intent, "correction_kind": CorrectionKind}, {}
    ),
    Purpose.ADJUDICATION: Layout(
        Adjudication,
        "event_id",
        ("prompt", "answer", "correction", "said"),
        {"decision": Ruling},
        {"intent_code": Intent, "correction_kind": CorrectionKind, "why": None},
    ),
    Purpose.REVIEW: Layout(Review, "row_id", ("prompt", "target"), {"quality": Quality}, {"why": None}),
}


def write_sheet(path: Path, purpose: Purpose, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write what is to be read, personal data masked, with empty columns for the answers.

    Args:
        path: a .csv or .jsonl file.
        lines: mappings with the key and the shown columns of the layout.

    Raises:
        InputDataError: another suffix.
    """
    layout = LAYOUTS[purpose]
    records = [
        {
            layout.key: line[layout.key],
            **{name: mask_text(line.get(name) or "") for name in layout.shown},
            **dict.fromkeys(layout.answers, ""),
        }
        for line in lines
    ]
    if path.suffix == ".jsonl":
        path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    elif path.suffix == ".csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [layout.key, *layout.shown, *layout.answers])
        writer.writeheader()
        writer.writerows({name: _inert(value) for name, value in record.items()} for record in records)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    else:
        raise InputDataError(f"{path} is no sheet.", remedy="Give a file whose name ends in .csv or .jsonl.")


def read_sheet(path: Path, purpose: Purpose, known: Collection[str], *, by: str, at: datetime) -> tuple[list[Answer], int]:
    """The entries of a filled sheet, and how many lines are still empty.

    Args:
        known: ids there may be.
        by, at: who filled it in, and when.

    Raises:
        InputDataError: naming file and line of an id that is not known or comes twice, a code that does not exist, or a line that is
            only half filled in. Nothing is taken from such a sheet.
    """
    layout = LAYOUTS[purpose]
    entries: list[Answer] = []
    seen: set[str] = set()
    empty = 0
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        key = _plain(str(line.get(layout.key) or ""))
        if key not in known:
            raise InputDataError(
                f"{where}: there is no {layout.key} {key[:80]!r}.", remedy="Leave the ids as they were written in the sheet."
            )
        if key in seen:
            raise InputDataError(f"{where}: {key[:80]!r} comes a second time.", remedy="Leave one of the lines.")
        seen.add(key)
        given = {name: str(line.get(name) or "").strip() for name in layout.answers}
        if not any(given.values()):
            empty += 1
            continue
        entries.append(_entry(layout, key, given, where, by, at))
    return entries, empty


def _entry(layout: Layout, key: str, given: Mapping[str, str], where: str, by: str, at: datetime) -> Answer:
    values: dict[str, Any] = {}
    for name, allowed in {**layout.required, **layout.optional}.items():
        said = given[name]
        if not said:
            if name in layout.required:
                raise InputDataError(
                    f"{where}: {name} is empty.", remedy=f"Write one of {', '.join(layout.required[name])}, or clear the line."
                )
            continue
        if allowed is None:
            values[name] = said
        elif said.lower() in set(allowed):
            values[name] = allowed(said.lower())
        else:
            raise InputDataError(f"{where}: {name} says {said[:40]!r}.", remedy=f"Write one of {', '.join(allowed)}.")
    make: Callable[..., Any] = layout.kind
    return make(**{layout.key: key}, by=by, at=at, **values)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    record = orjson.loads(line)
                    if not isinstance(record, dict):
                        raise InputDataError(
                            f"{path}, line {number} is no JSON object.", remedy="Leave the lines as they were written."
                        )
                    yield number, record
            return
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for record in reader:
            yield reader.line_num, record
    except (OSError, UnicodeDecodeError, orjson.JSONDecodeError, csv.Error) as error:
        raise InputDataError(f"{path} cannot be read: {error}.", remedy="Give the sheet that was written for it.") from error


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
