"""Do two samples come from the same distribution? The kernel two-sample test (maximum mean discrepancy, MMD).

It finds a part that differs (a tenth of the rows written by a model) where a classifier's AUC stays at one half; the classifier
test (`two_sample`) says better *what* differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftplatform.statistics.intervals import check_count

Matrix = NDArray[np.float32]

# Elements of one block of the kernel matrix (64 MiB of float32); the matrix as a whole is never held.
_BLOCK_ELEMENTS = 1 << 24
# Elements of the 0/1 matrix of permutations (256 MiB of float32); more permutations go through the kernel in further passes.
_LABEL_ELEMENTS = 1 << 26
# Rows whose pairwise distances give the bandwidth: half a million pairs fix a median to about a thousandth.
_BANDWIDTH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class MMD:
    """Result of `mmd_two_sample`.

    Attributes:
        statistic: unbiased estimate of the squared MMD; about 0 for equal distributions, and then negative as often as not.
        p_value: share of label permutations with a statistic at least as large, (1 + k) / (1 + permutations).
        null_mean, null_sd: of the statistic under permutation.
        bandwidth: sigma of the kernel exp(-|x - y|^2 / (2 sigma^2)), in the unit of the features.
        n_a, n_b: rows.
        permutations: as given.
    """

    statistic: float
    p_value: float
    null_mean: float
    null_sd: float
    bandwidth: float
    n_a: int
    n_b: int
    permutations: int


def mmd_two_sample(
    features_a: ArrayLike, features_b: ArrayLike, *, permutations: int = 1000, bandwidth: float | None = None, seed: int = 0
) -> MMD:
    """Permutation test of equal distributions with the Gaussian kernel.

    With z the 0/1 vector that marks sample a, every term of the statistic follows from z'Kz and the row sums of K, so all
    permutations are one product K Z, taken block by block over the upper triangle of K. Time grows with (n_a + n_b)^2 times
    (features + permutations), memory only with the rows and the permutations.

    Rows must be independent: give one row per conversation or customer, or the p-value is too small.

    Args:
        features_a: shape (n_a, d), finite, e.g. sentence embeddings; features_b: shape (n_b, d). At least 2 rows each.
        permutations: at least 20; the smallest p-value is 1 / (1 + permutations).
        bandwidth: sigma of the kernel; None takes the median distance between the pooled rows (of at most 1,000 of them, drawn by
            `seed`), or the mean distance where the median is 0.
        seed: of bandwidth rows and permutations; equal input and seed give equal results.

    Raises:
        ValueError: on mismatched shapes, features that are not finite, fewer than two rows, or a bandwidth that is not positive.

    Source: A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf and A. Smola, A Kernel Two-Sample Test, JMLR 13 (2012) 723: equation 3
    for the statistic, section 8 for the median heuristic; B. Phipson and G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39,
    for the p-value.
    """
    check_count(permutations, "permutations", least=20)
    a, b = _feature_matrix(features_a, "features_a"), _feature_matrix(features_b, "features_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} features on one side and {b.shape[1]} on the other")
    if bandwidth is not None and not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth is {bandwidth}; it must be a positive number")
    pooled = np.concatenate([a, b])
    # Distances do not change with the origin, and float32 keeps more digits of small coordinates.
    pooled = (pooled - pooled.mean(axis=0)).astype(np.float32)
    bandwidth_rng, permutation_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    sigma = bandwidth if bandwidth is not None else _median_distance(pooled, bandwidth_rng)

    found = [_statistics(pooled, labels, sigma) for labels in _labels(len(a), len(pooled), permutations, permutation_rng)]
    statistics = np.concatenate(found)
    observed, null = float(statistics[0]), statistics[1:]
    # Permutations that only rename equal rows tie with the observed value up to rounding.
    tie = 1e-9 + 1e-6 * abs(observed)
    return MMD(
        statistic=observed,
        p_value=(1 + int(np.count_nonzero(null >= observed - tie))) / (1 + permutations),
        null_mean=float(null.mean()),
        null_sd=float(null.std(ddof=1)),
        bandwidth=sigma,
        n_a=len(a),
        n_b=len(b),
        permutations=permutations,
    )


def _feature_matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} has shape {matrix.shape}; rows x features is needed")
    if len(matrix) < 2:
        raise ValueError(f"{name} has {len(matrix)} rows; at least 2 are needed")
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        raise ValueError(f"{name}[{bad[0][0]}, {bad[0][1]}] is not a finite number")
    return matrix


def _squared_distances(x: Matrix, y: Matrix) -> Matrix:
    distances = x @ y.T
    distances *= -2
    distances += np.einsum("ij,ij->i", x, x)[:, None]
    distances += np.einsum("ij,ij->i", y, y)[None, :]
    return np.maximum(distances, 0, out=distances)


def _median_distance(pooled: Matrix, rng: np.random.Generator) -> float:
    rows = pooled[rng.permutation(len(pooled))[:_BANDWIDTH_ROWS]]
    upper = np.triu_indices(len(rows), 1)
    distances = np.sqrt(_squared_distances(rows, rows)[upper])
    # Of rows that are all the same any kernel makes the statistic 0.
    return float(np.median(distances)) or float(distances.mean()) or 1.0


def _labels(n_a: int, n: int, permutations: int, rng: np.random.Generator) -> Iterator[Matrix]:
    """0/1 columns that mark sample a, shape (n, some); the first column of the first part is the truth."""
    part = max(1, _LABEL_ELEMENTS // n)
    for start in range(0, permutations + 1, part):
        labels = np.zeros((min(part, permutations + 1 - start), n), dtype=np.float32)
        labels[:, :n_a] = 1.0
        shuffled = labels[1:] if start == 0 else labels
        rng.permuted(shuffled, axis=1, out=shuffled)
        yield np.ascontiguousarray(labels.T)


def _statistics(pooled: Matrix, labels: Matrix, sigma: float) -> NDArray[np.float64]:
    """Unbiased squared MMD for each column of `labels`."""
    n = len(pooled)
    n_a = float(labels[:, 0].sum())
    n_b = n - n_a
    row_sums = np.zeros(n)
    within_a = np.zeros(labels.shape[1])
    # A kernel value differs little from the typical one; without that constant the float32 products lose no digits to it.
    level = np.float32(np.exp(-0.5))
    rows = max(1, _BLOCK_ELEMENTS // n)
    for start in range(0, n, rows):
        stop = min(n, start + rows)
        kernel = _squared_distances(pooled[start:stop], pooled[start:])
        kernel *= -0.5 / sigma**2
        np.exp(kernel, out=kernel)
        kernel -= level
        own = kernel[:, : stop - start]
        np.fill_diagonal(own, 0.0)  # the statistic is without k(x, x)
        rest = kernel[:, stop - start :]
        row_sums[start:stop] += kernel.sum(axis=1, dtype=np.float64)
        row_sums[stop:] += rest.sum(axis=0, dtype=np.float64)
        mine = labels[start:stop]
        # z'Kz = z1'K11 z1 + 2 z1'K12 z2 + ...: the lower triangle is the mirror image.
        product = own @ mine
        product += 2 * (rest @ labels[stop:])
        within_a += np.einsum("ij,ij->j", mine, product, dtype=np.float64)
    with_all = row_sums @ labels
    between = with_all - within_a
    within_b = row_sums.sum() - with_all - between
    # The constant left out above cancels: its weights add up to 1 + 1 - 2.
    return within_a / (n_a * (n_a - 1)) + within_b / (n_b * (n_b - 1)) - 2 * between / (n_a * n_b)
