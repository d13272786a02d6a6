"""The inside of a replay: `python -I -B drill_runner.py JOB` trains what a closure describes, with nothing but what JOB names.

Run as a file in a process of its own, never imported: the package it uses is the one unpacked from the closure, not the one this file
came with. Before that package is loaded, the network and other programs are put out of reach by an audit hook, which nothing in the
process can remove (PEP 578) and which sees calls below Python's `socket` module too.

Nothing is seeded here, and torch, which in older versions starts every process from a constant, is given entropy of the operating
system: a trainer that draws the adapter's weights before it seeds must not repeat by accident. Strings hash in another order in every
process started with -I.

Of the package it uses `training.train.train`, `TrainingManifest.from_record`, `describe_environment`, `tensors_digest` and
`merge_adapters`, which therefore have to keep their names and arguments: closures outlive the version that reads them.

Prints one JSON object a line: ``{"environment"}`` or ``{"unavailable"}``, ``{"loss"}`` after every step, then ``{"error"}`` or
``{"tensors"}``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

#: Nothing of a training run has to resolve a name, reach or offer an address, or start a program.
_NETWORK = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_NAMES = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"})
_PROGRAMS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"})


def deny_network_and_programs() -> None:
    """Refuse every address outside this machine's file system, every name look-up and every child process, from now on."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        outside = event in _NETWORK and arguments[0].family != getattr(socket, "AF_UNIX", None)
        if outside or event in _NAMES or event in _PROGRAMS:
            raise PermissionError(f"a replay may not use the network or start programs: {event} {arguments[1:] or arguments}")

    sys.addaudithook(refuse)


def load_package_from(code: str) -> None:
    """Import the package from `code`, whatever copy of it is installed; its modules then come from there as well."""
    sys.path.insert(0, code)
    file = import_module("ftplatform").__file__
    if not Path(file or "").resolve().is_relative_to(Path(code).resolve()):
        raise SystemExit(f"the package came from {file}, not from the closure")


def say(event: dict[str, Any]) -> None:
    """One event for the process that reads."""
    print(json.dumps(event), flush=True)


def main(job: dict[str, Any]) -> int:
    """Runs the training runs of a job, merges them if asked to, and returns the exit code."""
    deny_network_and_programs()
    load_package_from(job["code"])
    import torch

    if job["device"] == "cuda" and not torch.cuda.is_available():
        say({"unavailable": "the closure needs a GPU and this machine shows none"})
        return 0
    torch.seed()
    torch.set_num_threads(job["threads"])
    torch.use_deterministic_algorithms(job["deterministic"])
    # By name: these are modules of the version that made the closure, not of the one this file belongs to.
    training = {name: import_module(f"ftplatform.training.{name}") for name in ("train", "manifest", "environment", "tensors")}
    refused = import_module("ftplatform.errors").FtplatformError
    say({"environment": training["environment"].describe_environment(job["device"])})
    for run in job["runs"]:
        record = json.loads(Path(run["manifest"]).read_bytes())
        try:
            manifest = training["manifest"].TrainingManifest.from_record(record)
            training["train"].train(manifest, Path(run["out"]), progress=lambda _step, loss: say({"loss": loss}))
        except refused as error:
            say({"error": str(error)})
            return 2
    if job["merged"] is not None:
        Path(job["merged"]).mkdir(parents=True)
        folders = {run["name"]: Path(run["out"]) for run in job["runs"]}
        import_module("ftplatform.training.merge").merge_adapters(folders, Path(job["merged"]))
    digest = training["tensors"].tensors_digest
    say({"tensors": {name: digest(Path(path)) for name, path in job["weights"].items()}})
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(json.loads(Path(sys.argv[1]).read_bytes())))
