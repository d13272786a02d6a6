"""Likelihood of a step in a probability along the log of a gap, profiled over where the step is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftplatform.serving.idle import Bools, Floats

#: Softness of the step in log gap; .2 spreads P(cold) from 10 % to 90 % over gaps of T/1.55 to 1.55 T.
_SOFTNESS = (0.0, 0.03, 0.06, 0.12, 0.25)

_BINS = 240
_EM_STEPS = 20
_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Best fit for every candidate threshold `gap`, which lies between `edges[j]` and `edges[j + 1]`."""

    gap: Floats
    edges: Floats
    likelihood: Floats
    warm: Floats
    cold: Floats
    softness: Floats

    @property
    def best(self) -> int:
        return int(self.likelihood.argmax())


def profile_step(centers: Floats, totals: Floats, hits: Floats) -> StepProfile:
    """Profile likelihood over thresholds between neighboring bins; `centers` are log gaps, ascending."""
    candidates = (centers[:-1] + centers[1:]) / 2
    distance = centers[None, :] - candidates[:, None]
    best = np.full(len(candidates), -np.inf)
    levels = np.zeros((2, len(candidates)))
    softness = np.zeros(len(candidates))
    for soft in _SOFTNESS:
        weight = (distance > 0).astype(np.float64) if soft == 0 else 1 / (1 + np.exp(-(distance / soft).clip(-40, 40)))
        warm, cold, likelihood = _two_levels(weight, totals, hits)
        # A later, softer step has to fit better: without jitter the hard one holds.
        better = (likelihood > best + 1e-6) & (cold > warm)
        best[better], softness[better] = likelihood[better], soft
        levels[:, better] = warm[better], cold[better]
    return StepProfile(np.exp(candidates), np.exp(centers), best, levels[0], levels[1], softness)


def _two_levels(weight: Floats, totals: Floats, hits: Floats) -> tuple[Floats, Floats, Floats]:
    """Maximum-likelihood levels of a two-part mixture with known weights, by expectation maximization; one problem per row."""
    misses = totals - hits
    warm, cold = np.full(len(weight), 0.1), np.full(len(weight), 0.9)
    for _ in range(_EM_STEPS):
        p0, p1 = warm[:, None], cold[:, None]
        slow_cold = hits * (p1 * weight) / (p1 * weight + p0 * (1 - weight))
        fast_cold = misses * ((1 - p1) * weight) / ((1 - p1) * weight + (1 - p0) * (1 - weight))
        slow, fast = slow_cold.sum(axis=1), fast_cold.sum(axis=1)
        cold = (slow / np.maximum(slow + fast, _TINY)).clip(_TINY, 1 - _TINY)
        rest = totals.sum() - slow - fast
        warm = ((hits.sum() - slow) / np.maximum(rest, _TINY)).clip(_TINY, 1 - _TINY)
    mixed = (warm[:, None] * (1 - weight) + cold[:, None] * weight).clip(_TINY, 1 - _TINY)
    return warm, cold, (hits * np.log(mixed) + misses * np.log1p(-mixed)).sum(axis=1)


def binned(gaps: Floats, hits: Bools, bins: int = _BINS) -> tuple[Floats, Floats, Floats]:
    """Log gaps (given in order) in at most `bins` groups: the longest one by one, as thresholds are rarely passed, the rest evenly."""
    logs, flags = np.log(gaps), hits.astype(np.float64)
    n = len(logs)
    single = min(n, bins // 2)
    cuts = np.unique(np.linspace(0, n - single, bins - single + 1).round().astype(np.int64))
    starts = np.concatenate([cuts[:-1], np.arange(n - single, n)])
    totals = np.diff(np.append(starts, n)).astype(np.float64)
    # Equal gaps cannot be told apart by a threshold: they share a group.
    centers = np.add.reduceat(logs, starts) / totals
    merged = np.flatnonzero(np.append(True, np.diff(centers) > 1e-9))
    return (
        centers[merged],
        np.add.reduceat(totals, merged),
        np.add.reduceat(np.add.reduceat(flags, starts), merged),
    )


def refined(gaps: Floats, hits: Bools, center: float) -> tuple[Floats, Floats, Floats]:
    """Groups that are finest around the threshold: up to `_BINS` within a factor of two of it, a quarter as many on either side."""
    below, above = gaps <= center / 2, gaps >= center * 2
    parts = [
        binned(gaps[mask], hits[mask], bins)
        for mask, bins in ((below, _BINS // 4), (~below & ~above, _BINS), (above, _BINS // 4))
        if mask.any()
    ]
    centers, totals, slow = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return centers, totals, slow
