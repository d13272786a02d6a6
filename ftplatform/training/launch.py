"""Where a training run happens: in this process, or in one of its own. The same manifest, the same folder, the same bytes.

A process of its own gives back all memory when it ends, can be killed without taking the caller along, and fixes environment
variables that libraries read at start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from threading import Thread
from typing import IO, Any, Literal

from ftplatform.errors import FtplatformError, TrainingError, UnsafeModel
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.train import Progress, TrainingResult, train

Launcher = Literal["in_process", "subprocess"]

#: Seconds a child gets to end after SIGTERM.
_GRACE = 10.0
_LOG_LINES = 40


def launch(
    manifest: TrainingManifest, out: Path, *, launcher: Launcher = "in_process", progress: Progress | None = None
) -> TrainingResult:
    """`train(manifest, out)` where `launcher` says.

    Raises:
        TrainingError, UnsafeModel: as `train`; a child that dies without saying why is a `TrainingError` with its last words.
    """
    if launcher == "in_process":
        return train(manifest, out, progress=progress)
    return _in_subprocess(manifest, out, progress)


def _in_subprocess(manifest: TrainingManifest, out: Path, progress: Progress | None) -> TrainingResult:
    with tempfile.TemporaryDirectory(prefix="ftplatform-training-") as folder:
        request = Path(folder) / "manifest.json"
        request.write_text(json.dumps(manifest.to_record()), encoding="utf-8")
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(manifest.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "ftplatform.training", str(request), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
        )
        assert child.stdout is not None
        assert child.stderr is not None
        log: deque[str] = deque(maxlen=_LOG_LINES)
        reader = Thread(target=_keep, args=(child.stderr, log), daemon=True)
        reader.start()
        try:
            last = _follow(child.stdout, progress)
            code = child.wait()
        finally:
            _end(child)
            reader.join(_GRACE)
            child.stdout.close()
            child.stderr.close()
    if "error" in last:
        raise _error(last["error"])
    if code != 0 or "result" not in last:
        words = " | ".join(line.strip() for line in log if line.strip())[-2000:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise TrainingError(f"the training process {how}: {words or 'no output'}", remedy="Signal 9 is mostly a lack of memory.")
    return _result(last["result"])


def _follow(stdout: IO[str], progress: Progress | None) -> dict[str, Any]:
    """Reads the child's events (one JSON object a line) to the end; returns the last one."""
    last: dict[str, Any] = {}
    for line in stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a library printed something
        if not isinstance(event, dict):
            continue
        if "step" in event:
            if progress is not None:
                progress(event["step"], event["loss"])
        else:
            last = event
    return last


def _keep(stream: IO[str], lines: deque[str]) -> None:
    for line in stream:
        lines.append(line)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _error(record: dict[str, str]) -> FtplatformError:
    kind = UnsafeModel if record["type"] == "UnsafeModel" else TrainingError
    return kind(record["message"], remedy=record["remedy"])


def _result(record: dict[str, Any]) -> TrainingResult:
    return TrainingResult(**{**record, "folder": Path(record["folder"]), "losses": tuple(record["losses"])})
