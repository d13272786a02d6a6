"""Child of `test_kill`: imports everything, then forks a run of a project for every line on standard input.

Each line is a number of milliseconds after which a forked run of the changed part is killed with SIGKILL, "finish" for such a run left
alone, or "everything" for a run of all data assets. Importing once and forking
makes a hundred kills cost what a hundred half runs cost.
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

EVERYTHING = 'not key:"adapters/*" and not key:"eval_results/*" and not key:"releases/*"'
CHANGED = 'key:"raw/tickets" or key:"corpora/one" or key:"splits/one"'


def run(project: str, selection: str) -> int:
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(Path(project)), instance, selection)
    return 0 if outcome.success else 3


def main() -> None:
    project = sys.argv[1]
    # What a run imports lazily is imported before forking, so that the kills fall into work and not into imports.
    for module in (
        "polars",
        "pandera.polars",
        "pyarrow.parquet",
        "datasketch",
        "scipy.stats",
        "sklearn.linear_model",
        "license_expression",
    ):
        __import__(module)
    for line in sys.stdin:
        order = line.strip()
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            code = 4
            try:
                code = run(project, EVERYTHING if order == "everything" else CHANGED)
            finally:
                os._exit(code)
        killed = False
        if order.isdigit():
            time.sleep(int(order) / 1000)
            os.kill(pid, signal.SIGKILL)
            killed = True
        _, status = os.waitpid(pid, 0)
        answer = {
            "killed": killed and os.WIFSIGNALED(status),
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
