"""`python -m ftplatform.training.launchers.pod RUN --handover URL`: what the pod of a Kubernetes job executes.

Takes the run's inputs from the handover, trains in child processes, and leaves result and folder there. Steps and failures are lines
of standard output (`events`), and so of the pod's log. Exit code 0; 2 for an error that another try will not mend; 1 for others, after
which Kubernetes may start another pod.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from ftplatform.errors import FtplatformError
from ftplatform.store.backend import Backend
from ftplatform.store.urls import open_backend
from ftplatform.training.launchers.events import Event, error_event
from ftplatform.training.launchers.handover import located, read_document, receive, send, write_document
from ftplatform.training.launchers.processes import child_events
from ftplatform.training.launchers.run import Run
from ftplatform.training.manifest import TrainingManifest


def main(arguments: list[str]) -> int:
    """Executes the run the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m ftplatform.training.launchers.pod", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("run", help="name of the run")
    parser.add_argument("--handover", required=True, help="s3://bucket/prefix")
    parser.add_argument("--endpoint-url", help="of an S3-compatible server")
    parser.add_argument("--region", help="of the bucket")
    given = parser.parse_args(arguments)
    options = {"endpoint_url": given.endpoint_url, "region": given.region}
    try:
        backend = open_backend(given.handover, {name: value for name, value in options.items() if value is not None})
        return _execute(backend, given.run)
    except FtplatformError as error:
        print(json.dumps(error_event(error)), flush=True)
        return 1


def _execute(backend: Backend, name: str) -> int:
    request = read_document(backend, name, "request")
    if request is None:
        print(f"there is no request of {name} in {backend.url}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ftplatform-pod-") as scratch:
        inputs, out = Path(scratch) / "inputs", Path(scratch) / "adapter"
        receive(backend, request["files"], inputs)
        try:
            manifest = located(TrainingManifest.from_record(request["manifest"]), inputs)
        except FtplatformError as error:
            write_document(backend, name, "answer", {"event": error_event(error), "files": {}})
            return 2
        last: Event = {}
        with closing(child_events(Run(manifest=manifest, out=out), under_torchrun=manifest.world > 1)) as events:
            for event in events:
                last = event
                if "step" in event:
                    print(json.dumps(event), flush=True)
        finished = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()} if "result" in last else {}
        write_document(backend, name, "answer", {"event": last, "files": send(backend, finished)})
        return 0 if finished else 2


if __name__ == "__main__":
    # The first process of a container has no default action for signals, and Kubernetes would wait out its patience.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
