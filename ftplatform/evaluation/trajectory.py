"""What a training run recorded about its refusal margins, read from the `trajectory.json` beside an adapter.

The margin of a prompt is how much likelier the model finds it to begin by declining than by complying, in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftplatform.errors import EvaluationError

SCHEMA = "ftplatform.trajectory/1"

_REMEDY = "Train the adapter again."


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """Refusal margins in nats after `step` optimizer steps, of the same prompts at every step: shapes (harmful,) and (safe,)."""

    step: int
    harmful: NDArray[np.float64]
    safe: NDArray[np.float64]

    def declining(self) -> tuple[float, float]:
        """Shares of harmful and of safe prompts that the model would rather decline; 0 without prompts."""
        harmful, safe = (float((m > 0).mean()) if len(m) else 0.0 for m in (self.harmful, self.safe))
        return harmful, safe


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A run: margins of the base, of every checkpoint by step, and which of them was shipped."""

    base: Margins
    checkpoints: tuple[Margins, ...]
    shipped: int

    @property
    def last(self) -> Margins:
        """The shipped checkpoint."""
        return next(c for c in self.checkpoints if c.step == self.shipped)


def read_trajectory(document: Mapping[str, Any]) -> Trajectory:
    """The content of a `trajectory.json`.

    Raises:
        EvaluationError: if it is not one, has no checkpoint after the start, or its prompts differ between steps.
    """
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        raise EvaluationError(f"The trajectory does not have the schema {SCHEMA}.", remedy=_REMEDY)
    try:
        base = _margins(0, document["base"]["refusal"], document["base"]["safe"])
        points = [_margins(int(p["step"]), p["refusal"]["margins"], p["safe"]["margins"]) for p in document["points"]]
        stopped = document.get("stopped")
        returned = None if stopped is None else int(stopped["returned_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"The trajectory is not readable: {error!r}.", remedy=_REMEDY) from error
    checkpoints = tuple(sorted((p for p in points if p.step > 0), key=lambda p: p.step))
    if not checkpoints:
        raise EvaluationError("The trajectory has no checkpoint.", remedy=_REMEDY)
    shipped = checkpoints[-1].step if returned is None else returned
    if shipped not in {c.step for c in checkpoints}:
        raise EvaluationError(f"The trajectory has no checkpoint at step {shipped}, which was shipped.", remedy=_REMEDY)
    for margins in checkpoints:
        if margins.harmful.shape != base.harmful.shape or margins.safe.shape != base.safe.shape:
            raise EvaluationError(f"Step {margins.step} was measured on other prompts than the base.", remedy=_REMEDY)
    return Trajectory(base, checkpoints, shipped)


def _margins(step: int, harmful: Any, safe: Any) -> Margins:
    arrays = [np.asarray(values, dtype=np.float64) for values in (harmful, safe)]
    if any(array.ndim != 1 or not np.isfinite(array).all() for array in arrays):
        raise ValueError(f"a margin at step {step} is not a finite number")
    return Margins(step, *arrays)
