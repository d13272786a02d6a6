"""Ridge logistic regression for many label vectors at once.

scikit-learn fits the same model one label vector at a time; a permutation test refits it hundreds of times on the same dozen
features, which Newton's method does in one batch of small matrices (`two_sample`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# Elements of the largest temporary (label vectors x columns x rows); 32 MiB of float64.
_BATCH_ELEMENTS = 1 << 22
_MAX_NEWTON_STEPS = 50
_MAX_HALVINGS = 30


def fit_ridge_logistic(features: Matrix, labels: Matrix, ridge: float = 1.0) -> Matrix:
    """Coefficients minimizing sum(log loss) + ridge / 2 * |w|^2, the intercept unpenalized.

    Equal to ``sklearn.linear_model.LogisticRegression(C=1 / ridge)`` at convergence. `ridge` > 0 keeps separable data finite.

    Args:
        features: shape (n, d), scaled by the caller.
        labels: shape (m, n), zeros and ones, one row per problem; both values present in each.
        ridge: penalty weight, positive.

    Returns:
        Shape (m, d + 1), the intercept last.

    Source: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning (2009), section 4.4.1 (Newton), halving the
    step wherever it would raise the objective.
    """
    n, d = features.shape
    design = np.concatenate([features, np.ones((n, 1))], axis=1)
    size = max(1, _BATCH_ELEMENTS // (n * (d + 1)))
    return np.concatenate([_newton(design, labels[i : i + size], ridge) for i in range(0, len(labels), size)])


def _newton(design: Matrix, labels: Matrix, ridge: float) -> Matrix:
    columns = design.shape[1]
    penalty = np.full(columns, ridge)
    penalty[-1] = 0.0
    # The tiny diagonal keeps the intercept's curvature positive when every probability has saturated.
    curvature = np.diag(np.maximum(penalty, 1e-10))

    def objective(beta: Matrix) -> Matrix:
        linear = beta @ design.T
        return (np.logaddexp(0.0, linear) - labels * linear).sum(axis=1) + 0.5 * (beta * beta) @ penalty

    beta = np.zeros((len(labels), columns))
    value = objective(beta)
    for _ in range(_MAX_NEWTON_STEPS):
        probability = 0.5 * (1.0 + np.tanh(0.5 * (beta @ design.T)))  # a sigmoid that cannot overflow
        gradient = (probability - labels) @ design + beta * penalty
        weights = probability * (1.0 - probability)
        hessian = (design.T * weights[:, None, :]) @ design + curvature
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        candidate = beta - step
        candidate_value = objective(candidate)
        for _ in range(_MAX_HALVINGS):
            worse = candidate_value > value + 1e-9 * np.abs(value)
            if not worse.any():
                break
            step[worse] *= 0.5
            candidate = beta - step
            candidate_value = objective(candidate)
        beta, value = candidate, candidate_value
        if np.abs(step).max() < 1e-6:  # Newton squares the error, so the next step would be about 1e-12
            break
    return beta
