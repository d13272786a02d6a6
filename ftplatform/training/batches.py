"""From encoded rows to batches: which rows a step sees, and how they are laid out as rectangles of tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Label of a token that carries no loss (the default `ignore_index` of PyTorch's cross entropy).
NO_LOSS = -100


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded row: `tokens` and `labels` of equal length; labels are `NO_LOSS` outside the trained text.

    `weight` is how much each of its trained tokens counts beside those of other rows: a row that says what nine others say counts
    for a tenth of a row that stands alone (He et al. 2024, SoftDedup).
    """

    tokens: np.ndarray
    labels: np.ndarray
    weight: float = 1.0

    @property
    def trained(self) -> int:
        """Tokens that carry loss; the first token of a sequence is never predicted."""
        return int((self.labels[1:] != NO_LOSS).sum())


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows laid out as rectangles, each array of shape (sequences, width).

    Attributes:
        tokens, labels: int64.
        weights: float32, of each token; None if all count the same.
        mask: int64, 1 at tokens and 0 at padding; None if `positions` is given.
        positions: int64, place of each token in its own row, if several rows share a sequence.
    """

    tokens: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32] | None
    mask: NDArray[np.int64] | None
    positions: NDArray[np.int64] | None


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


def micro_batches(batch: Sequence[int], count: int) -> list[Sequence[int]]:
    """Row indices cut into at most `count` runs of nearly equal size, none of them empty; neighbors are of similar length."""
    cuts = [len(batch) * i // count for i in range(count + 1)]
    return [batch[low:high] for low, high in pairwise(cuts) if high > low]


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
