"""Any server that speaks the OpenAI chat-completions protocol as the model behind a judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from ftplatform.errors import EvaluationError, FtplatformError
from ftplatform.evaluation.judges.model_judge import Completion, Messages
from ftplatform.transport.json_post import JsonPost
from ftplatform.transport.secrets import environment_secret

#: Conversations per thread between two writes of the transcripts.
_ROUNDS = 8


class EndpointChat:
    """See `model_judge.Chat`. Temperature 0 and a fixed seed, which most servers honor and none guarantees: hence the transcripts.

    Args:
        url: base address, such as ``https://api.example.com/v1``; https, or http on loopback.
        model: name the server knows it by. Give a dated name where there is one: an alias moves.
        api_key_env: name of the environment variable with the key; None sends none.
        max_tokens: length limit of an answer. seed: sent with each request.
        json_mode: ask for ``response_format: json_object``.
        concurrency: requests under way at once.
        limits: of `JsonPost` (timeout, attempts, first_wait, longest_wait).

    Raises:
        TransportError: if the URL is not allowed.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        max_tokens: int = 512,
        seed: int = 0,
        json_mode: bool = True,
        concurrency: int = 4,
        **limits: Any,
    ) -> None:
        self._model = model
        self._settings: dict[str, Any] = {"temperature": 0, "seed": seed, "max_tokens": max_tokens}
        if json_mode:
            self._settings["response_format"] = {"type": "json_object"}
        self._concurrency = max(1, concurrency)
        secret = environment_secret(api_key_env) if api_key_env is not None else None
        self._post = JsonPost(url=f"{url.rstrip('/')}/chat/completions", secret=secret, **limits)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Address, model and settings; not the key."""
        return {"url": self._post.url, "model": self._model, **self._settings}

    def complete(self, conversations: Sequence[Messages]) -> Iterator[Sequence[tuple[int, Completion]]]:
        """Answers in portions. When a request fails for good, those under way end first and are handed out, then it is raised."""
        width = self._concurrency * _ROUNDS
        with ThreadPoolExecutor(self._concurrency) as pool:
            for start in range(0, len(conversations), width):
                stop = threading.Event()
                portion = range(start, min(start + width, len(conversations)))
                pending = [pool.submit(self._answer, conversations[i], stop) for i in portion]
                done, failure = [], None
                for i, future in zip(portion, pending, strict=True):
                    if failure is not None and future.cancel():
                        continue
                    try:
                        done.append((i, future.result()))
                    except FtplatformError as error:
                        failure = failure or error
                        stop.set()
                yield done
                if failure is not None:
                    raise failure

    def _answer(self, messages: Messages, stop: threading.Event) -> Completion:
        asked_at, clock = datetime.now(UTC), time.perf_counter()
        value = self._post({"model": self._model, "messages": [dict(m) for m in messages], **self._settings}, stop)
        try:
            text = value["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise EvaluationError(
                f"{self._post.url} answers without choices[0].message.content.",
                remedy="Check that it is a chat-completions endpoint.",
            ) from None
        usage = value.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        model = value.get("model")
        return Completion(
            # A server that answers with a refusal or a tool call has no content; the reader quarantines the empty text.
            text if isinstance(text, str) else "",
            model if isinstance(model, str) else self._model,
            _count(counts.get("prompt_tokens")),
            _count(counts.get("completion_tokens")),
            asked_at,
            time.perf_counter() - clock,
        )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
