"""A child as the launchers start it, without a trainer: `python -m ... MANIFEST OUT --lifeline=...` behaves as OUT is called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ftplatform.training.launchers.lifeline import hang_on

STEP = (
    '{"step": {"step": 1, "steps": 9, "loss": 0.5, "margin_ratio": null, "throughput":'
    ' {"steps": 1, "tokens": 8, "trained_tokens": 4, "padded_tokens": 8, "seconds": 1.0, "mfu": null}}}'
)


def main(out: Path, lifeline: Path) -> int:
    behavior = os.environ["STAND_IN"]
    hang_on(lifeline)
    (Path(os.environ["TMPDIR"]) / "half-done").touch()
    out.parent.joinpath(".half-done").touch()
    print("a library says something")
    print('{"note": 1}', "[1]", '"text"', sep="\n")
    print(STEP, flush=True)
    if behavior == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(STEP, flush=True)
    if behavior == "grandchild":
        # As torchrun's workers: in a session of its own, holding the pipes of its parent.
        command = [sys.executable, "-m", __spec__.name, *sys.argv[1:]]
        subprocess.Popen(command, env={**os.environ, "STAND_IN": "wait"}, start_new_session=True)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    if behavior == "silent":
        print("Traceback: something unforeseen", file=sys.stderr)
        return 7
    if behavior == "odd error":
        print('{"error": {"type": "NoSuchClass", "message": "it broke.", "remedy": "Mend it."}}', flush=True)
        return 2
    while behavior == "talkative":
        print(STEP, flush=True)
        time.sleep(0.01)
    time.sleep(600)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[2]), Path(sys.argv[3].removeprefix("--lifeline="))))
