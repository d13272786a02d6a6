"""What a model was asked and what it wrote, kept as data: a run that is repeated, or that broke off, asks for nothing twice, and a
snapshot that holds the exchanges needs no model to be made again.

The key of an exchange is a digest of all that decides it (settings, messages, sampling seed). No times are kept, so that a replay gives
the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa

from ftplatform import progress
from ftplatform.canonical import digest
from ftplatform.synthesis.teachers.interface import TeacherError
from ftplatform.synthesis.teachers.prompting import Complete, Messages

#: `settings` and `messages` are JSON with sorted keys; `request` is the digest of both with `seed`.
TRANSCRIPT_SCHEMA = pa.schema(
    [
        pa.field("request", pa.string(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field("messages", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
#: Answers between two writes.
_PORTION = 16
_LONGEST_LINE = 4 << 20


class TranscriptLog(Protocol):
    """Where exchanges outlive this process; tables of `TRANSCRIPT_SCHEMA`."""

    def read(self) -> pa.Table:
        """All that was ever appended."""
        ...

    def append(self, rows: pa.Table) -> None:
        """Keep `rows`, durably, before this returns."""
        ...


class RecordedModel:
    """See `prompting.Complete`: answers from transcripts, and asks the model for what is not there.

    Args:
        model: None replays only.
        settings: of the model; part of what makes two requests the same. JSON values.
        log: where new exchanges are kept, and read from.
        recorded: exchanges that go before those of the log, such as the file of a snapshot.
        task: name under which progress is reported.
    """

    def __init__(
        self,
        model: Complete | None,
        settings: Mapping[str, Any],
        *,
        log: TranscriptLog | None = None,
        recorded: pa.Table | None = None,
        task: str = "ask the teacher",
    ) -> None:
        self._model, self._settings, self._log, self._task = model, dict(settings), log, task
        self._known: dict[str, dict[str, Any]] = {}
        self._used: set[str] = set()
        self._asked = 0
        for table in (recorded, log.read() if log is not None else None):
            if table is not None:
                # Two processes may have asked the same; whoever reads the log later must come to the same choice.
                for row in table.sort_by([("request", "ascending"), ("text", "ascending")]).to_pylist():
                    self._known.setdefault(row["request"], row)

    def __call__(self, conversations: Sequence[Messages], seeds: Sequence[int]) -> list[str]:
        """Texts in order.

        Raises:
            TeacherError: on replay, if a request is not recorded.
        """
        new = [exchange(self._settings, messages, seed) for messages, seed in zip(conversations, seeds, strict=True)]
        keys = [row["request"] for row in new]
        missing = list({key: i for i, key in enumerate(keys) if key not in self._known}.values())
        if missing and self._model is None:
            raise TeacherError(
                f"{len(missing)} of {len(keys)} requests are not among the transcripts.",
                remedy="Record them with the model, or use the seeds, prompt and settings they were recorded with.",
            )
        for start in range(0, len(missing), _PORTION):
            portion = missing[start : start + _PORTION]
            assert self._model is not None
            texts = self._model([conversations[i] for i in portion], [seeds[i] for i in portion])
            self._keep([{**new[i], "text": text} for i, text in zip(portion, texts, strict=True)])
            self._asked += len(portion)
            progress.advance(self._task, self._asked)
        self._used.update(keys)
        return [self._known[key]["text"] for key in keys]

    @property
    def used(self) -> pa.Table:
        """The exchanges asked for so far, recorded or new, each once, in the order of their keys."""
        return pa.Table.from_pylist([self._known[key] for key in sorted(self._used)], schema=TRANSCRIPT_SCHEMA)

    def _keep(self, rows: Sequence[dict[str, Any]]) -> None:
        if self._log is not None:
            self._log.append(pa.Table.from_pylist(list(rows), schema=TRANSCRIPT_SCHEMA))
        self._known |= {row["request"]: row for row in rows}


def exchange(settings: Mapping[str, Any], messages: Messages, seed: int) -> dict[str, Any]:
    """A row of `TRANSCRIPT_SCHEMA` without its text."""
    said = [dict(message) for message in messages]
    return {
        "request": digest({"settings": dict(settings), "messages": said, "seed": seed}),
        "settings": orjson.dumps(dict(settings), option=orjson.OPT_SORT_KEYS).decode(),
        "messages": orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode(),
        "seed": seed,
    }


def recorded_settings(transcripts: pa.Table, name: str) -> dict[str, Any]:
    """Settings of the one model that wrote all of `transcripts`.

    Raises:
        TeacherError: if there are none, or those of several models.
    """
    found = sorted(set(transcripts["settings"].to_pylist()))
    if len(found) != 1:
        raise TeacherError(
            f"{name} holds transcripts of {len(found)} models or settings; one is needed.", remedy="Give a file for each."
        )
    return orjson.loads(found[0])


class TranscriptFile:
    """A `TranscriptLog` in a file of JSON Lines: the columns of `TRANSCRIPT_SCHEMA` as keys. Made if missing, only appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> pa.Table:
        """All exchanges; a last line that was cut off by a crash is left out.

        Raises:
            TeacherError: naming the line that holds something else, or an exchange that does not hash to its key.
        """
        return pa.Table.from_pylist(list(self._lines()) if self._path.exists() else [], schema=TRANSCRIPT_SCHEMA)

    def append(self, rows: pa.Table) -> None:
        """See `TranscriptLog`."""
        lines = b"".join(orjson.dumps(row) + b"\n" for row in rows.to_pylist())
        with self._path.open("ab") as file:
            # A crash may have left half a line; what follows must not be glued to it.
            if file.tell() and not _ends_line(self._path):
                file.write(b"\n")
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterable[dict[str, Any]]:
        with self._path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                if not line.strip():
                    continue
                try:
                    yield _checked(orjson.loads(line))
                except (ValueError, KeyError, TypeError):  # orjson's error is a ValueError
                    if _cut_off(line):
                        continue
                    raise TeacherError(
                        f"Line {number} of {self._path.name} is no transcript.", remedy="Restore the file."
                    ) from None


def _checked(record: Any) -> dict[str, Any]:
    row = {name: record[name] for name in TRANSCRIPT_SCHEMA.names}
    known = exchange(orjson.loads(row["settings"]), orjson.loads(row["messages"]), row["seed"])
    if row["request"] != known["request"] or not isinstance(row["text"], str):
        raise ValueError("not what it says")
    return row


def _cut_off(line: bytes) -> bool:
    return line.startswith(b'{"request":') and not line.rstrip().endswith(b"}")


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
