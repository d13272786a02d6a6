"""Answers, generated once for each (model, rendered prompt, decoding).

The key is a digest of all that decides an answer: the model's (base weights, adapter weights, precision, library versions) names a
folder of the store, and what the model reads (template, system prompt and conversation are all in it) with the decoding names the
answer in it. So an evaluation with one new eval set generates that set only, adapters share the answers of their base, and a killed
evaluation resumes after the last part it finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.evaluation.decoding import Decoding
from ftplatform.evaluation.generation import Conversation, Generator, Progress
from ftplatform.evaluation.recording import Recording
from ftplatform.store.backend import Backend

CACHE_SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("answer", pa.string(), nullable=False)])


def answer_key(rendered: str, decoding: Decoding, seed: int) -> str:
    """SHA-256 of what the model reads and how it answers. Greedy answers have no seed."""
    settings = asdict(decoding)
    settings["seed"] = seed if decoding.temperature > 0 else None
    return digest([rendered, settings])


class AnswerCache:
    """Answers known so far; `generated` counts those that were not.

    Args:
        backend: where answers outlive this process; None keeps them in memory only.
        reuse: False generates everything again, and still keeps it for others.
    """

    def __init__(self, backend: Backend | None = None, *, reuse: bool = True) -> None:
        self._backend = backend
        self._reuse = reuse
        self._known: dict[str, dict[str, str]] = {}
        self.generated = 0

    def answers(
        self,
        generator: Generator,
        conversations: Sequence[Conversation],
        decoding: Decoding,
        *,
        adapter: bool = False,
        system_prompt: str | None = None,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """As `Generator.generate`, which is asked only what is not known; each distinct question once."""
        rendered = generator.render(conversations, system_prompt)
        seeds = [decoding.seed] * len(rendered) if seeds is None else seeds
        keys = [answer_key(text, decoding, seed) for text, seed in zip(rendered, seeds, strict=True)]
        model = generator.model_digest(adapter=adapter)
        known = self._of_model(model)
        missing = {key: i for i, key in enumerate(keys) if key not in known}
        if missing:
            places = list(missing.values())
            fresh = generator.generate(
                [conversations[i] for i in places],
                decoding,
                adapter=adapter,
                system_prompt=system_prompt,
                seeds=[seeds[i] for i in places],
                progress=progress,
            )
            known.update(zip(missing, fresh, strict=True))
            self.generated += len(missing)
            if self._backend is not None:
                rows = pa.table([list(missing), fresh], schema=CACHE_SCHEMA)
                Recording(self._backend, _folder(model), CACHE_SCHEMA).append(rows)
        return [known[key] for key in keys]

    def _of_model(self, model: str) -> dict[str, str]:
        if model not in self._known:
            kept = None
            if self._backend is not None and self._reuse:
                kept = Recording(self._backend, _folder(model), CACHE_SCHEMA).read()
            self._known[model] = {} if kept is None else dict(zip(kept["key"].to_pylist(), kept["answer"].to_pylist(), strict=True))
        return self._known[model]


def _folder(model: str) -> str:
    return f"answers/{model}"
