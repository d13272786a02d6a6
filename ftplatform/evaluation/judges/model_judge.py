"""A judge that asks a model, and asks it once: known exchanges are replayed, new ones are kept as they come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ftplatform.canonical import canonical_json, digest
from ftplatform.errors import EvaluationError
from ftplatform.evaluation.judges.interface import ItemVerdict, Judged, JudgeItem, Progress
from ftplatform.evaluation.judges.prompting import JudgePrompt, Unreadable
from ftplatform.evaluation.judges.transcripts import Transcripts

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a chat model said.

    Attributes:
        text: the answer.
        model: the model's name as whoever serves it gave it.
        prompt_tokens, completion_tokens: as counted by the server; None if it did not say.
        asked_at: when it was asked. seconds: how long the answer took, retries included.
    """

    text: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    asked_at: datetime
    seconds: float


class Chat(Protocol):
    """A chat model that answers conversations."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON-able description of the model and of every setting that decides an answer; no secrets."""
        ...

    def complete(self, conversations: Sequence[Messages]) -> Iterator[Sequence[tuple[int, Completion]]]:
        """Answers in portions, as (place in `conversations`, answer); raises after handing out what it has."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJudge:
    """See `interface.Judge`.

    Attributes:
        id, family, version: of the judge; the version of the model where its maker gives one.
        prompt: what is asked.
        chat: who is asked.
        transcripts: exchanges that need not take place again.
    """

    id: str
    family: str
    version: str
    prompt: JudgePrompt
    chat: Chat
    transcripts: Transcripts

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of instructions and criteria."""
        return self.prompt.hash

    def judge(self, items: Sequence[JudgeItem], *, progress: Progress | None = None) -> Judged:
        """Verdicts on `items`; the same question is asked once.

        Raises:
            TransportError: if the model cannot be reached. EvaluationError: if something is not recorded and may not be asked.
        """
        identity = dict(self.chat.identity)
        folder = digest(identity | {"prompt": self.prompt_hash})
        self.transcripts.open(folder)
        asked = [self.prompt.messages(item) for item in items]
        requests = [digest(identity | {"messages": messages}) for messages in asked]
        missing = {key: i for i, key in enumerate(requests) if self.transcripts.answer(key) is None}
        if missing and not self.transcripts.online:
            raise EvaluationError(
                f"Judge {self.id} has {len(missing)} of {len(items)} items without a recorded transcript and may not be asked.",
                remedy="Evaluate online once, or restore the transcripts.",
            )
        places = list(missing.values())
        done = 0
        for portion in self.chat.complete([asked[i] for i in places]) if places else ():
            rows = [self._row(requests[places[i]], asked[places[i]], completion) for i, completion in portion]
            self.transcripts.add(folder, rows)
            done += len(rows)
            if progress is not None:
                progress(done, len(places))
        verdicts = [self._verdict(item, request) for item, request in zip(items, requests, strict=True)]
        return Judged(verdicts, self.transcripts.table(requests), len(places))

    def _verdict(self, item: JudgeItem, request: str) -> ItemVerdict:
        # The raw answer is kept and read anew each time, so a better reader needs no new exchange.
        answer = self.transcripts.answer(request)
        assert answer is not None, "every item was asked"
        try:
            criteria, reason = self.prompt.read(answer)
        except Unreadable as error:
            return ItemVerdict(item.item_id, None, problem=str(error), request=request)
        return ItemVerdict(item.item_id, sum(criteria.values()) / len(criteria), criteria, reason, request=request)

    def _row(self, request: str, messages: Messages, completion: Completion) -> dict[str, Any]:
        return {
            "request": request,
            "judge": self.id,
            "model": completion.model,
            "prompt": canonical_json([dict(m) for m in messages]).decode(),
            "answer": completion.text,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "asked_at": completion.asked_at,
            "seconds": completion.seconds,
        }
