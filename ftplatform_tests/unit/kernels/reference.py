"""The rules in plain Python, written without looking at the kernels' way: what they must agree with."""

from __future__ import annotations

import polars as pl

from ftplatform.dedup.tokens import tokenize


def words(text: str) -> list[str]:
    found = tokenize(pl.Series([text]))
    return [found.vocabulary[code] for code in found.codes]


def shingles(text: str, width: int = 3) -> set[bytes]:
    own = [word.encode() for word in words(text)]
    if not own:
        return set()
    return {b" ".join(own[i : i + width]) for i in range(max(len(own) - width + 1, 1))}


def jaccard(a: set[bytes], b: set[bytes]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0
