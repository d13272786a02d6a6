"""Problem: one thing that is wrong in a project file, with its place and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ftplatform.errors import ProjectError
from ftplatform.project.credentials import credential_in, shown

#: A path into the file: keys of mappings and indexes of lists.
KeyPath = tuple[str | int, ...]

#: Longer lists of allowed values are cut in the printed form; `Problem.allowed` holds them all.
_SHOWN_VALUES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One defect of a project file.

    Attributes:
        file: the file's name as the user gave it.
        line, column: place of the key or value, counted from 1.
        path: keys and list indexes that lead to it; empty for the file as a whole.
        message: what is wrong, without place and remedy. Credentials found in the file are never repeated in it.
        allowed: the values or keys that would be accepted, if they can be listed.
        suggestion: the nearest of them, if one is near.
        severity: an `error` makes the file unusable; a `warning` is shown and lets it pass.
    """

    file: str
    line: int
    column: int = 1
    path: KeyPath = ()
    message: str
    allowed: tuple[str, ...] = ()
    suggestion: str | None = None
    severity: Literal["error", "warning"] = "error"

    @property
    def key(self) -> str:
        """The path as people write it: ``sources.tickets.path[0]``."""
        return dotted(self.path)

    def __str__(self) -> str:
        """``ftplatform.yaml:12: sources.tickets.lisense: unknown key; did you mean 'license'? allowed: ...``"""
        text = f"{self.file}:{self.line}: "
        if self.severity == "warning":
            text += "warning: "
        if self.path:
            text += f"{self.key}: "
        text += self.message
        if self.suggestion is not None:
            text += f"; did you mean {self.suggestion!r}?"
        if self.allowed:
            rest = len(self.allowed) - _SHOWN_VALUES
            listed = ", ".join(self.allowed[:_SHOWN_VALUES]) + (f", and {rest} more" if rest > 0 else "")
            text += f"{' ' if self.suggestion is not None else '; '}allowed: {listed}"
        return text

    def to_record(self) -> dict[str, object]:
        """JSON-able form, for `--json`."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "allowed": list(self.allowed),
            "suggestion": self.suggestion,
            "severity": self.severity,
        }


class ProjectFileError(ProjectError):
    """The project file cannot be used; `problems` lists every reason that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column, p.key, p.message)))
        errors = [p for p in self.problems if p.severity == "error"]
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        file = self.problems[0].file if self.problems else "the project file"
        super().__init__("\n".join([f"{file} has {count}:", *(f"  {p}" for p in self.problems)]))


def dotted(path: Sequence[str | int]) -> str:
    """``("sources", "tickets", "path", 0)`` as ``sources.tickets.path[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if part.isprintable() and len(part) <= 80 and not credential_in(part) else shown(part)
            text += f".{word}" if text else word
    return text


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `word`, or None if none is near (Ratcliff-Obershelp similarity of at least 0.6, ignoring case)."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    # A longer word is no typo of anything we know, and difflib is quadratic in it.
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6) if len(word) <= 100 else []
    return by_lower[found[0]] if found else None
