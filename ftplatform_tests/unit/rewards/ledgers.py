"""Reward ledgers with known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.rewards.ledger import REWARD_SCHEMA

ROOT, OTHER_ROOT = "a" * 64, "b" * 64


def ledger(
    outcome: NDArray[np.floating[Any]] | None,
    reward: NDArray[np.floating[Any]],
    *,
    roots: Sequence[str | None] | str | None = ROOT,
    kl: Sequence[float] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> pa.Table:
    """A ledger of matrices (items, checkpoints); `columns` are given checkpoint by checkpoint, items within."""
    n, k = reward.shape
    by_checkpoint = [roots] * k if roots is None or isinstance(roots, str) else roots
    data: dict[str, Any] = {
        "checkpoint": np.repeat(np.arange(1, k + 1), n),
        "item": [f"i-{i:04d}" for i in range(n)] * k,
        "reward": reward.T.ravel(),
        "outcome": None if outcome is None else outcome.T.ravel(),
        "eval_root": [root for root in by_checkpoint for _ in range(n)],
        "kl": None if kl is None else np.repeat(kl, n),
        **(columns or {}),
    }
    arrays = [
        pa.nulls(n * k, field.type) if data.get(field.name) is None else pa.array(data[field.name], field.type)
        for field in REWARD_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=REWARD_SCHEMA)


def outcomes(
    rng: np.random.Generator, n: int, k: int, change: float, *, mean: float = 0.88, spread: float = 0.0
) -> NDArray[np.float64]:
    """0 or 1, drawn anew at each checkpoint, with a mean that moves by `change` over the window.

    Around .86 an outcome flips between two checkpoints with probability .24, as one does that is asked for by sampling.
    """
    easy = np.clip(mean + spread * rng.standard_normal(n), 0.05, 0.95)
    chance = np.clip(easy[:, None] + change * np.linspace(0, 1, k), 0, 1)
    return (rng.random((n, k)) < chance).astype(float)


def rewards(rng: np.random.Generator, n: int, k: int, change: float) -> NDArray[np.float64]:
    """A thumbs-up rate per item: some items are liked, and all of them by `change` more at the end."""
    liked = rng.uniform(0.3, 0.6, n)
    return np.clip(liked[:, None] + change * np.linspace(0, 1, k) + 0.1 * rng.standard_normal((n, k)), 0, 1)
