"""Train again what a closure describes, from the store alone, and compare.

Everything comes out of the adapter's snapshot and the base model it names: the code as it ran (unpacked from the closure's archive and
imported from there), the recipe with every setting resolved, the rows in their order, the base model's files. The run is a fresh
process without network (`drill_runner.py`), in an empty home, with the environment variables that the closure declares.

The interpreter and the installed packages are those of this machine; where they differ from the closure's, the replay says in which
fields. To replay on the recorded versions, install the closure's lock and replay there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO, Any

from ftplatform.canonical import sha256_hex
from ftplatform.closure.code_identity import unpack_tree
from ftplatform.closure.contents import (
    ADAPTER_FOLDER,
    CONFIG_FILE,
    LOSS_FILE,
    MODEL_FOLDER,
    RECIPE_FILE,
    TRAINING_FOLDER,
    WEIGHTS_FILE,
    base_model_of,
    contradictions,
    recipes,
    rows_file,
)
from ftplatform.closure.diff import Change
from ftplatform.closure.finding import CLOSURE_FILE
from ftplatform.closure.manifest import FOLDER
from ftplatform.closure.outcome import Comparison, Outcome, compare, environment_differences, same_configuration
from ftplatform.closure.packages import installed_packages
from ftplatform.errors import StoreError, StoreUnavailable
from ftplatform.store import Snapshot, Store

#: Called with (steps done, steps to do).
Progress = Callable[[int, int], None]

#: Where the trainer finds what else a recipe may name: key of its manifest, and what it is called beside the recipe in the snapshot.
_LOCATIONS = {
    "refusal_probes_path": "refusal_probes.parquet",
    "safe_probes_path": "safe_probes.parquet",
    "initial_adapter_folder": "initial_adapter",
}
#: Of the machine, not of the recipe: where the loader finds shared libraries and programs their temporary files.
_OF_THE_MACHINE = ("LD_LIBRARY_PATH", "SYSTEMROOT", "PATH")
_LOG_LINES = 40
#: Seconds a child gets to end after it was asked to.
_GRACE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay showed.

    Attributes:
        comparison: with the original run.
        machine: hardware class it ran on; empty if it never got that far.
        same_class: whether that is the closure's own class.
        losses, recorded: loss of every replayed step, and of the same steps of the original, in nats per trained token.
        differences: fields of the surroundings, or of the closure itself, in which the two sides differ.
        failed: a replay that was not tried is a failure of the closure, not of a machine that lacks a GPU.
        adapter: folder of the new adapter, None where only the first steps ran.
    """

    comparison: Comparison
    machine: str = ""
    same_class: bool = False
    losses: tuple[float, ...] = ()
    recorded: tuple[float, ...] = ()
    differences: tuple[Change, ...] = ()
    failed: bool = False
    adapter: Path | None = None


@dataclass(slots=True)
class _Events:
    """What the process said so far."""

    losses: list[float] = field(default_factory=list)
    environment: dict[str, Any] | None = None
    tensors: dict[str, str] | None = None
    problem: str | None = None
    unavailable: str | None = None


def replay(
    store: Store,
    adapter: Snapshot,
    workspace: Path,
    *,
    steps: int | None = None,
    seeds: Mapping[str, int] | None = None,
    variables: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Run the training of `adapter` again and compare it with what was recorded.

    Args:
        store: the only place anything is read from.
        workspace: empty folder; holds code, home and results afterwards, and belongs to the caller.
        steps: stop after this many optimizer steps. The recipe stays as it is, with the learning rates of the whole run, so the losses
            are comparable; None runs to the end and compares tensors.
        seeds: `data_order` and `adapter_init` in place of the closure's, for a replicate; its bytes cannot agree.
        variables: environment variables of this machine to add, for a machine whose kernels are to be chosen.
        progress: called after every step.

    Raises:
        StoreUnavailable: the store cannot be asked. What is gone or damaged in it is a replay that was not tried, and says so.
    """
    try:
        manifest = adapter.read_json(CLOSURE_FILE)
        if wrong := contradictions(manifest, adapter, store):
            reason = f"The closure contradicts what the store holds at {', '.join(change.path for change in wrong[:5])}."
            return _not_tried(reason, differences=wrong)
        world = max(int(adapter.read_json(f"{folder}/{RECIPE_FILE}").get("world", 1)) for folder in recipes(adapter).values())
        if world > 1:
            reason = f"It was trained by {world} processes that share every batch, and a replay is one process without network."
            return _not_tried(reason, failed=False)
        job, recorded = _lay_out(store, adapter, manifest, workspace, seeds or {})
    except StoreUnavailable:
        raise
    except StoreError as error:
        return _not_tried(str(error))
    total = len(recorded)
    wanted = min(steps, total) if steps else None
    environment = _environment(manifest, workspace, variables or {})
    events, end = _run(workspace, environment, wanted, lambda done: progress and progress(done, total))
    if events.unavailable:
        return _not_tried(events.unavailable, failed=False)
    if events.tensors is None if wanted is None else len(events.losses) < wanted:
        return _not_tried(f"After {len(events.losses)} of {wanted or total} steps: {events.problem or end}")
    assert events.environment is not None, "the process describes itself before its first step"
    machine = str(events.environment["capability_class"])
    installed = installed_packages()
    differences = environment_differences(manifest, events.environment, installed.versions, installed.python)
    made = Path(job["weights"]["replayed"]).parent if steps is None else None
    return Replay(
        comparison=compare(
            recorded, events.losses, same_bytes=None if made is None else _same_bytes(adapter, made, events, manifest)
        ),
        machine=machine,
        same_class=machine == manifest["runtime"]["capability_class"],
        losses=tuple(events.losses),
        recorded=tuple(recorded[: len(events.losses)]),
        differences=tuple(differences),
        adapter=made,
    )


def _not_tried(reason: str, *, differences: list[Change] | None = None, failed: bool = True) -> Replay:
    comparison = Comparison(outcome=Outcome.NOT_TRIED, steps=0, max_loss_difference=None, reason=reason)
    return Replay(comparison=comparison, differences=tuple(differences or ()), failed=failed)


def _lay_out(
    store: Store, adapter: Snapshot, manifest: Mapping[str, Any], workspace: Path, seeds: Mapping[str, int]
) -> tuple[dict[str, Any], list[float]]:
    """Write the code and the job; returns the job and the losses that were recorded, of all runs in their order."""
    unpack_tree(adapter.read_bytes(f"{FOLDER}/package.tar"), workspace / "code" / "ftplatform")
    for name in ("home", "tmp"):
        (workspace / name).mkdir()
    base = base_model_of(manifest, store).local_folder(MODEL_FOLDER)
    runs, losses, recipe = [], [], {}
    for name, folder in recipes(adapter).items():
        recipe = {**adapter.read_json(f"{folder}/{RECIPE_FILE}")}
        if seeds:
            own = int(sha256_hex(name.encode())[:8], 16) if name else 0  # shards of a replicate differ from each other as well
            recipe["optimization"] = {**recipe["optimization"], "seed": (seeds["data_order"] + own) % 2**31}
            recipe["adapter_seed"] = (seeds["adapter_init"] + own) % 2**31
        recipe |= {"base_folder": str(base), "rows_path": str(adapter.local_path(rows_file(folder)))}
        recipe |= _located(adapter, folder)
        path = workspace / f"recipe-{name or 'all'}.json"
        path.write_text(json.dumps(recipe))
        runs.append({"name": name, "manifest": str(path), "out": str(workspace / "runs" / (name or "all"))})
        losses += adapter.read_json(f"{folder}/{LOSS_FILE}")["loss"]
    merged = str(workspace / "merged") if adapter.facts.get("shards") else None
    job = {
        "code": str(workspace / "code"),
        "runs": runs,
        "merged": merged,
        "weights": {
            "recorded": str(adapter.local_path(f"{ADAPTER_FOLDER}/{WEIGHTS_FILE}")),
            "replayed": f"{merged or runs[0]['out']}/{WEIGHTS_FILE}",
        },
        **{key: recipe[key] for key in ("device", "threads", "deterministic")},
    }
    (workspace / "job.json").write_text(json.dumps(job))
    shutil.copyfile(Path(__file__).with_name("drill_runner.py"), workspace / "drill_runner.py")
    return job, losses


def _located(adapter: Snapshot, folder: str) -> dict[str, str]:
    """Where the files of `_LOCATIONS` are: beside the recipe of the run, or, what all shards share, beside that of the whole."""
    found = {}
    for key, name in _LOCATIONS.items():
        for place in (f"{folder}/{name}", f"{TRAINING_FOLDER}/{name}"):
            if any(file.path == place for file in adapter.files):
                found.setdefault(key, str(adapter.local_path(place)))
            elif any(file.path.startswith(f"{place}/") for file in adapter.files):
                found.setdefault(key, str(adapter.local_folder(place)))
    return found


def _environment(manifest: Mapping[str, Any], workspace: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Variables of the process: those the closure declares, and an empty home."""
    return {
        **{name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ},
        "HOME": str(workspace / "home"),
        "TMPDIR": str(workspace / "tmp"),
        "LC_ALL": "C.UTF-8",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **{str(name): str(value) for name, value in manifest["runtime"]["variables"].items()},
        **variables,
    }


def _run(workspace: Path, environment: Mapping[str, str], steps: int | None, done: Callable[[int], Any]) -> tuple[_Events, str]:
    """Start the process, read what it says, stop it after `steps`; returns that and how it ended."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", str(workspace / "drill_runner.py"), str(workspace / "job.json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=dict(environment),
        cwd=workspace,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    log: deque[str] = deque(maxlen=_LOG_LINES)
    reader = Thread(target=log.extend, args=(child.stderr,), daemon=True)
    reader.start()
    events = _Events()
    try:
        for line in child.stdout:
            _take(events, line)
            done(len(events.losses))
            if steps is not None and len(events.losses) >= steps:
                break
        else:
            child.wait()
    finally:
        _end(child)
        reader.join(_GRACE)
        _close(child.stdout, child.stderr)
    words = " | ".join(line.strip() for line in log if line.strip())[-1500:]
    how = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"ended with exit code {child.returncode}"
    return events, f"The process {how}: {words or 'no output'}"


def _take(events: _Events, line: str) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        return  # a library printed something
    match event:
        case {"loss": float(loss)}:
            events.losses.append(loss)
        case {"environment": dict(environment)}:
            events.environment = environment
        case {"tensors": dict(tensors)}:
            events.tensors = tensors
        case {"unavailable": str(reason)}:
            events.unavailable = f"{reason[0].upper()}{reason[1:]}."
        case {"error": str(problem)}:
            events.problem = problem


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _close(*streams: IO[str]) -> None:
    for stream in streams:
        stream.close()


def _same_bytes(adapter: Snapshot, made: Path, events: _Events, manifest: Mapping[str, Any]) -> bool:
    """Whether the new tensors are those the closure names, and the configuration says the same."""
    assert events.tensors is not None
    same_tensors = events.tensors["replayed"] == events.tensors["recorded"] == manifest["subject"]["tensors"]["digest"]
    before = adapter.read_bytes(f"{ADAPTER_FOLDER}/{CONFIG_FILE}")
    return same_tensors and same_configuration(before, (made / CONFIG_FILE).read_bytes())
