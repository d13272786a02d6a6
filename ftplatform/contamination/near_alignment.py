"""Where an item stands in a row: seeds on a band of diagonals, and the tokens in line with them (as in BLAST: Altschul et al. 1990)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftplatform.contamination.scan_tokens import TokenHashes

_LARGE = 1 << 40


@dataclass(frozen=True)
class Seeds:
    """Common n-grams grouped into pairs: per seed its pair, the token of the item, the diagonal (token of the row minus that)."""

    pair: NDArray[np.int64]
    position: NDArray[np.int64]
    diagonal: NDArray[np.int64]
    pair_row: NDArray[np.int64]
    pair_probe: NDArray[np.int64]

    @classmethod
    def of(
        cls, row: NDArray[np.int64], at: NDArray[np.int64], probe: NDArray[np.int64], position: NDArray[np.int64], probes: int
    ) -> Seeds:
        """Seeds (row, token of the row) and (probe, token of the probe); `probes`: how many probes there are."""
        keys, pair = np.unique(row * max(1, probes) + probe, return_inverse=True)
        return cls(pair, position, at - position, keys // max(1, probes), keys % max(1, probes))

    def of_pairs(self, selected: NDArray[np.bool_]) -> Seeds:
        """The seeds of some of the pairs, which are numbered anew."""
        number = np.cumsum(selected) - 1
        keep = selected[self.pair]
        return Seeds(
            number[self.pair[keep]], self.position[keep], self.diagonal[keep], self.pair_row[selected], self.pair_probe[selected]
        )


def aligned_tokens(
    seeds: Seeds,
    of: NDArray[np.int64],
    within: NDArray[np.int64],
    tokens: NDArray[np.uint64],
    owner: NDArray[np.int64],
    stream: TokenHashes,
    band: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where in the row the tokens of each pair's item stand in line with the seed before or after them (-1: not), and their span.

    Only the seeds of the band of diagonals with most of them count: the item must stand in one place.
    """
    order = np.lexsort([seeds.diagonal, seeds.pair])
    pair, diagonal, position = seeds.pair[order], seeds.diagonal[order], seeds.position[order]
    key = pair * _LARGE + diagonal
    inside = np.searchsorted(key, key + band[pair].astype(np.int64), side="right") - np.arange(len(key))
    best = np.lexsort([np.arange(len(pair)), -inside, pair])
    best = best[np.searchsorted(pair[best], np.arange(len(band)))]
    lowest = diagonal[best]
    keep = (diagonal >= lowest[pair]) & (diagonal <= lowest[pair] + band[pair].astype(np.int64))
    pair, diagonal, position = pair[keep], diagonal[keep], position[keep]
    begin, end = np.full(len(band), _LARGE), np.zeros(len(band), np.int64)
    order = np.lexsort([diagonal, position, pair])
    pair, diagonal, position = pair[order], diagonal[order], position[order]
    after = np.searchsorted(pair * _LARGE + position, of * _LARGE + within, side="right")
    place = np.full(len(of), -1)
    first, last = stream.bounds[owner][of], stream.bounds[owner + 1][of]
    for seed in (np.maximum(after - 1, 0), np.minimum(after, len(pair) - 1)):
        at = first + within + diagonal[seed]
        found = np.flatnonzero((pair[seed] == of) & (at >= first) & (at < last))
        found = found[stream.hashes[at[found]] == tokens[found]]
        place[found] = at[found] - first[found]
        np.minimum.at(begin, of[found], (at - first)[found])
        np.maximum.at(end, of[found], (at - first)[found] + 1)
    return place, begin, end
