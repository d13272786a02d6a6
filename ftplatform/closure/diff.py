"""What differs between two closures, field by field: the first question when an adapter does not come out the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Stands for a field that one side does not have.
ABSENT = object()

# What names an entry of a list, so that an added file is one addition and not a shift of everything after it.
_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "files": ("path",),
    "inputs": ("role", "asset"),
    "checks": ("asset", "check"),
    "judged": ("asset",),
    "direct": ("name",),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. `before` or `after` is None with `kind` "added" or "removed".

    `path` is a JSON pointer, except that entries of known lists are named (``/inputs/rows:splits~1support/snapshot``) instead of
    numbered.
    """

    path: str
    kind: str
    before: Any
    after: Any

    def __str__(self) -> str:
        match self.kind:
            case "added":
                return f"{self.path}: added {_short(self.after)}"
            case "removed":
                return f"{self.path}: removed {_short(self.before)}"
        return f"{self.path}: {_short(self.before)} -> {_short(self.after)}"


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """All differing leaves of two manifests, sorted by path; empty exactly if they are equal as JSON."""
    return sorted(_changes((), before, after), key=lambda change: change.path)


def _changes(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if before is ABSENT:
        yield Change(_pointer(path), "added", None, after)
    elif after is ABSENT:
        yield Change(_pointer(path), "removed", before, None)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _changes((*path, str(key)), before.get(key, ABSENT), after.get(key, ABSENT))
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        left, right = _keyed(path, before), _keyed(path, after)
        if left is None or right is None:
            left, right = dict(enumerate(before)), dict(enumerate(after))
        for key in [*left, *(key for key in right if key not in left)]:
            yield from _changes((*path, str(key)), left.get(key, ABSENT), right.get(key, ABSENT))
    elif before != after or isinstance(before, bool) != isinstance(after, bool):  # True == 1 in Python, not in JSON
        yield Change(_pointer(path), "changed", before, after)


def _keyed(path: tuple[str, ...], items: Sequence[Any]) -> dict[Any, Any] | None:
    """Entries by identity; None if the list has none, an entry lacks it, or two entries share it."""
    names = _IDENTITY.get(path[-1]) if path else None
    if names is None or not all(isinstance(item, Mapping) and all(name in item for name in names) for item in items):
        return None
    keyed = {":".join(str(item[name]) for name in names): item for item in items}
    return keyed if len(keyed) == len(items) else None


def _pointer(path: tuple[str, ...]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
