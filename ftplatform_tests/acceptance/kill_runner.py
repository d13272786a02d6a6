"""Child of `test_kill`: imports everything, then forks a run of a project for every line on standard input.

Each line is a number of milliseconds after which a forked run of what hangs on the changed source, training, evaluation and release
included, is killed with SIGKILL; "finish" for such a run left alone; or "everything" for a run of the whole project. Importing once
and forking makes a hundred kills cost what a hundred half runs cost.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import dagster as dg

from ftplatform.defs import running
from ftplatform_tests.projects import plan_of

CHANGED = 'key:"raw/tickets"+'


def run(project: str, selection: str | None) -> int:
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(Path(project)), instance, selection)
    for step, error in outcome.errors.items():
        print(f"{step}: {error}", file=sys.stderr, flush=True)
    return 0 if outcome.success else 3


def main() -> None:
    project = sys.argv[1]
    # What a run imports lazily is imported before forking, so that the kills fall into work and not into imports. Nothing is computed
    # here: threads of a numerics library would not survive the fork.
    for module in (
        "polars",
        "pandera.polars",
        "pyarrow.parquet",
        "scipy.stats",
        "sklearn.linear_model",
        "license_expression",
        "torch",
        "transformers",
        "peft",
        "botocore.session",
        "ftplatform.training.train",
        "ftplatform.evaluation.generation",
    ):
        __import__(module)
    for line in sys.stdin:
        order = line.strip()
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            code = 4
            try:
                code = run(project, None if order == "everything" else CHANGED)
            finally:
                os._exit(code)
        ended, status = 0, 0
        if order.isdigit():
            while not ended and time.monotonic() < started + int(order) / 1000:
                time.sleep(0.002)
                ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                os.kill(pid, signal.SIGKILL)
        if not ended:
            _, status = os.waitpid(pid, 0)
        answer = {
            "killed": os.WIFSIGNALED(status),
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
