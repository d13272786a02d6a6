"""How well a judge agrees with people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ftplatform.evaluation.refusal_judge.labels import DECLINED, Label


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge against people on n answers; "positive" is declined.

    Attributes:
        n: answers compared.
        accuracy: share on which both agree.
        kappa: agreement beyond chance (J. Cohen, Educ Psychol Meas 20 (1960) 37).
        precision, recall: of declined; NaN where nothing was judged, or is, declined.
        rate_error: declined share as judged, minus as people say.
    """

    n: int
    accuracy: float
    kappa: float
    precision: float
    recall: float
    rate_error: float


def agreement(humans: Sequence[Label], judged: Sequence[Label], *, classes: int = 2) -> Agreement:
    """Agreement of two labelings of the same answers.

    Args:
        classes: 2 compares declined with the rest; 3 tells partial from full refusals in accuracy and kappa.

    Raises:
        ValueError: on unequal lengths or no answers.
    """
    if len(humans) != len(judged) or not humans:
        raise ValueError(f"{len(humans)} human labels and {len(judged)} of the judge; as many are needed, and at least one")
    human, said = (np.array([label in DECLINED for label in labels]) for labels in (humans, judged))
    truth, verdict = (human, said) if classes == 2 else (np.array(humans, dtype=str), np.array(judged, dtype=str))
    accuracy = float((truth == verdict).mean())
    chance = sum(float((truth == c).mean() * (verdict == c).mean()) for c in np.union1d(truth, verdict))
    both = float((human & said).sum())
    return Agreement(
        n=len(human),
        accuracy=accuracy,
        kappa=(accuracy - chance) / (1 - chance) if chance < 1 else float("nan"),
        precision=both / said.sum() if said.any() else float("nan"),
        recall=both / human.sum() if human.any() else float("nan"),
        rate_error=float(said.mean() - human.mean()),
    )
