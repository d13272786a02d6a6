"""The loss of direct preference optimization (Rafailov et al. 2023, equation 7), and the log-probabilities it is made of.

The *reward* of an answer is beta times how much likelier the model makes it than the reference does, in nats. The loss is the negative
log-likelihood of the preferences under a Bradley-Terry model of these rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftplatform.training.batches import NO_LOSS, Example, collate

if TYPE_CHECKING:
    import torch


class Preference(NamedTuple):
    """Per pair, each of shape (pairs,): the loss in nats, and the rewards of both answers."""

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def dpo_loss(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> Preference:
    """Loss and rewards.

    Args:
        policy, reference: log P(answer | prompt) in nats under the model and under the reference, shape (2, pairs): chosen, rejected.
        beta: strength of the pull towards the reference.
    """
    from torch.nn import functional as functional

    chosen, rejected = beta * (policy - reference)
    return Preference(-functional.logsigmoid(chosen - rejected), chosen, rejected)


def answer_log_probabilities(
    model: torch.nn.Module, chosen: Sequence[Example], rejected: Sequence[Example], *, pad_token: int
) -> torch.Tensor:
    """log P(answer | prompt) in nats, summed over the answer's tokens, shape (2, pairs), fp32; one forward pass for all."""
    import torch
    from torch.nn import functional as functional

    device = next(model.parameters()).device
    tokens, labels, mask = (torch.from_numpy(a).to(device) for a in collate([*chosen, *rejected], pad_token))
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    # The token at position t is predicted from position t - 1; softmax is taken in fp32 and only where an answer stands.
    targets = labels[:, 1:]
    answered = targets != NO_LOSS
    each = functional.cross_entropy(logits[:, :-1][answered].float(), targets[answered], reduction="none")
    spread = torch.zeros(targets.shape, dtype=each.dtype, device=device).masked_scatter(answered, each)
    return -spread.sum(1).view(2, -1)


def pair_lengths(chosen: Sequence[Example], rejected: Sequence[Example]) -> list[int]:
    """Tokens of the longer side of each pair, by which pairs are batched."""
    return np.maximum([len(e.tokens) for e in chosen], [len(e.tokens) for e in rejected]).tolist()
