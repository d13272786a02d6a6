"""A model folder on this machine as the model behind a judge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ftplatform.evaluation.generation import Decoding, Generator
from ftplatform.evaluation.judges.model_judge import Completion, Messages

#: Conversations answered between two writes of the transcripts.
_PORTION = 256


class LocalChat:
    """See `model_judge.Chat`. Greedy.

    Args:
        generator: a loaded base model.
        name: what to call it in transcripts.
        max_new_tokens: length limit of an answer.
    """

    def __init__(self, generator: Generator, name: str, *, max_new_tokens: int = 256) -> None:
        self._generator = generator
        self._name = name
        self.decoding = Decoding(max_new_tokens=max_new_tokens)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Digest of the weights and the length limit."""
        return {"model": self._generator.model_digest(adapter=False), "max_new_tokens": self.decoding.max_new_tokens}

    def complete(self, conversations: Sequence[Messages]) -> Iterator[Sequence[tuple[int, Completion]]]:
        """Answers in portions; `seconds` is the share of one answer in the time its portion took."""
        for start in range(0, len(conversations), _PORTION):
            portion = conversations[start : start + _PORTION]
            asked_at, clock = datetime.now(UTC), time.perf_counter()
            answers = self._generator.generate(portion, self.decoding)
            seconds = (time.perf_counter() - clock) / len(portion)
            read = [len(self._generator.encode(text)) for text in self._generator.render(portion)]
            yield [
                (start + i, Completion(answer, self._name, read[i], len(self._generator.encode(answer)), asked_at, seconds))
                for i, answer in enumerate(answers)
            ]
