"""Typing errors of a keyboard: a letter left out, doubled, exchanged with the next, or its neighbor on the keys."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.synthesis.remedies.rows import with_user_turns

SLIPS_VERSION = "1"
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
#: The key to the right, else to the left.
NEIGHBOR = {key: row[i + 1] if i + 1 < len(row) else row[i - 1] for row in _ROWS for i, key in enumerate(row)}
_LEAST_LETTERS = 4


def misspell(texts: pl.Series, chosen: pl.Series, rng: np.random.Generator) -> pl.Series:
    """One slip inside one word of each chosen text, not in its first letter; texts without a word of four letters stay.

    Args:
        texts: shape (n,). chosen: booleans, shape (n,).
    """
    pattern = rf"[A-Za-z]{{{_LEAST_LETTERS},}}"
    words = texts.str.extract_all(pattern)
    count = words.list.len().to_numpy()
    place = (rng.random(len(texts)) * count).astype(np.int64)
    frame = pl.DataFrame({"text": texts, "words": words, "place": place, "chosen": chosen & pl.Series(count > 0)})
    frame = frame.with_columns(word=pl.col("words").list.get(pl.col("place"), null_on_oob=True))
    length = frame["word"].str.len_chars().fill_null(_LEAST_LETTERS).to_numpy()
    # Between the second letter and the last but one, so that every kind of slip has its letters.
    at = 1 + (rng.random(len(texts)) * (length - 2)).astype(np.int64)
    frame = frame.with_columns(at=pl.Series(at), kind=pl.Series(rng.integers(4, size=len(texts))))
    head, letter = pl.col("word").str.slice(0, pl.col("at")), pl.col("word").str.slice(pl.col("at"), 1)
    following, tail = pl.col("word").str.slice(pl.col("at") + 1, 1), pl.col("word").str.slice(pl.col("at") + 2)
    neighbor = letter.str.to_lowercase().replace(NEIGHBOR)
    kind = pl.col("kind")
    slipped = (
        pl.when(kind == 0)
        .then(head + following + tail)
        .when(kind == 1)
        .then(head + letter + letter + following + tail)
        .when(kind == 2)
        .then(head + following + letter + tail)
        .otherwise(head + neighbor + following + tail)
    )
    # Found and cut as bytes; the word is ASCII, so no character is split. A literal, so that no text is read as a pattern.
    start = pl.col("text").str.find(pl.col("word"), literal=True)
    binary = pl.col("text").cast(pl.Binary)
    parts = (
        binary.bin.slice(0, start).cast(pl.String),
        pl.col("slip"),
        binary.bin.slice(start + pl.col("word").str.len_bytes()).cast(pl.String),
    )
    frame = frame.with_columns(slip=slipped)
    return frame.select(pl.when("chosen").then(pl.concat_str(parts)).otherwise("text").alias(texts.name)).to_series()


def slip(candidate: pa.Table, share: float, seed: int = 0) -> pa.Table:
    """`candidate` with one slip in about `share` of its user turns; equal arguments give equal rows.

    Changed rows have an id of their own, the old row among their parents, and `slips` in their metadata.
    """
    texts = pl.Series("text", turns(candidate, Role.USER)["content"])
    rng = np.random.default_rng(seed)
    chosen = pl.Series(rng.random(len(texts)) < share)
    return with_user_turns(candidate, misspell(texts, chosen, rng), {"slips": SLIPS_VERSION, "slip_seed": seed})
