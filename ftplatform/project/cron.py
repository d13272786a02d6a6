"""Cron lines of five fields: refused where they are written, not when the schedule first ticks.

Accepts what every scheduler reads alike (Vixie cron: numbers, names, lists, ranges, steps, and the macros ``@daily`` ...) and
refuses a date that never comes, such as 31 April.
"""

from __future__ import annotations

import re

_MACROS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
#: Days of each month, in a leap year.
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", re.ASCII)


def cron_problem(line: str) -> str | None:
    """What is wrong with a cron line, or None."""
    if line.startswith("@"):
        return None if line in _MACROS else f"{line!r} is not a cron macro; use one of {', '.join(_MACROS)}"
    fields = line.split(" ")
    if len(fields) != len(_FIELDS):
        return "a cron line has five fields separated by single spaces: minute, hour, day of the month, month, day of the week"
    values: list[set[int]] = []
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        found = _field(text, low, high, names)
        if isinstance(found, str):
            return f"{name}: {found}"
        values.append(found)
    days, months = values[2], values[3]
    if fields[4] == "*" and all(min(days) > _LENGTHS[month - 1] for month in months):
        return f"day {min(days)} never comes in the given months"
    return None


def _field(text: str, low: int, high: int, names: dict[str, int]) -> set[int] | str:
    values: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            return f"{item!r} is not a number, a range 'a-b', '*', or one of these with a step '/n'"
        star, first, last, step = match.groups()
        if step is not None and (star is None and last is None):
            return f"{item!r}: a step needs '*' or a range before it"
        if step is not None and not 1 <= int(step) <= high:
            return f"{item!r}: the step must be between 1 and {high}"
        ends = [low, high] if star else [_number(word, names) for word in (first, last or first)]
        if any(end is None or not low <= end <= high for end in ends):
            return f"{item!r} is outside {low} to {high}"
        start, stop = (end for end in ends if end is not None)
        if start > stop:
            return f"{item!r}: the range runs backwards"
        values.update(range(start, stop + 1, int(step or 1)))
    return values


def _number(word: str, names: dict[str, int]) -> int | None:
    return int(word) if word.isdecimal() and len(word) <= 2 else names.get(word.lower())
