"""Does the learning rate of the old base fit the new one? The recipe at multiples of its rate, each scored on the same items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.errors import InputDataError
from ftplatform.migration.comparison import ALPHA, MARGIN, Change, PartChange, decided, measure, paired_scores
from ftplatform.plots import line
from ftplatform.statistics import holm

#: The recipe's own rate.
OWN = 1.0
#: A grid is for looking, not for searching.
MAX_RATES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RateOutcome:
    """The recipe at one multiple of its learning rate.

    Attributes:
        multiple, learning_rate: of the recipe's, and the peak rate itself.
        loss: mean of the last steps' training loss, nats per trained token.
        change: paired against the recipe's own rate; None for that rate itself, and without task items.
    """

    multiple: float
    learning_rate: float
    loss: float
    score: float | None
    change: PartChange | None

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        paired = None if self.change is None else self.change.to_record()
        return {
            "multiple": self.multiple,
            "learning_rate": self.learning_rate,
            "loss": self.loss,
            "score": self.score,
            "paired": paired,
        }


def rate_grid(multiples: Iterable[float]) -> list[float]:
    """Multiples in order, the recipe's own among them.

    Raises:
        InputDataError: one is not positive and finite, or there are more than `MAX_RATES`.
    """
    grid = sorted({OWN, *multiples})
    if len(grid) > MAX_RATES or not all(0 < multiple < float("inf") for multiple in grid):
        raise InputDataError(
            f"{', '.join(f'{m:g}' for m in grid)} is no grid of learning rates.",
            remedy=f"Give up to {MAX_RATES} positive multiples.",
        )
    return grid


def rate_sensitivity(
    answers: Mapping[float, pa.Table], learning_rate: float, losses: Mapping[float, float], *, margin: float = MARGIN
) -> list[RateOutcome]:
    """Each rate against the recipe's own, Holm over the rates.

    Args:
        answers: by multiple, see `comparison.paired_scores`; `OWN` among them.
        learning_rate: the recipe's. losses: by multiple.
    """
    own = answers[OWN]
    scores = {m: pl.DataFrame(pl.from_arrow(paired_scores(own, [table]))) for m, table in answers.items()}
    measured = {
        m: measure(f"{m:g}", s["old_score"].to_numpy(), s["new_score"].to_numpy(), _families(s))
        for m, s in scores.items()
        if m != OWN and len(s)
    }
    adjusted = holm([part.p for part in measured.values()], ALPHA)[1].tolist() if measured else []
    changes = {m: decided(part, p, margin=margin) for (m, part), p in zip(measured.items(), adjusted, strict=True)}
    return [
        RateOutcome(
            multiple=m,
            learning_rate=m * learning_rate,
            loss=losses[m],
            score=_mean(scores[m]["new_score"]),
            change=changes.get(m),
        )
        for m in sorted(answers)
    ]


def better_rates(outcomes: Sequence[RateOutcome]) -> list[RateOutcome]:
    """Rates shown to do better than the recipe's own, the best first."""
    shown = [(outcome.change.gain, outcome) for outcome in outcomes if outcome.change and outcome.change.change is Change.BETTER]
    return [outcome for _, outcome in sorted(shown, key=lambda pair: -pair[0])]


def rate_plot(outcomes: Sequence[RateOutcome]) -> str:
    """Mean task score over the learning rate, as SVG."""
    points = [(outcome.multiple, 100 * outcome.score) for outcome in outcomes if outcome.score is not None]
    return line(
        {"task score": points},
        title="Task score over the learning rate",
        x_label="multiple of the recipe's learning rate",
        y_label="mean score, %",
    )


def _families(scores: pl.DataFrame) -> list[str]:
    return scores.select(pl.coalesce(pl.format("group:{}", "group"), pl.format("item:{}", "item_id")))[:, 0].to_list()


def _mean(scores: pl.Series) -> float | None:
    return float(scores.to_numpy().mean()) if len(scores) else None
