"""The loop of preference tuning: as `training.loop`, over pairs and with the DPO loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from ftplatform.errors import TrainingError
from ftplatform.training.batches import Example, batch_order, micro_batches
from ftplatform.training.loop import Optimization, learning_rate_factor
from ftplatform.training.preference.loss import answer_log_probabilities, dpo_loss, pair_lengths
from ftplatform.training.preference.statistics import PreferenceStep

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

#: Called with (steps done, figures of the last step).
Progress = Callable[[int, PreferenceStep], None]


def fit_preferences(
    model: PeftModel,
    chosen: Sequence[Example],
    rejected: Sequence[Example],
    optimization: Optimization,
    *,
    beta: float,
    pad_token: int,
    bf16: bool,
    progress: Progress | None = None,
) -> list[PreferenceStep]:
    """Trains the adapter of `model`; the reference is the same model with the adapter switched off, so no second copy is held.

    Its log-probabilities are computed once per pair that will be seen, not once per step. Same pairs in the same order, same seed,
    thread count and hardware class: the same figures and weights, bit for bit.

    Args:
        chosen, rejected: sides of each pair, in the same order.
        bf16: matrix products in bfloat16 (autocast).

    Raises:
        TrainingError: no pairs, or a loss that is not finite (with the step).
    """
    import torch

    if not chosen:
        raise TrainingError("there are no preference pairs", remedy="Check what the filters left of the rows.")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        eps=optimization.epsilon,
        weight_decay=optimization.weight_decay,
        fused=parameters[0].device.type == "cuda",
    )
    order = list(batch_order(pair_lengths(chosen, rejected), optimization.batch_size, optimization.steps, optimization.seed))

    def log_probabilities(part: Sequence[int]) -> torch.Tensor:
        with torch.autocast(parameters[0].device.type, dtype=torch.bfloat16, enabled=bf16):
            return answer_log_probabilities(model, [chosen[i] for i in part], [rejected[i] for i in part], pad_token=pad_token)

    reference = _reference(model, order, len(chosen), optimization.micro_batches, log_probabilities)
    # Dropout draws from the global generator.
    torch.manual_seed(optimization.seed)
    model.train()
    steps: list[PreferenceStep] = []
    for step, rows in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = optimization.learning_rate * learning_rate_factor(step, optimization)
        sums = torch.zeros(5, device=parameters[0].device)
        for part in micro_batches(rows, optimization.micro_batches):
            found = dpo_loss(log_probabilities(part), reference[:, part], beta)
            (found.losses.sum() / len(rows)).backward()
            sums += _sums(found.losses, found.chosen_rewards, found.rejected_rewards)
        torch.nn.utils.clip_grad_norm_(parameters, optimization.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss, accuracy, margin, up, down = (sums / len(rows)).tolist()
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of step {step} is {loss}", remedy="Lower the learning rate, beta or max_grad_norm.")
        steps.append(PreferenceStep(loss=loss, accuracy=accuracy, margin=margin, chosen_reward=up, rejected_reward=down))
        if progress is not None:
            progress(step + 1, steps[-1])
    model.eval()
    return steps


def _reference(
    model: PeftModel,
    order: Sequence[list[int]],
    pairs: int,
    parts: int,
    log_probabilities: Callable[[Sequence[int]], torch.Tensor],
) -> torch.Tensor:
    """Log-probabilities under the reference, shape (2, pairs); NaN for pairs that no step will see.

    Each pair is computed in the batch in which it is seen first: its padding is the same, and in the first epoch so are the last bits.
    """
    import torch

    device = next(model.parameters()).device
    reference = torch.full((2, pairs), math.nan, device=device)
    done: set[int] = set()
    model.eval()
    with torch.no_grad(), model.disable_adapter():
        for part in chain.from_iterable(micro_batches(rows, parts) for rows in order):
            if not done.issuperset(part):
                fresh = torch.tensor([i not in done for i in part], device=device)
                reference[:, torch.tensor(part, device=device)[fresh]] = log_probabilities(part)[:, fresh]
                done.update(part)
            if len(done) == pairs:
                break
    return reference


def _sums(losses: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        margins = chosen - rejected
        wins = (margins > 0).float() + 0.5 * (margins == 0).float()
        return torch.stack([losses, wins, margins, chosen, rejected]).sum(1)
