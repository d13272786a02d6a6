"""Words of a text, the same in a table of a million turns and in a single one.

Read are natural-language words. Code, addresses, file names, placeholders, and whatever holds a digit are not words, so nothing
is ever said about their spelling; a possessive 's is left off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

# All patterns are valid for Python's `re` and for the Rust engine of polars, which must agree on every text.
#: Letters, with apostrophes and hyphens inside.
WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
#: Fenced and inline code, bracketed placeholders.
_BRACKETED = r"```[\s\S]*?(?:```|\z)|`[^`\n]*`|<[^<>\n]{1,80}>|\{[^{}\n]{1,80}\}|\[[A-Z_ ]{2,40}\]"
#: What makes the stretch without spaces around it no prose: digits, characters of code, paths and addresses, endings of hosts and files.
_TELLTALE = r"(?:[\d_@/\\#<>{}=$^~|]|\.(?:com|org|net|io|co|edu|gov|uk|de|fr|ai|app|dev|py|js|json|csv|pdf|html|md|txt)\b)"
_STRETCH = rf"\S*{_TELLTALE}\S*"
#: A table, or where it comes from: a function that starts the batches from the beginning, for what does not fit into memory.
Rows = pa.Table | Callable[[], Iterable[pa.RecordBatch]]

#: Rows per batch of a table in memory.
_BATCH_ROWS = 16_384
#: Contractions with 's that are words of their own; elsewhere 's is the possessive and left off.
_CONTRACTED_BASES = ("it", "that", "what", "let", "here", "there", "he", "she", "who", "how", "where", "when")
CONTRACTED = tuple(f"{word}'s" for word in _CONTRACTED_BASES)
_WORD = re.compile(WORD)
# Python 3.11 writes the end of the text as `\Z`, Rust as `\z`. A stretch is only tried where one begins: Rust searches in linear time,
# Python would try from every character of a long one.
_NOT_PROSE = (
    re.compile(_BRACKETED.replace(r"\z", r"\Z")),
    re.compile(rf"(?<!\S)(?:(?!{_TELLTALE})\S)*{_TELLTALE}\S*"),
)
#: Ends a sentence: everything up to here, the space after it left out.
_SENTENCE_END = r"([.!?:;]+[\"')\]]*\s+|\n+)"
_MARK = "\x1e"


def split_words(text: str) -> list[str]:
    """Words of a short text (a glossary term, a name) as written, without possessive 's."""
    return [_without_possessive(word.replace("’", "'")) for word in _WORD.findall(text)]


def normalized(word: str) -> str:
    """A word as it is compared: lower case, straight apostrophe, no possessive 's."""
    return _without_possessive(word.replace("’", "'")).lower()


def _without_possessive(word: str) -> str:
    return word[:-2] if word.lower().endswith("'s") and word.lower() not in CONTRACTED else word


def in_case_of(word: str, use: str) -> str:
    """`word` with the capitals of `use`: all of them, the first, or its own."""
    if len(use) > 1 and use.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if use[:1].isupper() else word


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every word of `text` in code points, possessive 's left off; code, addresses and the like left out."""
    left = text
    for pattern in _NOT_PROSE:
        left = pattern.sub(lambda found: " " * (found.end() - found.start()), left)
    return [(m.start(), m.start() + len(_without_possessive(m.group().replace("’", "'")))) for m in _WORD.finditer(left)]


def batches(rows: Rows) -> Iterator[pa.Table]:
    """The rows in tables of moderate size, from the beginning; of a stream, as large as it hands them out."""
    source: Any = rows  # Arrow's classes are untyped
    if isinstance(source, pa.Table):
        yield from (source.slice(start, _BATCH_ROWS) for start in range(0, source.num_rows, _BATCH_ROWS))
    else:
        yield from (pa.Table.from_batches([batch]) for batch in source())


def target_turns(table: pa.Table) -> pl.DataFrame:
    """Trainable assistant turns of some rows: row (position in the table), row_id, turn, author, text."""
    said = turns(table, Role.ASSISTANT, trainable_only=True)
    frame = pl.DataFrame({name: said[name] for name in ("row", "row_id", "turn", "content")})
    authors = pl.Series(table["author"], dtype=pl.String) if "author" in table.column_names else None
    author = pl.lit(None, pl.String) if authors is None or frame.is_empty() else pl.Series(authors.gather(frame["row"]))
    return frame.select("row", "row_id", "turn", author.alias("author"), text="content")


def prose(texts: pl.Expr) -> pl.Expr:
    """Texts with a space in place of all that is not prose."""
    return texts.str.replace_all(_BRACKETED, " ").str.replace_all(_STRETCH, " ")


def words(texts: pl.Expr) -> pl.Expr:
    """List of the words of each prose text, as written."""
    return texts.str.extract_all(WORD)


def plain(column: pl.Expr) -> pl.Expr:
    """Words as written, with a straight apostrophe and without possessive 's."""
    straight = column.str.replace_all("’", "'", literal=True)
    whole = straight.str.to_lowercase().is_in(CONTRACTED)
    return pl.when(whole).then(straight).otherwise(straight.str.replace(r"(?i)'s$", ""))


def compared(texts: pl.Expr) -> pl.Expr:
    """List of the words of each text as they are compared: `normalized`, code and the like left out."""
    return words(prose(texts)).list.eval(plain(pl.element()).str.to_lowercase())


def sentences(texts: pl.Expr) -> pl.Expr:
    """List of the sentences of each text, in order."""
    return texts.str.replace_all(_SENTENCE_END, f"$1{_MARK}").str.split(_MARK)
