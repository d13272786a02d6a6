"""From what a host or a README says to a normalized SPDX expression, or to an honest "unknown".

Only exact SPDX (with the aliases that `license-expression` knows) and the exact tags of the Hugging Face Hub are understood. Free
text such as "Apache 2.0" stays unknown: guessing here is how half of the licenses on dataset hosts came to be wrong (Longpre et
al. 2023, arXiv:2310.16787). The remedy, writing the identifier, takes the user five seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from license_expression import Licensing

#: Tags of the Hugging Face Hub that are neither SPDX nor an alias known to license-expression.
HUB_TAGS: dict[str, str] = {
    "bigcode-openrail-m": "LicenseRef-scancode-bigcode-open-rail-m-v1",
    "bigscience-bloom-rail-1.0": "LicenseRef-scancode-bigscience-rail-1.0",
    "bigscience-openrail-m": "LicenseRef-scancode-bigscience-open-rail-m",
    "c-uda": "C-UDA-1.0",
    "gemma": "LicenseRef-scancode-gemma-tou-2024-04-01",
    "llama2": "LicenseRef-scancode-llama-2-license-2023",
    "llama3.1": "LicenseRef-scancode-llama-3.1-license-2024",
    "llama3.2": "LicenseRef-scancode-llama-3.2-license-2024",
    "llama3.3": "LicenseRef-scancode-llama-3.3-license-2024",
    "llama4": "LicenseRef-scancode-llama-4-license-2025",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
}

#: Names without a version: they stand for several licenses with different terms, whatever a library's alias table makes of them.
_AMBIGUOUS = frozenset({"agpl", "apache", "bsd", "cc", "cc-by", "cc-by-nc", "cc-by-sa", "gfdl", "gpl", "lgpl", "openrail"})

#: Explicit statements that nothing is known.
_NO_ASSERTION = frozenset({"", "noassertion", "none", "unknown", "other", "null", "n/a"})

# An expression longer than this is not a license declaration but an attack on the parser, or a license text in the wrong field.
MAX_LENGTH = 2000
MAX_SYMBOLS = 64
MAX_DEPTH = 16

_LICENSE_REF = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class LicenseKey:
    """One license of an expression; `exception` is the SPDX exception after WITH, which only ever adds permissions."""

    key: str
    exception: str | None = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """AND: every part binds."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """OR: the licensee chooses a part."""

    parts: tuple[Tree, ...]


Tree = LicenseKey | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class ParsedLicense:
    """What was declared and what it means.

    Attributes:
        raw: the declaration, verbatim (a list is joined with ", "). Kept because normalizing can change the meaning: the alias
            `gpl-3.0` becomes `GPL-3.0-only`.
        expression: normalized SPDX expression, None if unknown.
        tree: the same as a tree, None if unknown.
        problem: why it is unknown, one clause; None if it is known.
    """

    raw: str | None
    expression: str | None
    tree: Tree | None
    problem: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """License keys in the expression, sorted, each once; empty if unknown."""
        return tuple(sorted(set(_keys(self.tree)))) if self.tree is not None else ()


def parse_license(declared: str | Sequence[str] | None) -> ParsedLicense:
    """Normalize a declaration.

    Args:
        declared: SPDX expression, Hub tag, or a list of either. A list binds as a whole (AND): a repository tagged
            ``["mit", "other"]`` holds material under both.

    Returns:
        The parsed license. Never raises for bad text: it comes back as unknown, with the reason.
    """
    if declared is None:
        return ParsedLicense(None, None, None, "no license is declared")
    if not isinstance(declared, str):
        return _parse_list([str(part) for part in declared])
    return _parse_text(declared)


def equivalent(first: ParsedLicense, second: ParsedLicense) -> bool:
    """True if both are known and say the same up to order, repetition and redundant parts."""
    if first.expression is None or second.expression is None:
        return False
    return simplified(first.expression) == simplified(second.expression)


@lru_cache(maxsize=4096)
def simplified(expression: str) -> str:
    """The simplest equivalent of a known expression, parts sorted (absorption, duplicates and nesting removed)."""
    parsed: Any = _licensing().parse(expression)
    return str(parsed.simplify())


@lru_cache(maxsize=1)
def known_license_keys() -> frozenset[str]:
    """All keys the SPDX list and the ScanCode LicenseDB know (exceptions left out); policies are checked against them."""
    return frozenset(key for key, symbol in _licensing().known_symbols.items() if not getattr(symbol, "is_exception", False))


def _parse_list(parts: list[str]) -> ParsedLicense:
    raw = ", ".join(parts)
    if not parts:
        return ParsedLicense(raw, None, None, "no license is declared")
    parsed = [_parse_text(part) for part in parts]
    for part in parsed:
        if part.expression is None:
            return ParsedLicense(raw, None, None, part.problem)
    if len(parts) == 1:
        return ParsedLicense(raw, parsed[0].expression, parsed[0].tree)
    joined = _parse_text(" AND ".join(f"({part.expression})" for part in parsed))
    return ParsedLicense(raw, joined.expression, joined.tree, joined.problem)


@lru_cache(maxsize=4096)
def _parse_text(raw: str) -> ParsedLicense:
    text = raw.strip()
    folded = text.casefold()
    if folded in _NO_ASSERTION:
        return ParsedLicense(raw, None, None, "no license is declared" if not text else f"{text!r} names no license")
    if folded in _AMBIGUOUS:
        return ParsedLicense(raw, None, None, f"{text!r} names several licenses; give the version")
    if len(text) > MAX_LENGTH or _depth(text) > MAX_DEPTH:
        return ParsedLicense(
            raw, None, None, f"a license expression has at most {MAX_LENGTH} characters and {MAX_DEPTH} nested parentheses"
        )
    if folded in HUB_TAGS:
        key = HUB_TAGS[folded]
        return ParsedLicense(raw, key, LicenseKey(key))

    from license_expression import ExpressionError, ExpressionParseError

    licensing = _licensing()
    try:
        parsed = licensing.parse(text)
        tree = _tree(parsed, licensing)
    except (ExpressionError, ExpressionParseError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else "it does not parse"
        return ParsedLicense(raw, None, None, f"{_short(text)!r} is not an SPDX expression: {reason}")
    except _UnknownKeyError as error:
        return ParsedLicense(raw, None, None, f"{_short(error.key)!r} is no SPDX identifier{_hint(error.key)}")
    if sum(1 for _ in _keys(tree)) > MAX_SYMBOLS:
        return ParsedLicense(raw, None, None, f"a license expression names at most {MAX_SYMBOLS} licenses")
    return ParsedLicense(raw, str(parsed), tree)


class _UnknownKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _tree(node: Any, licensing: Licensing) -> Tree:
    """Our tree from license-expression's; raises `_UnknownKeyError` for any symbol that is no license."""
    if isinstance(node, (licensing.AND, licensing.OR)):
        parts = tuple(_tree(part, licensing) for part in node.args)
        return AllOf(parts) if isinstance(node, licensing.AND) else AnyOf(parts)
    if hasattr(node, "license_symbol"):
        exception = node.exception_symbol
        if exception.key not in licensing.known_symbols or not exception.is_exception:
            raise _UnknownKeyError(exception.key)
        return LicenseKey(_known_key(node.license_symbol, licensing), exception.key)
    return LicenseKey(_known_key(node, licensing))


def _known_key(symbol: Any, licensing: Licensing) -> str:
    key = symbol.key
    if key in licensing.known_symbols:
        if getattr(symbol, "is_exception", False):
            raise _UnknownKeyError(key)
        return key
    # "or any later version": the named version is one the licensee may choose, so its terms are an upper bound.
    stem = key.removesuffix("+")
    if stem != key and stem in licensing.known_symbols:
        return stem
    if _LICENSE_REF.fullmatch(key):
        return key
    raise _UnknownKeyError(key)


def _keys(tree: Tree | None) -> list[str]:
    if tree is None:
        return []
    if isinstance(tree, LicenseKey):
        return [tree.key]
    return [key for part in tree.parts for key in _keys(part)]


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character == "(":
            depth += 1
            deepest = max(deepest, depth)
        elif character == ")":
            depth -= 1
    return deepest


def _hint(text: str) -> str:
    """Nearest identifier, as a suggestion for a person (never taken by itself)."""
    from difflib import get_close_matches

    spelled = {key.casefold(): key for key in known_license_keys() if not key.startswith("LicenseRef-")} | {
        tag: tag for tag in HUB_TAGS
    }
    query = re.sub(r"\s+", "-", re.sub(r"\b(the|license|licence|version|v(?=\d))\b", " ", text.casefold()).strip())
    found = get_close_matches(query, spelled, n=1, cutoff=0.75)
    return f"; did you mean {spelled[found[0]]}?" if found else ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


@lru_cache(maxsize=1)
def _licensing() -> Licensing:
    # Loading the index takes about 50 ms; nothing that merely imports this module should pay for it.
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
