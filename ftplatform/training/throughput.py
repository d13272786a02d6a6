"""How fast a run is: tokens a second, what of it is padding, and the share of the GPU's arithmetic in use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Dense bf16 peak by the beginning of the device's name, FLOP/s (NVIDIA's data sheets, without sparsity). The longest match counts.
PEAK_BF16 = {
    "NVIDIA A10": 125e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989.4e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
}

#: Floating-point operations per token and parameter: 2 forward, 2 for the gradient of the activations. The frozen weights need none
#: for themselves (full fine-tuning: 6).
_FLOPS_PER_PARAMETER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What a call of the trainer computed. Of several processes that share the batches, each reports its own part.

    Attributes:
        steps: optimizer steps of this call (a resumed run did the others before).
        tokens, trained_tokens, padded_tokens: of the rows, of their trained text, and of the rectangles they were laid out in.
        seconds: wall time of the steps, without measuring margins and writing checkpoints.
        mfu: model FLOP utilization (Chowdhery et al. 2022, PaLM), share of `PEAK_BF16`; None on a CPU or an unknown device.
    """

    steps: int
    tokens: int
    trained_tokens: int
    padded_tokens: int
    seconds: float
    mfu: float | None

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, padding left out."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def padding_share(self) -> float:
        """Share of padding in what was computed."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0


@dataclass(slots=True)
class Meter:
    """Adds up what the loop computes.

    Attributes:
        parameters: weights of the model that take part in matrix products, see `multiplied_parameters`.
        peak: FLOP/s of the device, None if unknown.
    """

    parameters: int = 0
    peak: float | None = None
    steps: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Times one optimizer step."""
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started
        self.steps += 1

    def add(self, tokens: int, trained_tokens: int, padded_tokens: int) -> None:
        """Counts one pass forward and backward."""
        self.tokens += tokens
        self.trained_tokens += trained_tokens
        self.padded_tokens += padded_tokens

    def read(self) -> Throughput:
        """The sums so far."""
        done = _FLOPS_PER_PARAMETER * self.parameters * self.tokens
        return Throughput(
            steps=self.steps,
            tokens=self.tokens,
            trained_tokens=self.trained_tokens,
            padded_tokens=self.padded_tokens,
            seconds=self.seconds,
            mfu=done / (self.seconds * self.peak) if self.peak and self.seconds else None,
        )


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a GPU by its name; None if it is not in `PEAK_BF16`."""
    known = [name for name in PEAK_BF16 if device_name == name or device_name.startswith((f"{name} ", f"{name}-"))]
    return PEAK_BF16[max(known, key=len)] if known else None


def multiplied_parameters(model: torch.nn.Module) -> int:
    """Weights of `model` without an embedding table that is only looked up; one shared with the output layer counts."""
    embedding = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    output = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    shared = output is not None and output.weight is embedding.weight  # pyright: ignore[reportAttributeAccessIssue]
    looked_up = 0 if shared else sum(p.numel() for p in embedding.parameters())  # pyright: ignore[reportAttributeAccessIssue]
    return sum(p.numel() for p in model.parameters()) - looked_up
