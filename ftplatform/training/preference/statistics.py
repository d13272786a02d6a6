"""What a preference run tells about itself: the curve of its steps, and how far answer length alone explains its preferences.

A model tuned on preferences can lower its loss by writing more, if annotators preferred what is longer (Singhal et al. 2023, Park et al.
2024). Loss, accuracy and reward margin look excellent then. So lengths are recorded beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftplatform.statistics.intervals import wilson
from ftplatform.training.preference.pairs import EncodedPairs

#: Below this many pairs of unequal length nothing is said about what the longer answer wins.
MIN_PAIRS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceStep:
    """Means over the pairs of one step, before its update.

    Attributes:
        loss: nats per pair; log 2 before anything is learned.
        accuracy: share of pairs whose chosen answer has the higher reward; a tie counts half.
        margin: reward of the chosen minus that of the rejected answer.
        chosen_reward, rejected_reward: both fall where a run makes the two answers less likely and only one of them faster.
    """

    loss: float
    accuracy: float
    margin: float
    chosen_reward: float
    rejected_reward: float


def curve(steps: Sequence[PreferenceStep]) -> dict[str, list[float]]:
    """One list per figure, JSON-able."""
    records = [asdict(step) for step in steps]
    return {name: [record[name] for record in records] for name in records[0]} if records else {}


def length_statistics(pairs: EncodedPairs) -> dict[str, Any]:
    """How the answers' lengths in tokens relate to which was preferred.

    Returns:
        `pairs`; `chosen_tokens`, `rejected_tokens` (means, end-of-turn token included); `ratio` of the two; `longer_chosen`: among
        `unequal` pairs the share whose longer answer was chosen, with the 95 % Wilson interval `low`, `high`; and `reading`:
        `length_predicts_preference` where the interval leaves out one half, `no_length_preference_shown`, or, below `MIN_PAIRS`,
        `insufficient_evidence`.
    """
    chosen = np.array([e.trained for e in pairs.chosen])
    rejected = np.array([e.trained for e in pairs.rejected])
    longer, unequal = int((chosen > rejected).sum()), int((chosen != rejected).sum())
    record: dict[str, Any] = {
        "pairs": len(chosen),
        "chosen_tokens": float(chosen.mean()),
        "rejected_tokens": float(rejected.mean()),
        "ratio": float(chosen.mean() / rejected.mean()),
        "unequal": unequal,
        "longer_chosen": longer / unequal if unequal else None,
        "low": None,
        "high": None,
        "reading": "insufficient_evidence",
    }
    if unequal >= MIN_PAIRS:
        interval = wilson(longer, unequal)
        one_sided = interval.low > 0.5 or interval.high < 0.5
        record |= {"low": interval.low, "high": interval.high}
        record["reading"] = "length_predicts_preference" if one_sided else "no_length_preference_shown"
    return record
