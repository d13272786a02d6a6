"""What model judges were asked and what they said, as a table: replayed instead of asked again, and nameable by a closure.

The key of an exchange is a digest of everything that was sent and to whom, so a changed criterion, answer, model or setting is
another exchange, and the same item under another id is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ftplatform.evaluation.recording import Recording
from ftplatform.store.backend import Backend

#: `prompt` holds the messages as RFC 8785 JSON, `model` the name the server itself gave, `asked_at` and `seconds` when and how long.
TRANSCRIPT_SCHEMA = pa.schema(
    [
        pa.field("request", pa.string(), nullable=False),
        pa.field("judge", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("asked_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)


class Transcripts:
    """Exchanges known so far.

    Args:
        backend: where they outlive this process; None keeps them in memory only.
        recorded: exchanges of earlier runs, for example the file a snapshot holds.
        online: False forbids new exchanges: whatever is not recorded is an error.
    """

    def __init__(self, backend: Backend | None = None, *, recorded: pa.Table | None = None, online: bool = True) -> None:
        self.online = online
        self._backend = backend
        self._known: dict[str, dict[str, Any]] = {}
        self._read: set[str] = set()
        if recorded is not None:
            self._remember(recorded.cast(TRANSCRIPT_SCHEMA).to_pylist())

    def open(self, folder: str) -> None:
        """Read what was recorded below ``transcripts/<folder>``, once."""
        if self._backend is not None and folder not in self._read:
            self._read.add(folder)
            self._remember(self._recording(self._backend, folder).read().to_pylist())

    def answer(self, request: str) -> str | None:
        """What was answered to a request; None if it was never made."""
        row = self._known.get(request)
        return None if row is None else row["answer"]

    def add(self, folder: str, rows: Sequence[dict[str, Any]]) -> None:
        """Keep finished exchanges, durably where there is a backend."""
        self._remember(rows)
        if self._backend is not None:
            self._recording(self._backend, folder).append(pa.Table.from_pylist(list(rows), schema=TRANSCRIPT_SCHEMA))

    def table(self, requests: Iterable[str]) -> pa.Table:
        """The exchanges with these keys, each once, sorted by key: the same whether they took place now or years ago."""
        return pa.Table.from_pylist([self._known[key] for key in sorted(set(requests))], schema=TRANSCRIPT_SCHEMA)

    def _remember(self, rows: Iterable[dict[str, Any]]) -> None:
        # Two processes may have asked the same at the same time; the earlier answer counts, in every later run alike.
        for row in rows:
            known = self._known.get(row["request"])
            if known is None or (row["asked_at"], row["answer"]) < (known["asked_at"], known["answer"]):
                self._known[row["request"]] = row

    @staticmethod
    def _recording(backend: Backend, folder: str) -> Recording:
        return Recording(backend, f"transcripts/{folder}", TRANSCRIPT_SCHEMA)
