"""A `Generator` as the harness knows models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ftplatform.evaluation.generation import Decoding, Generator


def model_class() -> type[Any]:
    """The class; made on demand, because its own base class needs the harness."""
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]

    class _HarnessModel(TemplateLM):
        """A `Generator` in the harness's terms; texts arrive rendered."""

        def __init__(self, generator: Generator, *, adapter: bool, max_new_tokens: int, seed: int) -> None:
            super().__init__()
            self._generator = generator
            self._adapter = adapter
            self._decoding = Decoding(max_new_tokens=max_new_tokens, seed=seed)

        @property
        def eot_token_id(self) -> int:
            return self._generator.stop_tokens[0]

        @property
        def tokenizer_name(self) -> str:
            return self._generator.base_digest

        @property
        def max_length(self) -> int:
            return self._generator.context or 2048

        def chat_template(self, chat_template: bool | str = False) -> str:
            return self._generator.base_digest if chat_template else ""

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return self._generator.render([chat_history], continue_final=not add_generation_prompt)[0]

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            return self._generator.encode(string)

        def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
            pairs = [self._fitting(context, target) for _, context, target in requests]
            scored = self._generator.score_tokens(pairs, adapter=self._adapter)
            return list(zip(scored.total.tolist(), scored.greedy.tolist(), strict=True))

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            totals = []
            for request in requests:
                windows = get_rolling_token_windows(
                    self._generator.encode(request.args[0]), self.prefix_token_id, self.max_length - 1, 1
                )
                pairs = [make_disjoint_window(window) for window in windows]
                totals.append(float(self._generator.score_tokens(pairs, adapter=self._adapter).total.sum()))
            return totals

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            answers = [""] * len(requests)
            alike: dict[Decoding, list[int]] = {}
            for i, request in enumerate(requests):
                alike.setdefault(self._how(request.args[1]), []).append(i)
            for decoding, places in alike.items():
                # The end of a long prompt is what is asked; few-shot examples at its front give way.
                room = self.max_length - decoding.max_new_tokens
                prompts = [self._generator.encode(requests[i].args[0])[-room:] for i in places]
                said = self._generator.complete(prompts, decoding, adapter=self._adapter)
                for i, text in zip(places, said, strict=True):
                    answers[i] = _cut(text, requests[i].args[1].get("until"))
            return answers

        def _how(self, settings: dict[str, Any]) -> Decoding:
            limit = min(int(settings.get("max_gen_toks", self._decoding.max_new_tokens)), self.max_length // 2)
            sampled = bool(settings.get("do_sample")) and float(settings.get("temperature", 0.0)) > 0
            return replace(
                self._decoding,
                max_new_tokens=limit,
                temperature=float(settings["temperature"]) if sampled else 0.0,
                top_p=float(settings.get("top_p", 1.0)) if sampled else 1.0,
            )

        def _fitting(self, context: list[int], target: list[int]) -> tuple[list[int], list[int]]:
            target = target[-(self.max_length - 1) :]
            room = self.max_length - len(target)
            return context[-room:], target

    return _HarnessModel


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    """A text before the first of its stop sequences."""
    stops = [until] if isinstance(until, str) else list(until or ())
    return text[: min((place for stop in stops if stop and (place := text.find(stop)) >= 0), default=len(text))]
