"""Order, padding, schedules: the parts of the loop that can be checked without a model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ftplatform.errors import TrainingError
from ftplatform.training.loop import NO_LOSS, Example, Optimization, batch_order, collate, fit, learning_rate_factor


def test_every_epoch_sees_every_row_once() -> None:
    lengths = [5 + i % 7 for i in range(103)]
    batches = list(batch_order(lengths, batch_size=10, steps=22, seed=3))
    for epoch in (batches[:11], batches[11:]):
        assert sorted(i for batch in epoch for i in batch) == list(range(103))
    assert batches[:11] != batches[11:]


def test_order_depends_on_seed_only() -> None:
    lengths = [10] * 64
    assert list(batch_order(lengths, 8, 8, seed=1)) == list(batch_order(lengths, 8, 8, seed=1))
    assert list(batch_order(lengths, 8, 8, seed=1)) != list(batch_order(lengths, 8, 8, seed=2))


def test_bucketing_saves_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(4, 0.6, 1024).astype(int).tolist()

    def padded(batches: list[list[int]]) -> int:
        return sum(len(b) * max(lengths[i] for i in b) for b in batches)

    bucketed = padded(list(batch_order(lengths, 32, 32, seed=0)))
    shuffled = rng.permutation(1024).reshape(32, 32).tolist()
    assert bucketed < 0.7 * padded(shuffled)
    assert bucketed < 1.25 * sum(lengths)


def test_collate_pads_on_the_right_without_loss() -> None:
    rows = [Example(np.array([4, 5, 6]), np.array([NO_LOSS, 5, 6])), Example(np.array([7]), np.array([7]))]
    tokens, labels, mask = collate(rows, pad_token=0)
    assert tokens.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert labels.tolist() == [[NO_LOSS, 5, 6], [7, NO_LOSS, NO_LOSS]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1.0, 1.0, 1.0, 1.0]), ("linear", [0.5, 1.0, 1.0, 0.75, 0.25]), ("cosine", [0.5, 1.0, 1.0, 0.8536, 0.1464])],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    settings = Optimization(steps=6, batch_size=1, learning_rate=1.0, warmup_steps=2, schedule=schedule)  # pyright: ignore
    factors = [learning_rate_factor(step, settings) for step in (0, 1, 2, 3, 5)]
    assert factors == pytest.approx(expected, abs=1e-4)


def trained(examples: list[Example]) -> tuple[list[float], Any]:
    """Losses and weights of a bigram model after three steps on all examples at once."""
    import torch

    class Bigrams(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(8, 8)
            torch.nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(1))

        def forward(self, input_ids: Any, **_: Any) -> Any:
            return SimpleNamespace(logits=self.table(input_ids))

    model = Bigrams()
    settings = Optimization(steps=3, batch_size=len(examples), learning_rate=0.1)
    return fit(model, examples, settings, pad_token=0, bf16=False), model.table.weight.detach()


def test_a_row_of_weight_three_counts_like_three_rows() -> None:
    one = Example(np.array([1, 2, 3, 4]), np.array([NO_LOSS, 2, 3, 4]))
    other = Example(np.array([1, 6, 2]), np.array([NO_LOSS, 6, 2]))
    losses, weights = trained([replace(one, weight=3.0), other])
    repeated, by_repeating = trained([one, one, one, other])
    plain, unweighted = trained([one, other])
    assert losses == pytest.approx(repeated, rel=1e-6)
    assert np.allclose(weights, by_repeating, atol=1e-6)
    assert losses != pytest.approx(plain, rel=1e-3)
    assert not np.allclose(weights, unweighted, atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(TrainingError, match="weight"):
        trained([Example(np.array([1, 2]), np.array([NO_LOSS, 2]), weight)])
