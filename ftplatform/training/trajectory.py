"""The refusal margin along a run: measured at every checkpoint, written as `trajectory.json`, and the rule that stops on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.errors import TrainingError
from ftplatform.training.margins import (
    MIN_PROBES,
    TokenOpenings,
    declared_openings,
    encode_prompts,
    learn_openings,
    margin_ratio,
    margins,
)
from ftplatform.training.settings import EarlyStop, Openings

SCHEMA = "ftplatform.trajectory/1"

#: One measurement: `step`, `refusal` and `safe` (see `MarginTrack.measure`).
Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MarginTrack:
    """What a run's margins are measured on, and the base model's own.

    Attributes:
        refusal, safe: token ids of the prompts.
        base_refusal, base_safe: margins of the model with the adapter disabled, nats, one per prompt.
    """

    refusal: Sequence[NDArray[np.int64]]
    safe: Sequence[NDArray[np.int64]]
    openings: TokenOpenings
    pad_token: int
    base_refusal: NDArray[np.float64]
    base_safe: NDArray[np.float64]

    @classmethod
    def begin(
        cls,
        model: Any,
        tokenizer: Any,
        refusal: pa.Table,
        safe: pa.Table,
        openings: Openings | None,
        *,
        max_tokens: int,
        pad_token: int,
    ) -> MarginTrack:
        """Settles the openings (learned from the base model unless declared) and measures the base model.

        Args:
            model: a PEFT model. refusal, safe: probes, see `margins.encode_prompts`.

        Raises:
            TrainingError: see `margins.encode_prompts` and `margins.learn_openings`.
        """
        on_refusal, on_safe = (encode_prompts(rows, tokenizer, max_tokens=max_tokens) for rows in (refusal, safe))
        with model.disable_adapter():
            if openings is not None:
                settled = declared_openings(tokenizer, openings)
            else:
                settled = learn_openings(model, on_refusal, on_safe, pad_token=pad_token, end_token=tokenizer.eos_token_id)
            base_refusal, base_safe = (margins(model, prompts, settled, pad_token=pad_token) for prompts in (on_refusal, on_safe))
        return cls(on_refusal, on_safe, settled, pad_token, base_refusal, base_safe)

    def measure(self, model: Any, step: int) -> Point:
        """Margins after `step` steps.

        Returns:
            `step`; `refusal`: fields of `margins.MarginRatio` and `margins`, one per probe; `safe`: the same without the ratio, which
            means nothing where the base's margin is meant to be negative.
        """
        refusal, safe = (margins(model, prompts, self.openings, pad_token=self.pad_token) for prompts in (self.refusal, self.safe))
        return {
            "step": step,
            "refusal": {**asdict(margin_ratio(refusal, self.base_refusal)), "margins": refusal.tolist()},
            "safe": {"n": len(safe), "tuned": float(safe.mean()), "base": float(self.base_safe.mean()), "margins": safe.tolist()},
        }

    def require_room_to_lose(self) -> None:
        """Raises `TrainingError` if an early stop could not be decided on these probes."""
        if margin_ratio(self.base_refusal, self.base_refusal).low is None:
            raise TrainingError(
                f"the base model's refusal margin is {self.base_refusal.mean():.2f} nats on {len(self.base_refusal)} probes: too little to"
                " stop on when it is lost",
                remedy=f"Give at least {MIN_PROBES} prompts that the base model declines, or train without early_stop.",
            )

    def record(self, points: Sequence[Point], tokenizer: Any, *, learned: bool, stopped: dict[str, Any] | None) -> dict[str, Any]:
        """Content of `trajectory.json`.

        Args:
            stopped: why the run did not return its last step, see `Session.stopped`; None if it did.
        """
        return {
            "schema": SCHEMA,
            "unit": "nats",
            "openings": {"source": "learned" if learned else "declared", **self.openings.text(tokenizer)},
            "base": {"refusal": self.base_refusal.tolist(), "safe": self.base_safe.tolist()},
            "points": list(points),
            "stopped": stopped,
        }


def is_sound(point: Point, rule: EarlyStop) -> bool:
    """Whether the margin of a checkpoint is shown to be kept: the lower bound of its ratio reaches the threshold."""
    low = point["refusal"]["low"]
    return low is not None and low >= rule.threshold


def last_sound_step(points: Sequence[Point], rule: EarlyStop) -> int | None:
    """Step of the last sound checkpoint; None if there is none. The start is no checkpoint."""
    return max((p["step"] for p in points if p["step"] and is_sound(p, rule)), default=None)


def is_lost(points: Sequence[Point], rule: EarlyStop) -> bool:
    """Whether the last `patience` checkpoints are all unsound."""
    recent = [p for p in points if p["step"]][-rule.patience :]
    return len(recent) == rule.patience and not any(is_sound(p, rule) for p in recent)
