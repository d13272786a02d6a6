"""The Ladder: a score is reported as better only if it beats the best so far by a margin; otherwise the last one is repeated.

Whoever is told the score of every attempt can climb the vault by its noise alone, without a better model. Told only of steps larger
than the noise, they learn almost nothing about it.

Source: A. Blum and M. Hardt, The Ladder: A Reliable Leaderboard for Machine Learning Competitions, ICML 2015, section 3.2 (the variant
without a parameter, whose margin is the standard error of the difference to the best attempt).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.rubrics.paired import shares


@dataclass(frozen=True, slots=True)
class Step:
    """What is reported of an attempt.

    Attributes:
        reported: the score to show, rounded to whole items: the attempt's own if it is a step up, else the last one.
        improved: whether it is a step up.
        margin: by how much it had to beat the best (0 for the first attempt).
    """

    reported: float
    improved: bool
    margin: float


class Ladder:
    """The attempts on one vault so far.

    Args:
        items: ids of the vault's items; every attempt must answer these, in this order.
    """

    def __init__(self, items: Sequence[str]) -> None:
        if len(items) < 2:
            raise ValueError(f"a ladder needs at least 2 items and there are {len(items)}")
        self._items = len(items)
        self._best: NDArray[np.float64] | None = None
        self._reported = 0.0

    def report(self, scores: ArrayLike) -> Step:
        """What may be told of an attempt with these scores, shape (n,), in [0, 1].

        Raises:
            ValueError: on another number of scores.
        """
        mine = shares(scores, "scores")
        if len(mine) != self._items:
            raise ValueError(f"{len(mine)} scores for {self._items} items")
        margin = 0.0
        if self._best is not None:
            margin = float(np.std(mine - self._best, ddof=1)) / math.sqrt(self._items)
        improved = self._best is None or float(mine.mean()) > self._reported + margin
        if improved:
            self._best, self._reported = mine, round(float(mine.mean()) * self._items) / self._items
        return Step(self._reported, improved, margin)
