"""The training loop: one straight function from encoded examples to a list of losses.

It knows nothing of LoRA, files or manifests; `train.py` and the recipe that pretrains the bundled base model both call it. On a
CPU it is several times faster than a general trainer on chat-length rows because batches are bucketed by length and, with bf16,
attention is the eager one (the fused CPU kernel has a slow bf16 backward).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftplatform.errors import TrainingError

if TYPE_CHECKING:
    import torch

#: Label of a token that carries no loss (the default `ignore_index` of PyTorch's cross entropy).
NO_LOSS = -100

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded row: `tokens` and `labels` of equal length; labels are `NO_LOSS` outside the trained text.

    `weight` is how much each of its trained tokens counts beside those of other rows: a row that says what nine others say counts
    for a tenth of a row that stands alone (He et al. 2024, SoftDedup).
    """

    tokens: np.ndarray
    labels: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """Every number of the optimizer (AdamW, Loshchilov & Hutter 2019), all of them resolved."""

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
    seed: int = 0


def learning_rate_factor(step: int, optimization: Optimization) -> float:
    """Share of the peak learning rate at 0-based `step`: linear warm-up, then constant, or linear or half-cosine decay to zero."""
    if step < optimization.warmup_steps:
        return (step + 1) / optimization.warmup_steps
    if optimization.schedule == "constant":
        return 1.0
    done = (step - optimization.warmup_steps) / max(1, optimization.steps - optimization.warmup_steps)
    return 1.0 - done if optimization.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def batch_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Indices of the rows of each step.

    Every epoch is a new permutation, cut into windows of 32 batches; inside a window rows are sorted by length so that a batch
    holds little padding, and the batches of the window are shuffled. The last batch of an epoch may be short; nothing is dropped.
    """
    rng = random.Random(seed)
    produced = 0
    while produced < steps:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        window = batch_size * 32
        for start in range(0, len(order), window):
            # The sort is stable, so equal lengths keep their shuffled order.
            rows = sorted(order[start : start + window], key=lambda i: lengths[i])
            batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
            rng.shuffle(batches)
            for batch in batches:
                if produced == steps:
                    return
                produced += 1
                yield batch


def collate(examples: Sequence[Example], pad_token: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right-padded `tokens`, `labels` and attention `mask`, each int64 of shape (rows, longest row)."""
    width = max(len(e.tokens) for e in examples)
    tokens = np.full((len(examples), width), pad_token, dtype=np.int64)
    labels = np.full((len(examples), width), NO_LOSS, dtype=np.int64)
    mask = np.zeros((len(examples), width), dtype=np.int64)
    for i, example in enumerate(examples):
        tokens[i, : len(example.tokens)] = example.tokens
        labels[i, : len(example.labels)] = example.labels
        mask[i, : len(example.tokens)] = 1
    return tokens, labels, mask


def fit(
    model: torch.nn.Module,
    examples: Sequence[Example],
    optimization: Optimization,
    *,
    pad_token: int,
    bf16: bool,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train the parameters of `model` that require a gradient; returns the (weighted) mean loss per trained token of every step, in nats.

    Same examples in the same order, same seed, thread count and hardware class: the same losses and weights, bit for bit.

    Args:
        model: a causal language model whose forward returns `.logits` of shape (rows, tokens, vocabulary).
        bf16: run matrix products in bfloat16 (autocast); parameters and optimizer state stay as they are.
        progress: called with (steps done, loss).

    Raises:
        TrainingError: no examples, nothing to learn from, a weight that is not positive, or a loss that is not finite (with the step).
    """
    import torch
    from torch.nn import functional as functional

    if not any((e.labels[1:] != NO_LOSS).any() for e in examples):
        raise TrainingError(
            f"none of the {len(examples)} rows has a token to learn", remedy="Mark at least one assistant message as trainable."
        )
    if wrong := [e.weight for e in examples if not 0 < e.weight < math.inf]:
        raise TrainingError(
            f"a row has the weight {wrong[0]}", remedy="Give positive weights; leave out rows that shall not count."
        )
    weighted = any(e.weight != 1.0 for e in examples)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        parameters,
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        eps=optimization.epsilon,
        weight_decay=optimization.weight_decay,
    )
    # Dropout draws from this generator; the data order has its own (`batch_order`).
    torch.manual_seed(optimization.seed)
    model.train()
    losses: list[float] = []
    lengths = [len(e.tokens) for e in examples]
    order = batch_order(lengths, optimization.batch_size, optimization.steps, optimization.seed)
    for step, rows in enumerate(order):
        tokens, labels, mask = (torch.from_numpy(a).to(device) for a in collate([examples[i] for i in rows], pad_token))
        for group in optimizer.param_groups:
            group["lr"] = optimization.learning_rate * learning_rate_factor(step, optimization)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        # The token at position t is predicted from position t - 1; softmax is taken in fp32 and only where there is a loss.
        targets = labels[:, 1:]
        trained = targets != NO_LOSS
        if not bool(trained.any()):
            raise TrainingError(
                f"step {step} has no token to learn: rows {rows[:5]}",
                remedy="Remove rows without a trainable message from the split.",
            )
        if weighted:
            weights = torch.tensor([examples[i].weight for i in rows], device=device)[:, None].expand_as(targets)[trained]
            per_token = functional.cross_entropy(logits[:, :-1][trained].float(), targets[trained], reduction="none")
            loss = (per_token * weights).sum() / weights.sum()
        else:
            loss = functional.cross_entropy(logits[:, :-1][trained].float(), targets[trained])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, optimization.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss of step {step} is {value}", remedy="Lower the learning rate or max_grad_norm.")
        losses.append(value)
        if progress is not None:
            progress(step + 1, value)
    model.eval()
    return losses
