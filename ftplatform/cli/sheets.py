"""CSV sheets that people fill in."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ftplatform.errors import InputDataError


def inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def read_sheet(sheet: Path, keys: Sequence[str], answer: str, allowed: Sequence[str]) -> list[dict[str, str]]:
    """The columns `keys` and `answer` of every line.

    Raises:
        InputDataError: naming the file and line of an answer that is not `allowed`, or of a missing column.
    """
    found: list[dict[str, str]] = []
    try:
        with sheet.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), 2):
                if any(row.get(column) is None for column in (*keys, answer)):
                    raise InputDataError(
                        f"{sheet}, line {line} lacks one of the columns {', '.join((*keys, answer))}.",
                        remedy="Leave the columns as they were written.",
                    )
                said = row[answer].strip().lower()
                if said not in allowed:
                    raise InputDataError(
                        f"{sheet}, line {line}: the column {answer} says {row[answer]!r}.",
                        remedy=f"Write one of {', '.join(allowed)} in every line.",
                    )
                found.append({**{key: row[key] for key in keys}, answer: said})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputDataError(f"{sheet} cannot be read: {error}.", remedy="Give the CSV file that was written for it.") from error
    return found
