"""Batches as rectangles of tokens: one row per sequence, or several that do not see each other.

Packing changes how a batch is laid out and nothing else: the same rows in the same step, the same loss and gradients up to rounding.
On a GPU it turns padding into work; on a CPU the longer sequences cost more than the padding saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ftplatform.errors import TrainingError
from ftplatform.training.batches import NO_LOSS, Batch, Example, collate

if TYPE_CHECKING:
    import torch


def lay_out(examples: Sequence[Example], pad_token: int, *, pack_to: int | None, weighted: bool) -> Batch:
    """One row per sequence, or packed (see `packed`) into sequences of at most `pack_to` tokens."""
    if pack_to is not None:
        return packed(examples, pad_token, pack_to, weighted=weighted)
    tokens, labels, mask = collate(examples, pad_token)
    weights = np.array([[e.weight] for e in examples], np.float32).repeat(tokens.shape[1], axis=1) if weighted else None
    return Batch(tokens, labels, weights, mask, None)


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices sharing a sequence: longest first, each into the first with room (Johnson 1973: at most 11/9 of the fewest + 4).

    A row longer than `capacity` gets a sequence of its own.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((b for b, left in enumerate(room) if left >= lengths[i]), None)
        if place is None:
            place = len(bins)
            bins.append([])
            room.append(capacity)
        bins[place].append(i)
        room[place] -= lengths[i]
    return bins


def packed(examples: Sequence[Example], pad_token: int, capacity: int, *, weighted: bool) -> Batch:
    """Several rows in a sequence, none of which sees another.

    Positions start anew with every row. With no attention mask given, transformers derives one from the positions under which a token
    attends to its own row only. The first token of a row is not predicted: what stands before it belongs to another one.
    """
    bins = first_fit([len(e.tokens) for e in examples], capacity)
    width = max(sum(len(examples[i].tokens) for i in chosen) for chosen in bins)
    shape = (len(bins), width)
    tokens = np.full(shape, pad_token, dtype=np.int64)
    labels = np.full(shape, NO_LOSS, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    weights = np.ones(shape, dtype=np.float32)
    for sequence, chosen in enumerate(bins):
        start = 0
        for i in chosen:
            example = examples[i]
            end = start + len(example.tokens)
            tokens[sequence, start:end] = example.tokens
            labels[sequence, start + 1 : end] = example.labels[1:]
            positions[sequence, start:end] = np.arange(end - start)
            weights[sequence, start:end] = example.weight
            start = end
        positions[sequence, start:] = np.arange(width - start)  # padding is one more row, without loss
    return Batch(tokens, labels, weights if weighted else None, None, positions)


def require_isolation(model: torch.nn.Module) -> None:
    """Raises `TrainingError` unless a packed row is blind to the row before it in `model`, seen by changing that row.

    Attention is blocked by a mask that transformers derives from the positions; an architecture that carries a state along the
    sequence, or builds its masks in another way, would leak.
    """
    import torch

    embeddings: Any = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    first, second = np.arange(1, 9), np.arange(9, 1, -1)
    follower = Example(np.arange(2, 8), np.arange(2, 8))

    def logits(before: np.ndarray) -> torch.Tensor:
        batch = packed([Example(before, before), follower], 0, len(before) + len(follower.tokens), weighted=False)
        inputs = {"input_ids": batch.tokens % embeddings.num_embeddings, "position_ids": batch.positions}
        tensors = {name: torch.from_numpy(array).to(embeddings.weight.device) for name, array in inputs.items()}
        with torch.no_grad():
            return model(**tensors, use_cache=False).logits[0, len(before) :].float()

    one, other = logits(first), logits(second)
    if (one - other).abs().max() > 1e-3 * one.abs().max():
        raise TrainingError(
            f"{type(model).__name__} lets packed rows see each other", remedy="Turn packing off for this base model."
        )
