"""What is compared with what: one question per eval item, every turn of a training row, and their words.

System and tool text is left out by role. Of a training row each user and assistant turn stands for itself, and all user turns
together once more, so that a rephrased item is found inside a long conversation as well as spread over one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

#: Characters of a text that are looked at. A question is shorter; a pasted file need not be read to its end.
MAX_CHARACTERS = 20_000
#: Rows of the training table flattened at a time.
_ROWS = 8192

#: Number words become digits, so that "half of three dozen" and "1/2 of 3 12" share their numbers.
_SPELLED = (
    "zero:0 one:1 two:2 three:3 four:4 five:5 six:6 seven:7 eight:8 nine:9 ten:10 eleven:11 twelve:12 thirteen:13 fourteen:14"
    " fifteen:15 sixteen:16 seventeen:17 eighteen:18 nineteen:19 twenty:20 thirty:30 forty:40 fifty:50 sixty:60 seventy:70"
    " eighty:80 ninety:90 hundred:100 thousand:1000 half:1/2 third:1/3 thirds:1/3 quarter:1/4 quarters:1/4 twice:2 double:2"
    " doubled:2 thrice:3 triple:3 tripled:3 dozen:12"
)
_NUMBER_WORDS = {word: number for word, _, number in (pair.partition(":") for pair in _SPELLED.split())}

# Numbers with their separators; characters of scripts written without spaces one by one; runs of letters of any other script.
_WORD = r"\d+(?:[.,/⁄]\d+)*|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}]+"


def eval_items(evals: Mapping[str, pa.Table]) -> pl.DataFrame:
    """One line per eval row, sets in order of name.

    Columns: eval_set, eval_row_id, eval_row (position in its set), question (all user turns joined; "" where there are none),
    answer (the last assistant turn, or null), family (the row's group, or null for an item of its own).
    """
    frames = []
    for name, rows in sorted(evals.items()):
        said = _spoken(rows, 0)
        frame = pl.DataFrame(
            {"eval_row_id": rows["row_id"], "family": rows["group"]}, schema={"eval_row_id": pl.String, "family": pl.String}
        ).with_columns(eval_set=pl.lit(name), row=pl.int_range(pl.len(), dtype=pl.Int64))
        asked = said.filter(pl.col("role") == str(Role.USER)).group_by("row", maintain_order=True)
        answered = said.filter(pl.col("role") == str(Role.ASSISTANT)).group_by("row", maintain_order=True)
        frames.append(
            frame.join(asked.agg(question=pl.col("text").str.join("\n")), on="row", how="left", maintain_order="left")
            .join(answered.agg(answer=pl.col("text").last()), on="row", how="left", maintain_order="left")
            .select(
                "eval_set", "eval_row_id", pl.col("row").alias("eval_row"), pl.col("question").fill_null(""), "answer", "family"
            )
        )
    return pl.concat(frames)


def train_texts(rows: pa.Table) -> Iterator[pl.DataFrame]:
    """The texts of a training table, block by block; within a block each distinct text once, with the first row that has it.

    Columns: row (position in `rows`), text, key (64-bit hash of its words in order), answer (the assistant turn that follows, or
    null).
    """
    for start in range(0, rows.num_rows, _ROWS):
        said = _spoken(rows.slice(start, _ROWS), start)
        follows = (pl.col("row").shift(-1) == pl.col("row")) & (pl.col("role").shift(-1) == str(Role.ASSISTANT))
        said = said.with_columns(answer=pl.when(follows & (pl.col("role") == str(Role.USER))).then(pl.col("text").shift(-1)))
        user = said.filter(pl.col("role") == str(Role.USER)).group_by("row", maintain_order=True)
        together = user.agg(pl.col("text").str.join("\n"), pl.col("answer").last(), turns=pl.len()).filter(pl.col("turns") > 1)
        texts = pl.concat([said.select("row", "text", "answer"), together.select("row", "text", "answer")])
        texts = texts.with_columns(pl.col("text").str.slice(0, MAX_CHARACTERS))
        keyed = texts.with_columns(key=text_keys(texts["text"]))
        yield keyed.sort("row", maintain_order=True).unique("key", keep="first", maintain_order=True)


def text_keys(texts: pl.Series) -> pl.Series:
    """64-bit hash of each text without case, punctuation and spacing; only comparable within one process."""
    return texts.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars().hash()


@dataclass(frozen=True)
class Words:
    """Words of n texts, dictionary-encoded.

    Attributes:
        codes: position of every word in `vocabulary`, text after text.
        owners: number of the text each belongs to, ascending.
        vocabulary: the distinct words, lower case, numbers in digits.
        n: texts.
    """

    codes: NDArray[np.int64]
    owners: NDArray[np.int64]
    vocabulary: list[str]
    n: int


def words(texts: pl.Series) -> Words:
    """Words of each text: NFKC, lower case, names in camelCase and snake_case taken apart, number words as digits."""
    plain = texts.str.normalize("NFKC").str.replace_all(r"(\p{Ll})(\p{Lu})", "$1 $2").str.to_lowercase()
    lists = plain.str.extract_all(_WORD)
    flat = lists.explode(empty_as_null=False).to_arrow()
    encoded = (flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat).dictionary_encode()
    # Python sees each distinct word once. Spellings that mean the same ("80,000", "80000") share a code.
    canonical = [_canonical(word) for word in encoded.dictionary.to_pylist()]
    vocabulary = sorted(set(canonical))
    position = {word: code for code, word in enumerate(vocabulary)}
    code_of = np.array([position[word] for word in canonical], dtype=np.int64)
    counts = lists.list.len().to_numpy().astype(np.int64)
    indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Words(code_of[indices], np.repeat(np.arange(len(texts)), counts), vocabulary, len(texts))


def is_number(word: str) -> bool:
    """Whether a word of `words` is a number."""
    return word[0].isdigit()


def letters(texts: pl.Series) -> tuple[int, int]:
    """How many letters the texts hold, and how many of them are outside the Latin script."""
    everything, latin = (int(texts.str.count_matches(pattern).fill_null(0).sum()) for pattern in (r"\p{L}", r"\p{Latin}"))
    return everything, everything - latin


def _canonical(word: str) -> str:
    if not is_number(word):
        return _NUMBER_WORDS.get(word, word)
    plain = word.replace(",", "").replace("⁄", "/")
    return plain.rstrip("0").rstrip(".") if "." in plain and "/" not in plain else plain


def _spoken(rows: pa.Table, offset: int) -> pl.DataFrame:
    """User and assistant turns that are not blank: row (plus `offset`), role, text."""
    table = turns(rows)
    frame = pl.DataFrame({"row": table["row"], "role": table["role"], "text": table["content"]})
    spoken = pl.col("role").is_in([str(Role.USER), str(Role.ASSISTANT)]) & (pl.col("text").str.strip_chars() != "")
    return frame.filter(spoken).with_columns(pl.col("row") + offset)
