"""A server that speaks the OpenAI chat-completions protocol as the model behind a teacher."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ftplatform.errors import FtplatformError
from ftplatform.synthesis.teachers.interface import TeacherError
from ftplatform.synthesis.teachers.prompting import Messages
from ftplatform.transport.json_post import JsonPost


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEndpoint:
    """See `prompting.Complete`.

    Attributes:
        post: transport to the server's ``/chat/completions``.
        model: name the server knows it by; a dated one where there is one, since an alias moves.
        temperature, top_p, max_tokens: of the sampling.
        concurrency: requests under way at once.
    """

    post: JsonPost
    model: str
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    concurrency: int = 4

    @property
    def settings(self) -> Mapping[str, Any]:
        """For `PromptedTeacher.settings`: the address too, since the same name at another server is another model."""
        return {"url": self.post.url, **self._sampling}

    @property
    def _sampling(self) -> Mapping[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}

    def __call__(self, conversations: Sequence[Messages], seeds: Sequence[int]) -> list[str]:
        """Answers in order; a server's refusal to write (no content) is an empty text.

        Raises:
            TeacherError: the server answers in another protocol.
            TransportError: the transport has given up; requests not yet begun are not sent, those under way not tried again.
        """
        stop = threading.Event()
        pool = ThreadPoolExecutor(max(1, self.concurrency))
        try:
            return list(pool.map(lambda messages, seed: self._ask(messages, seed, stop), conversations, seeds))
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, messages: Messages, seed: int, stop: threading.Event) -> str:
        try:
            value = self.post({"messages": [dict(m) for m in messages], "seed": seed, **self._sampling}, stop)
        except FtplatformError:
            stop.set()
            raise
        try:
            text = value["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise TeacherError(
                f"The endpoint of {self.model!r} answers without choices[0].message.content.",
                remedy="Check that it is a chat-completions endpoint.",
            ) from None
        return text if isinstance(text, str) else ""
