"""The score above which a neighbor is no longer an ordinary one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.contamination.paraphrase.rule import ParaphraseRule
from ftplatform.contamination.paraphrase.search import Search

#: Where extrapolation starts: below this quantile of the nearest neighbors a few twins among the items do not matter.
_BULK = 0.95
#: The neighbor whose distance to the first gives the step: two doublings away, and seldom one of several paraphrases.
_RANK = 4


@dataclass(frozen=True)
class Level:
    """Thresholds that hold at one probability: `score` for items with numbers and for code, `similarity` for other items, `lexical`
    for all."""

    score: float
    similarity: float
    lexical: float


@dataclass(frozen=True)
class Calibration:
    """Thresholds of one eval set.

    Attributes:
        items: how many items had enough neighbors in other families.
        suspect: passed without a paraphrase by a share 1 - `rule.quantile` of the items.
        certain: passed without a paraphrase by any item of the set with probability `rule.false_alarm`.
        detectable: share of items above `suspect` after every third word was taken out.
        code: whether the set is compared as code.
    """

    items: int
    suspect: Level
    certain: Level
    detectable: float
    code: bool


def calibrate(
    search: Search, items: NDArray[np.int64], families: pl.Series, candidates: pl.DataFrame, texts: int, rule: ParaphraseRule
) -> Calibration | None:
    """How similar the nearest training text of an item is that only shares its topic; None where too few items can tell.

    Items of other families of the same eval set are such texts: the thresholds start from the `_BULK` quantile of the items'
    nearest neighbors among them. What lies beyond is extrapolated, since the far quantiles hang on the few items that have an
    unnamed twin: P(nearest of m is above t) is proportional to m while it is small, so a probability half as large needs the step
    that doubling m brings. The step is measured inside the items, where the nearest of four times as many is to the nearest as the
    first neighbor is to the fourth.

    The training rows are more than the items, and the nearest of more is nearer. How much is seen in the fourth-nearest training
    text, which is seldom a paraphrase; no more than the steps from so many items to so many texts, should it be one; and no less
    than nothing, so that rows off the topic do not make those on it suspect.

    Code is different. One in ten HumanEval items has a twin in the set, so that a level which these do not pass finds few
    rephrasings; its score has a scale of its own, since each text is compared with rivals, and the levels are the rule's.

    A quantile of all pairs of items, instead, would be passed by ordinary texts: thousands are compared with each item.

    Args:
        items: positions of the set's items in `search`; families: of each, or null.
        candidates: scored candidates of all items.
        texts: training texts searched.
    """
    neighbors = search.neighbors(items, families)
    counted = neighbors.group_by("item").agg(n=pl.len()).filter(pl.col("n") >= _RANK)
    n = len(counted)
    if n < rule.min_items:
        return None
    among = neighbors.join(counted, on="item", how="semi")
    training = candidates.join(counted, on="item", how="semi")
    doublings = math.log2(max(1.0, texts / len(items)))
    suspect = _level(among, training, doublings, 1 - rule.quantile)
    certain = _level(among, training, doublings, min(1 - rule.quantile, rule.false_alarm / n))
    code = among["code"].all()
    if code:
        suspect, certain = replace(suspect, score=rule.code_suspect), replace(certain, score=rule.code_certain)
    found = pl.col("score") > pl.when(pl.col("numeric") | pl.col("code")).then(suspect.score).otherwise(suspect.similarity)
    detectable = search.damaged(items).select(found.mean()).item()
    return Calibration(items=n, suspect=suspect, certain=certain, detectable=float(detectable), code=code)


def _level(among: pl.DataFrame, training: pl.DataFrame, doublings: float, probability: float) -> Level:
    """Thresholds that an item's nearest training text passes with `probability`."""
    halvings = max(0.0, math.log2((1 - _BULK) / probability))
    found = {}
    for name in ("score", "similarity", "lexical"):
        first, fourth = _ranks(among, name)
        step = float(np.median(first - fourth)) / math.log2(_RANK)
        _, reached = _ranks(training, name)
        # An item with fewer candidates has no training text near it.
        seen = np.median(reached) - np.median(fourth) if 2 * len(reached) > len(first) else 0.0
        found[name] = float(np.quantile(first, _BULK) + step * halvings + np.clip(seen, 0.0, step * doublings))
    return Level(**found)


def _ranks(pairs: pl.DataFrame, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Highest and `_RANK`-th highest value of each item that has as many pairs."""
    ranked = pairs.group_by("item").agg(pl.col(name).top_k(_RANK).sort(descending=True)).filter(pl.col(name).list.len() == _RANK)
    return ranked[name].list.get(0).to_numpy(), ranked[name].list.get(_RANK - 1).to_numpy()
