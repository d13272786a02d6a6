"""The scores of the same items before and after training, by one rubric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.statistics.intervals import finite_vector


@dataclass(frozen=True, slots=True)
class Gain:
    """Scores in [0, 1] of n items.

    Attributes:
        items: their ids. base, tuned: shape (n,), of both models' answers to them.
    """

    items: Sequence[str]
    base: ArrayLike
    tuned: ArrayLike


def gains(scores: Gain) -> NDArray[np.float64]:
    """Tuned minus base, shape (n,).

    Raises:
        ValueError: if the lengths differ, or a score is outside [0, 1] or not finite.
    """
    base, tuned = shares(scores.base, "base"), shares(scores.tuned, "tuned")
    if not len(base) == len(tuned) == len(scores.items):
        raise ValueError(
            f"{len(scores.items)} items, {len(base)} base scores and {len(tuned)} tuned scores; give one of each per item"
        )
    return tuned - base


def shares(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """`values` as a float vector in [0, 1]; ValueError otherwise."""
    vector = finite_vector(values, name)
    if len(vector) and (vector.min() < 0 or vector.max() > 1):
        raise ValueError(f"{name} holds a score outside [0, 1]; divide by the scale")
    return vector


def scored(values: ArrayLike, place: int) -> float:
    """One score, as evidence shows it."""
    return round(float(np.asarray(values)[place]), 4)
