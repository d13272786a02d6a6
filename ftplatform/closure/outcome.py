"""What a replay showed: identical, equivalent, diverged, or that there was none (notes on determinism: PyTorch's own promise ends at
the platform, so bytes decide inside one hardware class and a band outside of it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ftplatform.canonical import digest
from ftplatform.closure.diff import Change, diff

#: Largest difference of a loss (nats per trained token) that rounding of other kernels explains in the first steps.
LOSS_TOLERANCE = 1e-5
#: Steps whose losses are compared where the bytes differ: rounding errors grow with every step, and later ones say nothing.
COMPARED_STEPS = 40

# PEFT dumps these from sets, in hash order: other bytes in every process, the same adapter.
_SETS = ("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "target_parameters")


class Outcome(StrEnum):
    """What became of a replay.

    IDENTICAL: same tensors and same configuration, or, where only the first steps ran, the same losses to the last bit. EQUIVALENT:
    other bits, and losses within `LOSS_TOLERANCE`. DIVERGED: neither. NOT_TRIED: no training step ran.
    """

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    DIVERGED = "diverged"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A replay beside the original.

    Attributes:
        outcome: the conclusion.
        steps: steps whose losses were compared.
        max_loss_difference: of these steps, in nats per trained token; None without any.
        reason: one sentence.
    """

    outcome: Outcome
    steps: int
    max_loss_difference: float | None
    reason: str


def compare(recorded: Sequence[float], replayed: Sequence[float], *, same_bytes: bool | None) -> Comparison:
    """What losses, and bytes where there are any, say about a replay.

    Args:
        recorded: loss of every step of the original run.
        replayed: of the replay, which may be shorter.
        same_bytes: whether tensors and configuration agree; None if the replay stopped before there were any.
    """
    together = min(len(recorded), len(replayed))
    if together == 0:
        return Comparison(outcome=Outcome.NOT_TRIED, steps=0, max_loss_difference=None, reason="No training step ran.")
    gaps = [abs(a - b) for a, b in zip(recorded, replayed, strict=False)]
    first = next((step for step, gap in enumerate(gaps, 1) if gap), None)
    if same_bytes or (same_bytes is None and first is None):
        what = "tensors and configuration are" if same_bytes else f"the losses of the first {together} steps are"
        return Comparison(
            outcome=Outcome.IDENTICAL, steps=together, max_loss_difference=max(gaps), reason=f"All {what} the same to the last bit."
        )
    largest = max(gaps[:COMPARED_STEPS])
    where = "no loss differs, but the files do" if first is None else f"losses differ from step {first} on"
    within = len(replayed) <= len(recorded) and largest <= LOSS_TOLERANCE and not (first is None and same_bytes is False)
    compared = min(together, COMPARED_STEPS)
    return Comparison(
        outcome=Outcome.EQUIVALENT if within else Outcome.DIVERGED,
        steps=compared,
        max_loss_difference=largest,
        reason=f"{where[0].upper()}{where[1:]}, by at most {largest:.3g} in the first {compared} (tolerance {LOSS_TOLERANCE:g}).",
    )


def same_configuration(before: bytes, after: bytes) -> bool:
    """Whether two `adapter_config.json` say the same; lists that stand for sets may be in any order."""
    return config_digest(before) == config_digest(after)


def config_digest(data: bytes) -> str:
    """SHA-256 (hex) of what an `adapter_config.json` says, whatever order its sets were written in.

    Raises:
        ValueError: it is no JSON object.
    """
    config = json.loads(data)
    if not isinstance(config, dict):
        raise ValueError("an adapter's configuration is a JSON object")
    return digest({key: sorted(map(str, v)) if key in _SETS and isinstance(v, list) else v for key, v in config.items()})


def environment_differences(
    manifest: Mapping[str, Any], environment: Mapping[str, Any], packages: Mapping[str, str], python: str
) -> list[Change]:
    """Fields of the surroundings that differ between the closure (`before`) and a replay (`after`), by path.

    Args:
        environment: of the replay, as the trainer describes it.
        packages: version by name installed at the replay.
    """
    runtime = {key: value for key, value in environment.items() if key not in {"packages"}}
    recorded = manifest["runtime"]
    before = {
        "environment": {"python": manifest["environment"]["python"], "packages": _others(manifest["environment"]["packages"])},
        "runtime": {key: recorded.get(key) for key in runtime},
    }
    after = {"environment": {"python": python, "packages": _others(packages)}, "runtime": runtime}
    return diff(before, after)


def _others(packages: Mapping[str, str]) -> dict[str, str]:
    """Without ours: the replay ran the code of the closure, whatever is installed."""
    return {name: version for name, version in packages.items() if name != "ftplatform"}
