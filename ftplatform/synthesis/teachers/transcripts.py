"""What a model wrote, kept: a run that is repeated, or that broke off, asks for nothing twice and needs no model to be replayed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ftplatform.canonical import digest
from ftplatform.synthesis.teachers.interface import TeacherError
from ftplatform.synthesis.teachers.prompting import Complete, Messages

#: Answers between two writes to the file.
_PORTION = 16
_LONGEST_LINE = 4 << 20


class RecordedModel:
    """See `prompting.Complete`: answers from a file of transcripts, and asks the model for what is not there.

    Args:
        path: JSON Lines, one ``{"request": sha256, "text": ...}`` each; made if missing, only ever appended to.
        model: None replays only.
        settings: of the model; part of what makes two requests the same.

    Raises:
        TeacherError: if the file holds something else. A last line that was cut off by a crash is left out.
    """

    def __init__(self, path: Path, model: Complete | None, settings: Mapping[str, Any]) -> None:
        self._path, self._model, self._settings = path, model, dict(settings)
        self._texts = _read(path) if path.exists() else {}

    def __call__(self, conversations: Sequence[Messages], seeds: Sequence[int]) -> list[str]:
        """Texts in order.

        Raises:
            TeacherError: on replay, if a request is not recorded.
        """
        keys = [
            digest({"settings": self._settings, "messages": [dict(m) for m in messages], "seed": seed})
            for messages, seed in zip(conversations, seeds, strict=True)
        ]
        missing = list({key: i for i, key in enumerate(keys) if key not in self._texts}.values())
        if missing and self._model is None:
            raise TeacherError(
                f"{len(missing)} of {len(keys)} requests are not among the transcripts of {self._path.name}.",
                remedy="Record them with the model, or use the seeds, prompt and settings they were recorded with.",
            )
        for start in range(0, len(missing), _PORTION):
            portion = missing[start : start + _PORTION]
            assert self._model is not None
            texts = self._model([conversations[i] for i in portion], [seeds[i] for i in portion])
            self._keep({keys[i]: text for i, text in zip(portion, texts, strict=True)})
        return [self._texts[key] for key in keys]

    def _keep(self, texts: Mapping[str, str]) -> None:
        lines = b"".join(orjson.dumps({"request": key, "text": text}) + b"\n" for key, text in texts.items())
        with self._path.open("ab") as file:
            # A crash may have left half a line; what follows must not be glued to it.
            if file.tell() and not _ends_line(self._path):
                file.write(b"\n")
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._texts |= texts


def _read(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            if not line.strip():
                continue
            try:
                record = orjson.loads(line)
                texts[str(record["request"])] = str(record["text"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                if not line.endswith(b"\n") or _cut_off(line):
                    continue
                raise TeacherError(f"Line {number} of {path.name} is no transcript.", remedy="Restore the file.") from None
    return texts


def _cut_off(line: bytes) -> bool:
    return line.startswith(b'{"request":') and not line.rstrip().endswith(b"}")


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
