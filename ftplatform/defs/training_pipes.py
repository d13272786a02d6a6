"""Launchers inside a Dagster run: `pipes`, whose child process writes to the run's log while it trains.

Dagster's own `PipesSubprocessClient` waits for its child without a time limit, ends it on Dagster's interrupt only, and gives up on a
child that does not end within its patience. So the session is Dagster's, and the processes are started and ended by the launchers
(`training.launchers.processes`), under torchrun if the manifest asks for several.
"""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ftplatform.project.models import Adapter, RayTask

if TYPE_CHECKING:
    from ftplatform.training.launchers import LauncherName, LaunchFunction, Options, ProcessOptions
    from ftplatform.training.launchers.run import Report
    from ftplatform.training.manifest import TrainingManifest
    from ftplatform.training.train import Progress, TrainingResult

#: What the child executes.
CHILD = "ftplatform.defs.training_child"


def launcher_of(context: dg.AssetExecutionContext | dg.OpExecutionContext, adapter: Adapter) -> "LaunchFunction":
    """The launcher an adapter declares, with its settings."""
    from ftplatform.training.launchers import KubernetesOptions, ProcessOptions, RayOptions

    limit: dict[str, Any] = {} if adapter.timeout_seconds is None else {"timeout_seconds": adapter.timeout_seconds}
    options: Options | None = None
    if adapter.launcher == "kubernetes" and adapter.kubernetes is not None:
        seconds = {name: math.ceil(value) for name, value in limit.items()}
        options = KubernetesOptions(**adapter.kubernetes.model_dump(), **seconds)
    elif adapter.launcher == "ray":
        options = RayOptions(**(adapter.ray or RayTask()).model_dump(), **limit)
    elif limit:
        options = ProcessOptions(**limit)
    return launcher_in_run(context, adapter.launcher, options)


def launcher_in_run(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, name: "LauncherName", options: "Options | None" = None
) -> "LaunchFunction":
    """The launcher called `name` for use inside a step of a run; `pipes` takes `ProcessOptions`.

    With `pipes`, metrics of the run become metadata of the step's output.
    """
    from ftplatform.training.launchers import ProcessOptions, launch

    if name != "pipes":
        return partial(launch, launcher=name, options=options)
    if not isinstance(options, ProcessOptions | None):
        raise TypeError(f"pipes takes ProcessOptions, not {type(options).__name__}")
    return partial(_launch_through_pipes, context, options or ProcessOptions())


def _launch_through_pipes(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    options: "ProcessOptions",
    manifest: "TrainingManifest",
    out: Path,
    *,
    progress: "Progress | None" = None,
    report: "Report | None" = None,
    work: Path | None = None,
    save_every: int = 100,
) -> "TrainingResult":
    from ftplatform.training.launchers import Run, launch_staged
    from ftplatform.training.launchers.processes import child_events
    from ftplatform.training.launchers.run import both

    run = Run(manifest=manifest, out=out, work=work, save_every=save_every)
    with dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()) as session:
        result = launch_staged(
            run,
            partial(
                child_events,
                under_torchrun=manifest.world > 1,
                timeout_seconds=options.timeout_seconds,
                module=CHILD,
                environment=session.get_bootstrap_env_vars(),
            ),
            both(progress, report),
        )
    for metrics in session.get_custom_messages():
        context.add_output_metadata({f"training_{name}": value for name, value in metrics.items() if value is not None})
    return result
