"""`python -m ftplatform.training MANIFEST OUT`: one training run in this process, or this process' part of one.

Standard output gets one JSON object a line, see `launchers.events`; whatever libraries print goes to standard error. Exit code 0, or
2 for an error the input caused.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from ftplatform.errors import FtplatformError
from ftplatform.training.launchers.events import Event, error_event, result_event, step_event
from ftplatform.training.launchers.lifeline import hang_on
from ftplatform.training.launchers.run import Report
from ftplatform.training.launchers.torchrun import process_group
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.replica import Replica
from ftplatform.training.train import StepReport, train


def main(arguments: list[str], also: Report | None = None) -> int:
    """Runs what the command line says. In the first process every step is told, also to `also`."""
    parser = argparse.ArgumentParser(prog="python -m ftplatform.training", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifest", type=Path, help="JSON file with the manifest, locations included")
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--work", type=Path, help="folder for checkpoints of interrupted runs")
    parser.add_argument("--save-every", type=int, default=100, help="steps between such checkpoints (default: %(default)s)")
    parser.add_argument("--lifeline", type=Path, help="named pipe; the process ends when nobody holds its other end")
    parser.add_argument("--process-group", type=Path, help="file in which the processes of torchrun meet")
    given = parser.parse_args(arguments)
    if given.lifeline is not None:
        hang_on(given.lifeline)
    stream = _own_stdout()

    def tell(event: Event) -> None:
        # One write a line: several processes may share the pipe.
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    def report(step: StepReport) -> None:
        tell(step_event(step))
        if also is not None:
            also(step)

    try:
        manifest = TrainingManifest.from_record(json.loads(given.manifest.read_bytes()))
        group = nullcontext(Replica()) if given.process_group is None else process_group(given.process_group, manifest.device)
        with group as replica:
            result = train(
                manifest,
                given.out,
                report=report if replica.writes else None,
                work=given.work,
                save_every=given.save_every,
                replica=replica,
            )
            if replica.writes:
                tell(result_event(result))
    except FtplatformError as error:
        tell(error_event(error))
        return 2
    return 0


def _own_stdout() -> TextIO:
    """Standard output for us alone; from now on everybody else's goes to standard error."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(2, 1)
    return ours


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
