"""The training loop: one straight function from encoded examples to a list of losses.

It knows nothing of LoRA, files or manifests; `train.py` and the recipe that pretrains the bundled base model both call it. On a
CPU it is several times faster than a general trainer on chat-length rows because batches are bucketed by length and, with bf16,
attention is the eager one (the fused CPU kernel has a slow bf16 backward).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from ftplatform.errors import TrainingError
from ftplatform.training.batches import NO_LOSS, Batch, Example, batch_order, collate, micro_batches
from ftplatform.training.packing import lay_out
from ftplatform.training.replica import Replica
from ftplatform.training.throughput import Meter

if TYPE_CHECKING:
    import torch

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """Every number of the optimizer (AdamW, Loshchilov & Hutter 2019), all of them resolved.

    A step sees `batch_size` rows, in `micro_batches` passes whose gradients are added up: the same step with less memory.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 0
    schedule: Schedule = "constant"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    micro_batches: int = 1
    seed: int = 0


def learning_rate_factor(step: int, optimization: Optimization) -> float:
    """Share of the peak learning rate at 0-based `step`: linear warm-up, then constant, or linear or half-cosine decay to zero."""
    if step < optimization.warmup_steps:
        return (step + 1) / optimization.warmup_steps
    if optimization.schedule == "constant":
        return 1.0
    done = (step - optimization.warmup_steps) / max(1, optimization.steps - optimization.warmup_steps)
    return 1.0 - done if optimization.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(slots=True)
class FitState:
    """Where a run stands between two steps. With the state of the random generators it is all that the next step depends on.

    Attributes:
        model: what is trained. parameters: those of its parameters that require a gradient, by name.
        optimizer: over `parameters`, in their order.
        losses: of the steps done; their number is the number of the next step.
    """

    model: torch.nn.Module
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device


class Observer(Protocol):
    """Looks on between the steps: restores, saves, measures, stops."""

    def begin(self, state: FitState) -> None:
        """Called once, before the first step; may put `state` where an earlier run was."""

    def after_step(self, state: FitState) -> bool:
        """Called after every step; true ends the run."""
        ...


def fit(
    model: torch.nn.Module,
    examples: Sequence[Example],
    optimization: Optimization,
    *,
    pad_token: int,
    bf16: bool,
    progress: Callable[[int, float], None] | None = None,
    pack_to: int | None = None,
    replica: Replica | None = None,
    observer: Observer | None = None,
    meter: Meter | None = None,
) -> list[float]:
    """Train the parameters of `model` that require a gradient; returns the (weighted) mean loss per trained token of every step, in nats.

    Same examples in the same order, same seed, thread count and hardware class: the same losses and weights, bit for bit.

    Args:
        model: a causal language model whose forward returns `.logits` of shape (rows, tokens, vocabulary).
        bf16: run matrix products in bfloat16 (autocast); parameters and optimizer state stay as they are.
        progress: called with (steps done, loss).
        pack_to: lay the rows of a batch side by side in sequences of at most this many tokens, see `packing`.
        replica: which of several processes this is; each returns the same losses and ends with the same weights.
        observer: see `Observer`.
        meter: gets what was computed.

    Raises:
        TrainingError: no examples, nothing to learn from, a weight that is not positive, or a loss that is not finite (with the step).
    """
    import torch

    lengths, trained = [len(e.tokens) for e in examples], [e.trained for e in examples]
    _require_something_to_learn(examples, trained)
    replica, meter = replica or Replica(), meter or Meter()
    weighted = any(e.weight != 1.0 for e in examples)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters = list(trainable.values())
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        parameters,
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        eps=optimization.epsilon,
        weight_decay=optimization.weight_decay,
        fused=device.type == "cuda",
    )
    # Dropout draws from this generator, in every process something else; the data order has its own (`batch_order`).
    torch.manual_seed(optimization.seed + replica.rank)
    model.train()
    state = FitState(model, trainable, optimizer)
    if observer is not None:
        observer.begin(state)
    order = batch_order(lengths, optimization.batch_size, optimization.steps, optimization.seed)
    for step, rows in islice(enumerate(order), state.step, None):
        with meter.step():
            total = _total_weight([examples[i].weight for i in rows], [trained[i] for i in rows], weighted=weighted)
            if not total:
                raise TrainingError(
                    f"step {step} has no token to learn: rows {rows[:5]}",
                    remedy="Remove rows without a trainable message from the split.",
                )
            for group in optimizer.param_groups:
                group["lr"] = optimization.learning_rate * learning_rate_factor(step, optimization)
            loss = torch.zeros((), device=device)
            for part in micro_batches(replica.share(rows), optimization.micro_batches):
                laid_out = lay_out([examples[i] for i in part], pad_token, pack_to=pack_to, weighted=weighted)
                meter.add(sum(lengths[i] for i in part), sum(trained[i] for i in part), laid_out.tokens.size)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                    logits = _logits(model, laid_out, device)
                # Divided by the weight of the whole batch, not of the part: a mean of means would count rows by the company they keep.
                part_loss = _summed_loss(logits, laid_out) / total
                part_loss.backward()
                loss += part_loss.detach()
            loss = replica.sum_gradients(parameters, loss)
            torch.nn.utils.clip_grad_norm_(parameters, optimization.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = float(loss)
        if not math.isfinite(value):
            raise TrainingError(f"the loss of step {step} is {value}", remedy="Lower the learning rate or max_grad_norm.")
        state.losses.append(value)
        ended = observer is not None and observer.after_step(state)
        if progress is not None:
            progress(step + 1, value)
        if ended:
            break
    model.eval()
    return state.losses


def _require_something_to_learn(examples: Sequence[Example], trained: Sequence[int]) -> None:
    if not any(trained):
        raise TrainingError(
            f"none of the {len(examples)} rows has a token to learn", remedy="Mark at least one assistant message as trainable."
        )
    if wrong := [e.weight for e in examples if not 0 < e.weight < math.inf]:
        raise TrainingError(
            f"a row has the weight {wrong[0]}", remedy="Give positive weights; leave out rows that shall not count."
        )


def _total_weight(weights: Sequence[float], trained: Sequence[int], *, weighted: bool) -> float:
    """Sum of the weights of all trained tokens of a batch, by weight and number of trained tokens of its rows."""
    import torch

    if not weighted:
        return float(sum(trained))
    return float(torch.from_numpy(np.repeat(np.array(weights, np.float32), trained)).sum())


def _logits(model: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
    import torch

    tokens = torch.from_numpy(batch.tokens).to(device)
    if batch.positions is not None:
        return model(input_ids=tokens, position_ids=torch.from_numpy(batch.positions).to(device), use_cache=False).logits
    return model(input_ids=tokens, attention_mask=torch.from_numpy(batch.mask).to(device), use_cache=False).logits


def _summed_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Weighted sum of the losses of all trained tokens, shape ().

    The token at position t is predicted from position t - 1; softmax is taken in fp32 and only where there is a loss.
    """
    import torch
    from torch.nn import functional as functional

    targets = torch.from_numpy(batch.labels[:, 1:]).to(logits.device)
    trained = targets != NO_LOSS
    chosen = logits[:, :-1][trained].float()
    if batch.weights is None:
        return functional.cross_entropy(chosen, targets[trained], reduction="sum")
    weights = torch.from_numpy(batch.weights[:, 1:]).to(logits.device)[trained]
    return (functional.cross_entropy(chosen, targets[trained], reduction="none") * weights).sum()


__all__ = [
    "NO_LOSS",
    "Batch",
    "Example",
    "FitState",
    "Observer",
    "Optimization",
    "Replica",
    "Schedule",
    "batch_order",
    "collate",
    "fit",
    "learning_rate_factor",
]
