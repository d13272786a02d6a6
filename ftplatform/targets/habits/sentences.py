"""Sentences of many texts at once, with the place of each: what is flagged, masked and rewritten is always a whole sentence."""

from __future__ import annotations

import polars as pl

# A sentence with its closing marks and the space after it, or marks and space alone: together the pieces are the text, character
# for character. A mark followed by a letter or digit ends nothing ("49.99", "example.org").
_PIECE = r"""(?:[^.!?;\n]|[.!?;][^\s.!?;"')\]])+[.!?;]*["')\]]*\s*|[.!?;"')\]\s]+"""

# Replaced before splitting by texts of the same length, so that places stay what they are: titles end no sentence, and "but" begins a
# statement of its own ("I cannot refund it, but I will send a voucher").
_SAME_LENGTH = ((r"\b(Dr|Mr|Mrs|Ms|St|Prof|approx|No)\.(\s)", "${1}_${2}"), (r"(?i), (but|however) ", "; ${1} "))


def sentences(frame: pl.DataFrame, column: str = "content") -> pl.DataFrame:
    """One line per sentence.

    Args:
        frame: texts in `column`, and whatever else is to be repeated for each sentence.

    Returns:
        The other columns, and `sentence` (String, without surrounding space), `start` and `end`: the sentence is
        ``text[start:end]`` apart from the replaced marks, in characters. In the order of `frame`; blank pieces are left out.
    """
    text = pl.col(column)
    for pattern, written in _SAME_LENGTH:
        text = text.str.replace_all(pattern, written)
    pieces = (
        frame.with_row_index("_text")
        .with_columns(text.str.extract_all(_PIECE).alias("piece"))
        .drop(column)
        .explode("piece", empty_as_null=False)
        .with_columns(length=pl.col("piece").str.len_chars().cast(pl.Int64))
        .with_columns(end=pl.col("length").cum_sum().over("_text"), body=pl.col("piece").str.strip_chars_end())
        .with_columns(start=pl.col("end") - pl.col("length"))
        .with_columns(sentence=pl.col("body").str.strip_chars_start())
        .with_columns(
            start=pl.col("start") + pl.col("body").str.len_chars() - pl.col("sentence").str.len_chars(),
            end=pl.col("start") + pl.col("body").str.len_chars(),
        )
    )
    return pieces.filter(pl.col("sentence").str.contains(r"\w")).drop("_text", "piece", "length", "body")
