"""The classifier two-sample test on the surface features of two samples."""

from __future__ import annotations

import polars as pl

from ftplatform.statistics.two_sample import C2ST, classifier_two_sample
from ftplatform.synthesis.samples import Sample

FOLDS = 5
#: Conversations a side needs, whatever the number of turns: two in each fold.
LEAST_UNITS = 2 * FOLDS


def surface_auc(
    ours: Sample,
    theirs: Sample,
    features: tuple[pl.DataFrame, pl.DataFrame],
    *,
    permutations: int = 200,
    confidence: float = 0.90,
    seed: int = 0,
) -> C2ST:
    """`classifier_two_sample` on the features of two samples, conversations kept together.

    Raises:
        ValueError: if a side has fewer than `FOLDS` conversations.
    """
    return classifier_two_sample(
        features[0].to_numpy(),
        features[1].to_numpy(),
        folds=FOLDS,
        permutations=permutations,
        seed=seed,
        groups_a=ours.units.to_list(),
        groups_b=theirs.units.to_list(),
        confidence=confidence,
    )
