"""How far judges agree with each other and with people: on single preferences, and on the order of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.statistics.intervals import Interval, check_share, finite_vector
from ftplatform.statistics.reliability import krippendorff_interval, label_counts

#: Models below which an order says nothing.
MIN_MODELS = 5


def preference_agreement(said: Mapping[str, Sequence[float | None]], confidence: float = 0.95) -> Interval | None:
    """Krippendorff's alpha of the judges' choices (first, second, tie) with its interval over questions.

    Args:
        said: judge to its preferences as `preference.Prefer` gives them, all for the same questions.

    Returns:
        None with fewer than two judges, or where all of them say the same of everything: nothing could differ.
    """
    choices = [(place, float(np.sign(v - 0.5))) for values in said.values() for place, v in enumerate(values) if v is not None]
    counts = label_counts([place for place, _ in choices], [choice for _, choice in choices])
    if len(said) < 2 or (counts[counts.sum(axis=1) >= 2].sum(axis=0) > 0).sum() < 2:
        return None
    return krippendorff_interval(counts, confidence)


def rank_agreement(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, *, replicates: int = 1000, seed: int = 0
) -> Interval:
    """Kendall's tau-b of the scores two judges gave the same models, with a percentile bootstrap interval over models.

    1: the same order; 0: no relation. Replicates in which a judge gave one score to all count as 0.

    Args:
        first, second: shape (models,), scores of the same models.

    Raises:
        ValueError: on unequal lengths, fewer than `MIN_MODELS` models, or a judge with the same score for all.

    Source: M. G. Kendall, Biometrika 33 (1945) 239. Bootstrap over models, since scores of one model are one observation.
    """
    check_share(confidence, "confidence")
    a, b = finite_vector(first, "first"), finite_vector(second, "second")
    if len(a) != len(b) or len(a) < MIN_MODELS:
        raise ValueError(f"{len(a)} and {len(b)} models; at least {MIN_MODELS} that both judges scored are needed")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise ValueError("a judge that scores all models the same orders none")
    drawn = np.random.default_rng(seed).integers(0, len(a), (replicates, len(a)))
    estimate = float(_tau(a[None], b[None])[0])
    # Blocks keep the (replicates, models, models) comparison small.
    step = max(1, 4_000_000 // len(a) ** 2)
    taus = np.concatenate([_tau(a[part], b[part]) for part in np.split(drawn, range(step, replicates, step))])
    low, high = np.quantile(taus, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), confidence)


def pairwise_rank_agreement(
    boards: Mapping[str, Mapping[str, float]], confidence: float = 0.95
) -> list[tuple[str, str, int, Interval]]:
    """Of every two judges that scored at least `MIN_MODELS` models in common: both names, how many models, and `rank_agreement`.

    Args:
        boards: judge to the scores of models, by name.
    """
    names, found = list(boards), []
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            shared = sorted(boards[one].keys() & boards[other].keys())
            mine, theirs = ([boards[judge][model] for model in shared] for judge in (one, other))
            if len(shared) >= MIN_MODELS and len(set(mine)) > 1 < len(set(theirs)):
                found.append((one, other, len(shared), rank_agreement(mine, theirs, confidence)))
    return found


def _tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tau-b of each row, shape (rows, models) to (rows,)."""
    x, y = (np.sign(side[:, :, None] - side[:, None, :]) for side in (a, b))
    concordant = (x * y).sum(axis=(1, 2))
    scale = np.sqrt((x != 0).sum(axis=(1, 2)) * (y != 0).sum(axis=(1, 2)))
    return np.divide(concordant, scale, out=np.zeros_like(concordant), where=scale > 0)
