"""The same items at several checkpoints: the panel all comparisons of a loop rest on, and what makes one impossible.

A checkpoint is compared with another on the items both answered, under the same `eval_root`. A harder exam in the middle of a loop
looks like a loss, and an easier one hides it; neither is a finding about the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: Of the items of the latest checkpoint, the share that the others must have answered too; below it they are other items.
MIN_COMMON = 0.5


@dataclass(frozen=True, slots=True)
class Panel:
    """Attributes:
    checkpoints: k of them, in order.
    items: n ids.
    values: float64, shape (n, k): the mean of each item at each checkpoint.
    common: share of the latest checkpoint's items that are in the panel.
    """

    checkpoints: tuple[int, ...]
    items: tuple[str, ...]
    values: NDArray[np.float64]
    common: float

    @property
    def comparable(self) -> bool:
        """Whether the checkpoints answered the same items, by and large."""
        return self.common >= MIN_COMMON


@dataclass(frozen=True, slots=True)
class Trend:
    """Change over a window, from the first to the last checkpoint on a straight line.

    Attributes:
        change, low, high: in the unit of the values; each bound is one-sided.
        deviation: standard deviation of the items' own changes; NaN where items were not followed.
        n: items.
    """

    change: float
    low: float
    high: float
    deviation: float
    n: int


def scored(rewards: pa.Table, column: str) -> tuple[int, ...]:
    """The checkpoints that have a value of a column, in order."""
    return tuple(int(c) for c in np.unique(rewards.filter(pc.is_valid(rewards[column]))["checkpoint"].to_numpy()))


def eval_roots(rewards: pa.Table, checkpoints: Sequence[int]) -> dict[str | None, list[int]]:
    """Which exam gave the outcomes: `eval_root` to the checkpoints scored under it, in order; None where the ledger does not say."""
    frame = (
        pl.DataFrame(pl.from_arrow(rewards.select(["checkpoint", "outcome", "eval_root"])))
        .filter(pl.col("outcome").is_not_null(), pl.col("checkpoint").is_in(checkpoints))
        .group_by("eval_root")
        .agg(pl.col("checkpoint").unique().sort())
        .sort(pl.col("checkpoint").list.first(), "eval_root")
    )
    return dict(frame.iter_rows())


def panel(rewards: pa.Table, column: str, checkpoints: Sequence[int]) -> Panel:
    """Values of a numeric column on the items that have one at every one of `checkpoints` (at least one, in order).

    An item that was rated several times at a checkpoint counts once, with the mean.
    """
    frame = (
        pl.DataFrame(pl.from_arrow(rewards.select(["checkpoint", "item", column])))
        .filter(pl.col(column).is_not_null(), pl.col("checkpoint").is_in(checkpoints))
        .group_by("checkpoint", "item")
        .agg(pl.col(column).mean())
    )
    latest = frame.filter(pl.col("checkpoint") == checkpoints[-1]).height
    everywhere = frame.filter(pl.len().over("item") == len(checkpoints)).sort("item", "checkpoint")
    values = everywhere[column].to_numpy().reshape(-1, len(checkpoints))
    items = everywhere["item"].gather_every(len(checkpoints)).to_list()
    return Panel(tuple(checkpoints), tuple(items), values, len(items) / latest if latest else 0.0)


def item_trend(values: NDArray[np.float64], confidence: float) -> Trend:
    """Trend from the slopes of the items, each on its own: a Student t interval of their mean.

    An item is easy or hard at every checkpoint; its slope is free of that, which is why a trend too small for any two neighbors
    shows over the window.

    Args:
        values: shape (n, k), n and k at least 2; checkpoints are taken as evenly spaced.
        confidence: of each one-sided bound.
    """
    n, k = values.shape
    at = np.arange(k) - (k - 1) / 2
    changes = values @ at / float(at @ at) * (k - 1)
    mean, deviation = float(changes.mean()), float(changes.std(ddof=1))
    half = _t(confidence, n - 1) * deviation / math.sqrt(n)
    return Trend(mean, mean - half, mean + half, deviation, n)


def pooled_trend(rewards: pa.Table, column: str, checkpoints: Sequence[int], confidence: float) -> Trend | None:
    """Trend where every checkpoint met other items, as with the thumbs of live traffic: least squares, errors clustered by item.

    Returns None without two checkpoints or two items. Cluster-robust error as in `statistics.clustered_mean`.
    """
    frame = (
        pl.DataFrame(pl.from_arrow(rewards.select(["checkpoint", "item", column])))
        .filter(pl.col(column).is_not_null(), pl.col("checkpoint").is_in(checkpoints))
        .with_columns(at=pl.col("checkpoint").replace_strict({c: i for i, c in enumerate(checkpoints)}, return_dtype=pl.Float64))
    )
    at, values = frame["at"].to_numpy(), frame[column].to_numpy()
    groups = frame["item"].n_unique()
    if groups < 2 or len(np.unique(at)) < 2:
        return None
    centered = at - at.mean()
    spread = float(centered @ centered)
    slope = float(centered @ values) / spread
    scores = centered * (values - values.mean() - slope * centered)
    sums = frame.select("item", score=pl.Series(scores)).group_by("item").agg(pl.col("score").sum())["score"].to_numpy()
    error = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / spread
    length = len(checkpoints) - 1
    half = _t(confidence, groups - 1) * error
    return Trend(slope * length, (slope - half) * length, (slope + half) * length, math.nan, groups)


def _t(confidence: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(confidence, degrees))
