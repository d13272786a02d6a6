"""How the next token is chosen: greedily, or drawn from a stream that belongs to the prompt.

Draw k of an answer is a number fixed by (seed, prompt, k), turned into a token through the inverse cumulative distribution. So an
answer depends neither on the batch it happened to be in nor on any global random state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftplatform.canonical import digest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How answers are produced. It is part of what an answer is: a comparison needs the same on both sides.

    Attributes:
        max_new_tokens: length limit of an answer.
        temperature: 0 is greedy.
        top_p: smallest set of tokens with this probability is sampled from (Holtzman et al. 2020); 1 is all.
        seed: of the sampling.
    """

    max_new_tokens: int = 48
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; an answer needs at least one token")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature {self.temperature} must be >= 0 and top_p {self.top_p} in (0, 1]")

    @property
    def key(self) -> str:
        """Short digest of the settings."""
        return digest(asdict(self))[:16]


def token_probabilities(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Probabilities with which `decoding` chooses each token: shape and order of `logits` (batch, vocabulary), float64."""
    import torch

    if decoding.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    ordered, tokens = _nucleus(logits, decoding)
    return torch.zeros_like(ordered).scatter(-1, tokens, ordered / ordered.sum(-1, keepdim=True))


def sampler(decoding: Decoding, streams: Sequence[tuple[int, Sequence[int]]], device: Any, prompt_width: int) -> Any:
    """A logits processor of transformers that draws the next token itself and leaves only that one possible.

    Args:
        streams: seed and tokens read, for each row of the batch.
        prompt_width: padded length of the prompts, in tokens.
    """
    import torch
    from transformers import LogitsProcessor

    generators = [np.random.default_rng(int(digest([seed, list(read)])[:16], 16)) for seed, read in streams]
    draws = torch.tensor(np.stack([stream.random(decoding.max_new_tokens) for stream in generators]), device=device)

    class _InverseCdf(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            ordered, tokens = _nucleus(scores, decoding)
            cumulative = ordered.cumsum(-1)
            target = draws[:, input_ids.shape[1] - prompt_width, None] * cumulative[:, -1:]
            place = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[-1] - 1)
            return torch.full_like(scores, -torch.inf).scatter(-1, tokens.gather(-1, place), 0.0)

    return _InverseCdf()


def _nucleus(logits: torch.Tensor, decoding: Decoding) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities in falling order, zero outside the nucleus and not normalized again, and the tokens they belong to."""
    import torch

    probabilities = torch.softmax(logits.double() / decoding.temperature, -1)
    ordered, tokens = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return torch.where(before < decoding.top_p, ordered, 0.0), tokens
