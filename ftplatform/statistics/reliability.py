"""How far annotators agree beyond chance: Krippendorff's alpha and Cohen's kappa for nominal codes, with their intervals.

Raw agreement is no measure: two annotators who both say "taste" of everything agree on 95 % of a set in which 95 % are "taste".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.statistics.intervals import Interval, check_share


def label_counts(units: Sequence[object], labels: Sequence[object]) -> NDArray[np.int64]:
    """Counts of each label on each unit, shape (units, labels), both in order of first appearance.

    Args:
        units, labels: one pair per annotation, in any order; a unit may have any number of annotations.
    """
    if len(units) != len(labels):
        raise ValueError(f"{len(units)} units and {len(labels)} labels; give one label per annotation")
    rows, columns = ({value: at for at, value in enumerate(dict.fromkeys(values))} for values in (units, labels))
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(counts, ([rows[unit] for unit in units], [columns[label] for label in labels]), 1)
    return counts


def krippendorff_alpha(counts: ArrayLike) -> float:
    """Alpha for nominal data: 1 - observed / expected disagreement. NaN if every annotation says the same: nothing could differ.

    Args:
        counts: shape (units, labels), how many annotators gave a unit each label. Units with one annotation are left out.

    Raises:
        ValueError: on another shape or negative counts.

    Source: K. Krippendorff, Content Analysis (2018), chapter 12; worked examples in his "Computing Krippendorff's
    Alpha-Reliability" (2011).
    """
    return float(_alpha(_coincidences(_pairable(counts)).sum(axis=0)[None])[0])


def krippendorff_interval(counts: ArrayLike, confidence: float = 0.95, *, replicates: int = 2000, seed: int = 0) -> Interval:
    """Alpha with a bootstrap interval over units (percentile). Replicates without any variation count as alpha 0.

    Units are resampled, not annotations: two annotations of one unit are no independent evidence.

    Args:
        counts: as in `krippendorff_alpha`.
        confidence: two-sided coverage.

    Raises:
        ValueError: as there, and if alpha is not defined.

    Source: resampling of units after A. Zapf et al., BMC Med. Res. Methodol. 16 (2016) 93, who find its coverage near nominal.
    """
    check_share(confidence, "confidence")
    usable = _pairable(counts)
    estimate = krippendorff_alpha(usable)
    if math.isnan(estimate):
        raise ValueError("alpha is not defined: there are no two annotations that could differ")
    # Units with the same counts are one profile: a resample is a multinomial draw of profiles, whatever the number of units.
    profiles, sizes = np.unique(usable, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(usable), sizes / len(usable), size=replicates)
    alphas = np.nan_to_num(_alpha(np.tensordot(drawn, _coincidences(profiles), axes=1)), nan=0.0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(alphas, [tail, 1 - tail])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), confidence)


def cohen_kappa(table: ArrayLike, confidence: float = 0.95) -> Interval:
    """Cohen's kappa of two annotators with its large-sample interval. NaN estimate and bounds if chance agreement is 1.

    Args:
        table: shape (labels, labels), units by the label of the first (rows) and second (columns) annotator.
        confidence: two-sided coverage.

    Raises:
        ValueError: on another shape, negative counts, or no units.

    Source: J. L. Fleiss, J. Cohen and B. S. Everitt, Psychol. Bull. 72 (1969) 323, equation 13 (non-null standard error).
    """
    from scipy.stats import norm

    check_share(confidence, "confidence")
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (counts < 0).any() or counts.sum() <= 0:
        raise ValueError("kappa needs a square table of counts with at least one unit")
    n = counts.sum()
    p = counts / n
    row, column, observed = p.sum(axis=1), p.sum(axis=0), float(np.trace(p))
    expected = float(row @ column)
    if math.isclose(expected, 1.0):
        return Interval(math.nan, math.nan, math.nan, confidence)
    kappa = (observed - expected) / (1 - expected)
    agree = float((np.diag(p) * (1 - (row + column) * (1 - kappa)) ** 2).sum())
    off = p - np.diag(np.diag(p))
    differ = (1 - kappa) ** 2 * float((off * (column[:, None] + row[None, :]) ** 2).sum())
    variance = (agree + differ - (kappa - expected * (1 - kappa)) ** 2) / (n * (1 - expected) ** 2)
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(max(0.0, variance))
    return Interval(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), confidence)


def _pairable(counts: ArrayLike) -> NDArray[np.int64]:
    matrix = np.asarray(counts)
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        raise ValueError("counts must be a matrix of whole numbers, units by labels")
    return matrix[matrix.sum(axis=1) >= 2].astype(np.int64)


def _coincidences(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each unit adds to the coincidence matrix, shape (units, labels, labels)."""
    given = counts.astype(np.float64)
    pairs = given[:, :, None] * given[:, None, :]
    labels = np.arange(given.shape[1])
    pairs[:, labels, labels] -= given
    return pairs / (given.sum(axis=1) - 1)[:, None, None]


def _alpha(coincidences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Alpha of each coincidence matrix, shape (replicates, labels, labels) to (replicates,)."""
    totals = coincidences.sum(axis=2)
    n = totals.sum(axis=1)
    observed = n - np.trace(coincidences, axis1=1, axis2=2)
    expected = n * n - (totals**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (n - 1) * observed / expected, np.nan)
