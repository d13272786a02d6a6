"""One of several processes that train the same adapter together, each on its share of every batch (data parallelism).

Whoever starts the processes also opens the process group (`torch.distributed.init_process_group`: gloo on CPUs, NCCL on GPUs) and
hands `Replica(rank, world)` to `train` or `fit`. Every process reads all rows and knows every batch, so the loss is divided by
the weight of the whole batch everywhere and gradients are *summed*. Averaging them instead would count the tokens of a
process with little to learn for more than those of its neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Replica:
    """Process `rank` of `world`; the default is a process alone, for which nothing below communicates.

    Raises:
        ValueError: on a rank outside [0, world).
    """

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is none of {self.world}")

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, batch: Sequence[_T]) -> Sequence[_T]:
        """What this process computes of a batch; rows of a batch are sorted by length, so shares are equally long."""
        return batch[self.rank :: self.world]

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Replaces every gradient by its sum over all processes, and returns the sum of `loss` (shape ()); all get the same bits."""
        import torch

        if self.world == 1:
            return loss
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        together = torch.cat([*(g.reshape(-1) for g in gradients), loss.reshape(1)])
        torch.distributed.all_reduce(together)
        *summed, total = together.split([*(g.numel() for g in gradients), 1])
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return total.reshape(())

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """`tensor` of every process (same shape and type everywhere), by rank."""
        import torch

        if self.world == 1:
            return [tensor]
        # NCCL moves tensors on the GPU only.
        on_gpu = torch.distributed.get_backend() == "nccl"
        own = tensor.cuda() if on_gpu else tensor
        parts = [torch.empty_like(own) for _ in range(self.world)]
        torch.distributed.all_gather(parts, own)
        return [part.to(tensor.device) for part in parts]
