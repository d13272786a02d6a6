"""The texts deduplication compares, per row: the conversation without its system message, its inputs, its final answer."""

from __future__ import annotations

import re

import polars as pl
import pyarrow as pa

from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

#: Separates messages; not a word character, so it never becomes part of a token.
_BREAK = "\n"
_TELLING = re.compile(r"[\d@]")


def conversation_texts(rows: pa.Table) -> pl.Series:
    """User, assistant and tool messages of each row joined by line breaks; "" where there are none.

    System text is left out by role: a prompt shared by all rows says nothing about which rows are alike.
    """
    return _joined(rows, _spoken(rows))


def inputs_and_answers(rows: pa.Table) -> tuple[pl.Series, pl.Series]:
    """Text before the last assistant message, and that message; both "" where a row has none."""
    spoken = _spoken(rows)
    last = spoken.filter(pl.col("role") == str(Role.ASSISTANT)).group_by("row").agg(last=pl.col("turn").max())
    marked = spoken.join(last, on="row", how="left", maintain_order="left")
    answers = marked.filter(pl.col("turn") == pl.col("last"))
    inputs = marked.filter(pl.col("last").is_null() | (pl.col("turn") < pl.col("last")))
    return _joined(rows, inputs), _joined(rows, answers)


def excerpts(rows: pa.Table, limit: int = 240) -> list[str]:
    """Masked one-line beginnings of the conversations, at most `limit` characters each."""
    return [excerpt(text.replace(_BREAK, " | "), limit) for text in conversation_texts(rows).to_list()]


def contrasts(rows: pa.Table, others: pa.Table, limit: int = 240) -> tuple[list[str], list[str]]:
    """Masked excerpts of pairs of conversations, each beginning a few words before the first difference."""
    left, right = conversation_texts(rows).to_list(), conversation_texts(others).to_list()
    pairs = [_from_difference(a.replace(_BREAK, " | "), b.replace(_BREAK, " | ")) for a, b in zip(left, right, strict=True)]
    return [excerpt(a, limit) for a, _ in pairs], [excerpt(b, limit) for _, b in pairs]


def _from_difference(a: str, b: str) -> tuple[str, str]:
    words, other_words = a.split(), b.split()
    same = next((k for k, (x, y) in enumerate(zip(words, other_words, strict=False)) if x != y), min(len(words), len(other_words)))
    start = max(0, same - 8)
    # Never begin inside what may be a number or an address: half of one would escape the mask.
    while start and _TELLING.search(words[start - 1]):
        start -= 1
    if not start:
        return a, b
    return "… " + " ".join(words[start:]), "… " + " ".join(other_words[start:])


def _spoken(rows: pa.Table) -> pl.DataFrame:
    table = turns(rows)
    frame = pl.DataFrame({name: table[name] for name in ("row", "turn", "role", "content")})
    return frame.filter(pl.col("role") != str(Role.SYSTEM))


def _joined(rows: pa.Table, messages: pl.DataFrame) -> pl.Series:
    joined = messages.group_by("row", maintain_order=True).agg(text=pl.col("content").str.join(_BREAK))
    frame = pl.DataFrame({"row": pl.Series(range(rows.num_rows), dtype=pl.Int64)})
    return frame.join(joined, on="row", how="left", maintain_order="left")["text"].fill_null("")
