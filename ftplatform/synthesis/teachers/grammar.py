"""A template grammar as teacher: symbols with weighted productions, slots and optional parts. Nothing in it is ever executed.

A grammar is data, as it may stand in YAML or JSON::

    user:
      - {text: "{opener:0.4} where is my {item}", weight: 3}
      - "i want to return the {item}"
    opener: ["hi,", "hey"]
    item: [parcel, refund]

`{item}` puts in a production of `item`, `{opener:0.4}` does so four times out of ten, and `{seed}` a user turn of the seed rows. `{{`
and `}}` are braces. Spaces left by an absent part are joined.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.synthesis.teachers.interface import Identity, Refused, TeacherError, Unusable, Written, rows_of

#: The slot that holds a user turn of the seed rows.
SEED = "seed"

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)(?::([0-9.]+))?\}|[{}]")
_MAX_PRODUCTIONS = 100_000
# Slots inside slots, and parts of one text: a few lines of doubling rules could otherwise ask for more text than there is memory.
_DEPTH, _LONGEST = 50, 2_000


@dataclass(frozen=True, slots=True)
class _Slot:
    symbol: str
    probability: float


@dataclass(frozen=True, slots=True)
class _Production:
    parts: tuple[str | _Slot, ...]
    weight: float


class Grammar:
    """A checked grammar.

    Args:
        rules: symbol to its productions: texts, or mappings with `text` and `weight`.
        shared: symbols that have one value in the whole row, so that the answer speaks of what the question asked.

    Raises:
        TeacherError: naming the symbol: unknown slots, cycles, braces that do not match, weights or probabilities out of range.
    """

    def __init__(self, rules: Mapping[str, Sequence[str | Mapping[str, Any]]], shared: Collection[str] = ()) -> None:
        self._rules = {symbol: tuple(_production(symbol, item) for item in items) for symbol, items in rules.items()}
        self._shared = frozenset(shared) | {SEED}
        self.digest = digest(
            {
                "rules": {s: [dict(p) if isinstance(p, Mapping) else p for p in items] for s, items in rules.items()},
                "shared": sorted(shared),
            }
        )
        if sum(map(len, self._rules.values())) > _MAX_PRODUCTIONS:
            raise TeacherError(f"The grammar has more than {_MAX_PRODUCTIONS:,} productions.", remedy="Take seeds for long lists.")
        if SEED in rules:
            raise TeacherError(f"{SEED!r} stands for a user turn of the seed rows and has no rule.", remedy="Rename the symbol.")
        self._sizes: dict[str, int] = {SEED: 1}
        for symbol in self._rules:
            self._measure(symbol, ())
        if unknown := set(shared) - set(rules):
            raise TeacherError(f"The shared symbol {sorted(unknown)[0]!r} has no rule.", remedy="Remove it or give it a rule.")

    def uses(self, start: str, wanted: str) -> bool:
        """Whether a text from `start` may hold the slot `wanted`."""
        reached, waiting = set[str](), [start]
        while waiting:
            for rule in self._rules.get(waiting.pop(), ()):
                new = {part.symbol for part in rule.parts if isinstance(part, _Slot)} - reached
                reached |= new
                waiting += new
        return wanted in reached

    def expand(self, start: str, n: int, rng: np.random.Generator, fixed: dict[str, pl.Series]) -> pl.Series:
        """`n` texts from `start`.

        Args:
            fixed: values of shared symbols, shape (n,) each, those of `SEED` included if it is used; symbols met for the first time
                are added, for the next call.
        """
        if start not in self._rules:
            raise TeacherError(f"The grammar has no symbol {start!r}.", remedy="Add a rule for it.")
        texts = self._expand(start, np.arange(n), rng, fixed, n)
        return texts.str.replace_all(r"\s+", " ").str.strip_chars()

    def _expand(self, symbol: str, rows: np.ndarray, rng: np.random.Generator, fixed: dict[str, pl.Series], n: int) -> pl.Series:
        """Texts for some rows of the batch: one choice of productions for all, then part by part, never row by row."""
        if symbol in self._shared:
            if symbol not in fixed:
                fixed[symbol] = self._choose(symbol, np.arange(n), rng, fixed, n)
            return fixed[symbol].gather(rows)
        return self._choose(symbol, rows, rng, fixed, n)

    def _choose(self, symbol: str, rows: np.ndarray, rng: np.random.Generator, fixed: dict[str, pl.Series], n: int) -> pl.Series:
        rules = self._rules[symbol]
        weights = np.array([rule.weight for rule in rules])
        choice = rng.choice(len(rules), size=len(rows), p=weights / weights.sum())
        pieces, places = [], []
        for number in np.unique(choice):
            here = np.flatnonzero(choice == number)
            places.append(here)
            pieces.append(self._fill(rules[number], rows[here], rng, fixed, n))
        if not pieces:
            return pl.Series([], dtype=pl.String)
        order = np.argsort(np.concatenate(places), kind="stable")
        return pl.concat(pieces).gather(order)

    def _fill(
        self, rule: _Production, rows: np.ndarray, rng: np.random.Generator, fixed: dict[str, pl.Series], n: int
    ) -> pl.Series:
        columns: list[pl.Series] = []
        for part in rule.parts:
            if isinstance(part, str):
                columns.append(pl.Series([part], dtype=pl.String).new_from_index(0, len(rows)))
                continue
            values = self._expand(part.symbol, rows, rng, fixed, n)
            if part.probability < 1:
                present = pl.Series(rng.random(len(rows)) < part.probability)
                values = pl.select(pl.when(present).then(values).otherwise(pl.lit(""))).to_series()
            columns.append(values)
        if not columns:
            return pl.Series([""], dtype=pl.String).new_from_index(0, len(rows))
        return pl.DataFrame({str(i): column for i, column in enumerate(columns)}).select(pl.concat_str(pl.all())).to_series()

    def _measure(self, symbol: str, above: tuple[str, ...]) -> int:
        """Most parts a text from `symbol` can have; each symbol is looked at once."""
        if symbol in above or len(above) > _DEPTH:
            path = " > ".join((*above[-5:], symbol))
            raise TeacherError(f"The grammar goes round, or deeper than {_DEPTH}: {path}.", remedy="Remove one of these slots.")
        if symbol in self._sizes:
            return self._sizes[symbol]
        if symbol not in self._rules:
            raise TeacherError(f"{above[-1]!r} uses {{{symbol}}}, which has no rule.", remedy="Add the rule, or correct it.")
        if not self._rules[symbol]:
            raise TeacherError(f"The symbol {symbol!r} has no productions.", remedy="Give it at least one.")
        inside = (*above, symbol)
        size = max(
            1 + sum(1 if isinstance(part, str) else self._measure(part.symbol, inside) for part in rule.parts)
            for rule in self._rules[symbol]
        )
        if size > _LONGEST:
            raise TeacherError(f"A text from {symbol!r} may have {size:,} parts.", remedy=f"Keep it below {_LONGEST:,}.")
        self._sizes[symbol] = size
        return size


@dataclass(frozen=True)
class GrammarTeacher:
    """A grammar as teacher.

    Attributes:
        id, terms: see `Identity`.
        grammar: what may be said. user: symbol of the user turn. assistant: symbol of the answer; None writes inputs only.
    """

    id: str
    grammar: Grammar
    terms: str | None = None
    user: str = "user"
    assistant: str | None = None

    @property
    def identity(self) -> Identity:
        """Who it is; the prompt is the grammar."""
        prompt = digest({"grammar": self.grammar.digest, "user": self.user, "assistant": self.assistant})
        return Identity(id=self.id, terms=self.terms, kind="grammar", prompt=prompt)

    def write(self, seeds: pa.Table, n: int, seed: int, *, refused: list[Refused] | None = None) -> pa.Table:
        """See `Teacher`. A row names a seed as parent only if its texts may hold it."""
        rng = np.random.default_rng(seed)
        fixed: dict[str, pl.Series] = {}
        chosen: list[tuple[int, ...]] = [()] * n
        if any(self.grammar.uses(start, SEED) for start in (self.user, self.assistant) if start is not None):
            said = turns(seeds, Role.USER)
            if not said.num_rows:
                raise TeacherError(
                    f"The grammar {self.id!r} uses {{seed}} and got no seed rows.", remedy="Give rows with user turns."
                )
            drawn = rng.integers(said.num_rows, size=n)
            fixed[SEED] = pl.Series(said["content"]).gather(drawn)
            chosen = [(int(row),) for row in pl.Series(said["row"]).gather(drawn)]
        users = self.grammar.expand(self.user, n, rng, fixed)
        answers = [None] * n if self.assistant is None else self.grammar.expand(self.assistant, n, rng, fixed).to_list()
        written = [Written(u, a, s) for u, a, s in zip(users, answers, chosen, strict=True) if u and a != ""]
        if refused is not None:
            empty = [
                (u, Unusable.UNANSWERED if u else Unusable.EMPTY) for u, a in zip(users, answers, strict=True) if not u or a == ""
            ]
            refused += [Refused(reason, text) for text, reason in empty]
        return rows_of(self.identity, written, seeds, seed)


def _production(symbol: str, item: str | Mapping[str, Any]) -> _Production:
    weight, text = 1.0, item
    if isinstance(item, Mapping):
        if unknown := set(item) - {"text", "weight"}:
            raise TeacherError(f"{symbol!r} has the unknown key {sorted(unknown)[0]!r}.", remedy="Give 'text' and 'weight'.")
        text, weight = item.get("text"), item.get("weight", 1.0)
    if not isinstance(text, str) or isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
        raise TeacherError(f"A production of {symbol!r} needs a text and a weight above 0.", remedy="Correct it.")
    parts: list[str | _Slot] = []
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() > end:
            parts.append(text[end : found.start()])
        end = found.end()
        if found[0] in ("{{", "}}"):
            parts.append(found[0][0])
        elif found[1] is None:
            raise TeacherError(f"A brace in {symbol!r} does not match.", remedy="Write '{symbol}', or '{{' for a brace.")
        else:
            parts.append(_Slot(found[1], _probability(symbol, found[2])))
    if end < len(text):
        parts.append(text[end:])
    return _Production(tuple(parts), float(weight))


def _probability(symbol: str, text: str | None) -> float:
    if text is None:
        return 1.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise TeacherError(f"The probability {text!r} in {symbol!r} is not between 0 and 1.", remedy="Correct it.")
    return value
