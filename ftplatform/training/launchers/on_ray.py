"""Training as a task of a Ray cluster (optional extra `ray`).

The task starts the trainer as a child of Ray's worker, so that it computes in the environment `subprocess` gives it. When the worker
is killed, the lifeline ends the trainer too.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

from ftplatform.engine.on_ray import RayExecutor
from ftplatform.errors import FtplatformError, TrainingError
from ftplatform.training.launchers.events import Event, error_event
from ftplatform.training.launchers.processes import child_events
from ftplatform.training.launchers.run import RayOptions, Run


def ray_events(run: Run, options: RayOptions) -> Generator[Event, None, None]:
    """Events of `run` on a machine of the cluster, as they come; closing the generator ends the task.

    Raises:
        ExecutorUnavailable: Ray is not installed, or no cluster answers.
        TrainingError: the cluster has no machine up that is large enough for the task, or the task died.
    """
    manifest = run.manifest
    cpus = options.cpus or manifest.threads * manifest.world
    wanted: dict[str, Any] = {
        "num_cpus": cpus,
        "num_gpus": options.gpus if options.gpus is not None else manifest.world if manifest.device == "cuda" else 0,
        "memory": options.memory_bytes,
        "resources": dict(options.resources),
        # A half-trained adapter is not repeated behind the caller's back; the caller's own retry goes on from its checkpoints.
        "max_retries": 0,
    }
    with closing(RayExecutor(options.address, workers=max(1, round(cpus)))):
        import ray
        import ray.exceptions

        _require_capacity(ray, wanted)
        task: Any = ray.remote(_on_worker).options(num_returns="streaming", **wanted)
        handles = task.remote(run, options.timeout_seconds)
        try:
            for handle in handles:
                yield ray.get(handle)
        except ray.exceptions.RayError as problem:
            raise TrainingError(
                f"the Ray task ended without a result: {type(problem).__name__}",
                remedy="Mostly its machine was lost or out of memory: look at the cluster's logs, and run again.",
            ) from problem
        finally:
            # The worker is killed: asked politely, it would not hear it while it waits for the trainer. The trainer follows it.
            ray.cancel(handles, force=True)


def _on_worker(run: Run, timeout_seconds: float | None) -> Generator[Event, None, None]:
    try:
        yield from child_events(run, under_torchrun=run.manifest.world > 1, timeout_seconds=timeout_seconds)
    except FtplatformError as error:
        yield error_event(error)


def _require_capacity(ray: Any, wanted: dict[str, Any]) -> None:
    """Ray would wait for ever for a machine that does not exist."""
    needed = {"CPU": wanted["num_cpus"], "GPU": wanted["num_gpus"], "memory": wanted["memory"] or 0, **wanted["resources"]}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
        listed = ", ".join(f"{amount:g} {name}" for name, amount in needed.items() if amount)
        raise TrainingError(f"no machine of the Ray cluster has {listed}", remedy="Ask for less, or add such a machine.")
