"""Longest runs of words that texts share: a suffix array over all of them by prefix doubling, in NumPy.

Source: U. Manber and G. Myers, SIAM J. Computing 22 (1993) 935. Exact: window ranks are ranks, not hashes.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def longest_common_runs(texts: pl.Series, references: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each text, the length of the longest run of words that stands in any of the references too, and in which.

    Args:
        texts, references: words separated by single spaces (`rows.normalize`), possibly empty.

    Returns:
        Length in words, shape (len(texts),), and position in `references` (-1 where the length is 0).

    Time is O(n log^2 n) for n words in all, whatever the number of pairs.
    """
    codes, owners = _codes(pl.concat([references.rename("t"), texts.rename("t")]))
    ranks = _window_ranks(codes, longest=int(np.bincount(owners).max(initial=0)))
    order = np.argsort(ranks[-1], kind="stable")
    owner = owners[order]
    from_reference = owner < len(references)
    places = np.arange(len(order))
    before = np.maximum.accumulate(np.where(from_reference, places, -1))
    after = len(order) - 1 - np.maximum.accumulate(np.where(from_reference[::-1], places, -1))[::-1]
    length = np.zeros(len(texts), np.int64)
    which = np.full(len(texts), -1, np.int64)
    mine = np.flatnonzero(~from_reference)
    # The longest match of a suffix is one of its neighbors among the references' suffixes in sorted order.
    for neighbor in (before[mine], after[mine]):
        there = np.flatnonzero((neighbor >= 0) & (neighbor < len(order)))
        here, other = order[mine[there]], order[neighbor[there]]
        shared = _common_prefix(ranks, here, other)
        text, reference = owners[here] - len(references), owners[other]
        best = np.lexsort((shared, text))
        last = np.flatnonzero(np.append(text[best][1:] != text[best][:-1], True)) if len(best) else best
        winner = best[last]
        longer = winner[shared[winner] > length[text[winner]]]
        length[text[longer]] = shared[longer]
        which[text[longer]] = reference[longer]
    return length, which


def _codes(texts: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words of all texts as integers, each text followed by a separator of its own; and the text each belongs to."""
    words = texts.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    counts = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode(empty_as_null=False).rank("dense").to_numpy().astype(np.int64)
    owners = np.repeat(np.arange(len(counts)), counts + 1)
    codes = np.empty(len(owners), np.int64)
    ends = np.cumsum(counts + 1) - 1
    codes[ends] = len(flat) + 1 + np.arange(len(counts))
    codes[np.setdiff1d(np.arange(len(owners)), ends, assume_unique=True)] = flat
    return codes, owners


def _window_ranks(codes: NDArray[np.int64], longest: int) -> list[NDArray[np.int64]]:
    """Rank of the window of 2**k words that starts at each position, for k = 0, 1, ... until every window holds a separator."""
    ranks = [np.unique(codes, return_inverse=True)[1].astype(np.int64)]
    width = 1
    while width < longest:
        following = np.zeros(len(codes), np.int64)
        following[:-width] = ranks[-1][width:] + 1
        ranks.append(np.unique(ranks[-1] * (len(codes) + 1) + following, return_inverse=True)[1].astype(np.int64))
        width *= 2
    return ranks


def _common_prefix(ranks: list[NDArray[np.int64]], i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words that the suffixes at i and j share; never beyond a separator, since no two are equal."""
    i, j = i.copy(), j.copy()
    start = i.copy()
    for k in range(len(ranks) - 1, -1, -1):
        # Equal windows at different places hold no separator, so the step stays inside.
        step = (ranks[k][i] == ranks[k][j]).astype(np.int64) << k
        i += step
        j += step
    return i - start
