"""Length-controlled win rate: how often would the model be preferred if its answers were as long as the other's?

Judges prefer longer answers. The win probability is modelled as a logistic function of a constant and of the difference in length,
squashed by tanh so that one endless answer decides nothing; the rate at equal length is that of the constant alone. This is the
model of AlpacaEval 2 for one pair of models. Its third term, the difficulty of each instruction, is estimated there from hundreds of
models and cannot be from one pair; leaving it out changes nothing at equal length but the efficiency.

Source: Y. Dubois, B. Galambosi, P. Liang, T. Hashimoto, Length-Controlled AlpacaEval, arXiv 2404.04475, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.rubrics.paired import shares
from ftplatform.statistics.intervals import Interval, check_share, cluster_codes, finite_vector
from ftplatform.statistics.logistic import fit_ridge_logistic

#: Weight of the penalty on the length coefficient: keeps it finite where the longer answer always wins, and is worth half an item.
RIDGE = 0.5


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A win rate at equal length.

    Attributes:
        rate: in [0, 1], with its interval.
        length_effect: log-odds of winning per unit of tanh(difference / its standard deviation); positive where longer wins.
    """

    rate: Interval
    length_effect: float


def length_controlled_rate(
    wins: ArrayLike, lengths: ArrayLike, other_lengths: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95
) -> LengthControlled:
    """The length-controlled win rate with a cluster-robust interval (sandwich on the log-odds, Student t), each pulled towards one
    half by one win and one loss.

    Args:
        wins: shape (n,), 1 for a win, 0 for a loss, fractions for ties and averages over orders.
        lengths, other_lengths: shape (n,), of both answers, in any one unit.
        clusters: family of each item, at least two.

    Raises:
        ValueError: on unequal lengths, wins outside [0, 1], or fewer than two clusters.
    """
    from scipy.stats import t

    check_share(confidence, "confidence")
    y = shares(wins, "wins")
    own, other = finite_vector(lengths, "lengths"), finite_vector(other_lengths, "other_lengths")
    codes = cluster_codes(clusters)
    if not len(y) == len(own) == len(other) == len(codes):
        raise ValueError(f"{len(y)} wins, {len(own)} and {len(other)} lengths, {len(codes)} clusters; give one of each per item")
    groups = int(codes.max()) + 1 if len(codes) else 0
    if groups < 2:
        raise ValueError(f"a win rate with an interval needs at least 2 independent items and there are {groups}")
    # One win and one loss more at equal length keep the odds finite where everything is won, and the interval honest.
    difference = np.append(length_term(own, other), [0.0, 0.0])
    y, codes, groups = np.append(y, [1.0, 0.0]), np.append(codes, [groups, groups + 1]), groups + 2
    effect, constant = fit_ridge_logistic(difference[:, None], y[None, :], RIDGE)[0]
    design = np.column_stack([difference, np.ones_like(difference)])
    p = _sigmoid(effect * difference + constant)
    curvature = (design.T * (p * (1 - p))) @ design + np.diag([RIDGE, 0.0])
    scores = np.column_stack([np.bincount(codes, weights=column, minlength=groups) for column in (design * (y - p)[:, None]).T])
    bread = np.linalg.inv(curvature)
    variance = groups / (groups - 1) * (bread @ (scores.T @ scores) @ bread)[1, 1]
    half = float(t.ppf((1 + confidence) / 2, groups - 1)) * math.sqrt(max(0.0, float(variance)))
    low, rate, high = (float(_sigmoid(np.asarray(constant + shift))) for shift in (-half, 0.0, half))
    return LengthControlled(Interval(rate, low, high, confidence), float(effect))


def length_term(lengths: NDArray[np.float64], other_lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """tanh of the difference in length over its standard deviation, shape (n,), in (-1, 1); zeros where all lengths are equal."""
    difference = lengths - other_lengths
    # About zero, not about the mean: a model that is always longer by the same is longer.
    spread = float(np.sqrt(np.mean(difference**2)))
    return np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)


def rank_moves(raw: Mapping[str, float], controlled: Mapping[str, float]) -> dict[str, int]:
    """Places each entrant gains (positive) or loses when rates are length-controlled; ties keep the order of `raw`.

    Args:
        raw, controlled: entrant to win rate, the same entrants in both.

    Raises:
        ValueError: if they name others.
    """
    if raw.keys() != controlled.keys():
        raise ValueError(f"{len(raw.keys() ^ controlled.keys())} entrants are rated only once")
    before = {name: place for place, name in enumerate(sorted(raw, key=lambda name: -raw[name]))}
    after = {name: place for place, name in enumerate(sorted(raw, key=lambda name: -controlled[name]))}
    return {name: before[name] - after[name] for name in raw}


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
