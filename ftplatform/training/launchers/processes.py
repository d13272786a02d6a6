"""Training in child processes of this machine: one, or as many as the manifest's `world` under torchrun.

A process of its own gives back all memory when it ends, can be killed without taking the caller along, and fixes environment
variables that libraries read at start. However the caller leaves (result, error, timeout, Ctrl-C, Dagster's termination, its own
death), no child outlives it: see `lifeline`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO

from ftplatform.errors import TrainingError
from ftplatform.training.launchers import torchrun
from ftplatform.training.launchers.events import Event, event_of
from ftplatform.training.launchers.lifeline import lifeline
from ftplatform.training.launchers.run import Run

#: Seconds a child gets to end after SIGTERM, and output to arrive after the end.
_GRACE = 10.0
#: Seconds between looks at a child that says nothing.
_LOOK = 0.5
_LOG_LINES = 60
#: How torchrun tells that one of its processes died of a signal.
_WORKER_DIED = re.compile(r"exitcode\s*:\s*-(\d+)")


def child_events(
    run: Run,
    *,
    under_torchrun: bool = False,
    timeout_seconds: float | None = None,
    module: str = "ftplatform.training",
    environment: Mapping[str, str] | None = None,
) -> Generator[Event, None, None]:
    """Events of `run` in child processes, as they come; closing the generator ends the children.

    Args:
        under_torchrun: start `manifest.world` processes by torchrun; otherwise one.
        module: what the child executes; it takes the arguments of `ftplatform.training.__main__`.
        environment: further variables of the child.

    Raises:
        TrainingError: the children died without saying why (with their last words), or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="ftplatform-training-") as name:
        folder = Path(name)
        request, pipe, scratch = folder / "manifest.json", folder / "lifeline", folder / "tmp"
        request.write_text(json.dumps(run.manifest.to_record()), encoding="utf-8")
        scratch.mkdir()
        arguments = [str(request), str(run.out), f"--lifeline={pipe}", f"--save-every={run.save_every}"]
        if run.work is not None:
            arguments.append(f"--work={run.work}")
        variables = {
            **os.environ,
            **(environment or {}),
            "OMP_NUM_THREADS": str(run.manifest.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # What a killed child leaves there goes with our folder.
            "TMPDIR": str(scratch),
        }
        command = [sys.executable, "-m", module, *arguments]
        if under_torchrun:
            command = torchrun.command(module, arguments, run.manifest.world, folder)
            variables |= torchrun.VARIABLES
        with lifeline(pipe) as cut:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=variables,
                # Ctrl-C in a terminal reaches the caller only, who then ends the child.
                start_new_session=True,
            )
            yield from _Output(child, cut, timeout_seconds).events()


class _Output:
    """Both streams of a child, read by threads, so that the caller can be interrupted and keep an eye on the time."""

    def __init__(self, child: subprocess.Popen[str], cut: Callable[[], None], timeout_seconds: float | None) -> None:
        self._child, self._cut, self._timeout = child, cut, timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        assert child.stdout is not None
        assert child.stderr is not None
        self._streams = child.stdout, child.stderr
        self._readers = [
            Thread(target=self._read_events, args=(child.stdout,), daemon=True),
            Thread(target=self._log.extend, args=(child.stderr,), daemon=True),
        ]

    def events(self) -> Generator[Event, None, None]:
        last: Event = {}
        for reader in self._readers:
            reader.start()
        try:
            while (line := self._next_line()) is not None:
                if (event := event_of(line)) is not None:
                    last = event
                    yield event
            code = self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            self._end()
        if not {"result", "error"} & last.keys():
            raise TrainingError(
                f"the training process {self._manner(code)}: {self._last_words()}",
                remedy="Signal 9 is mostly a lack of memory: lower batch_size or raise micro_batches, then run again.",
            )

    def _next_line(self) -> str | None:
        ended: float | None = None
        while True:
            now = time.monotonic()
            if self._deadline is not None and now > self._deadline:
                raise TrainingError(
                    f"training took longer than {self._timeout:g} seconds and was ended",
                    remedy="Raise timeout_seconds, or train fewer steps.",
                )
            if ended is None and self._child.poll() is not None:
                # Its own children may hold the stream and go on talking: torchrun's workers when torchrun was killed.
                self._cut()
                ended = now
            with suppress(Empty):
                return self._lines.get(timeout=_LOOK)
            if ended is not None and now - ended > _GRACE:
                return None

    def _read_events(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            self._child.terminate()
        self._cut()
        try:
            self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for reader, stream in zip(self._readers, self._streams, strict=True):
            reader.join(_GRACE)
            if not reader.is_alive():
                stream.close()

    def _manner(self, code: int | None) -> str:
        if code is not None and code < 0:
            return f"was killed by signal {-code}"
        # By signal 15 torchrun ends the others when one has died.
        if died := [number for number in _WORKER_DIED.findall("".join(self._log)) if number != "15"]:
            return f"was killed by signal {died[0]}"
        return f"ended with exit code {code}" if code is not None else "closed its output and did not end"

    def _last_words(self) -> str:
        return " | ".join(line.strip() for line in self._log if line.strip())[-2000:] or "no output"
