"""Where a training run happens. The same manifest, the same folder, the same bytes, whichever launcher.

A launcher is a name that `launch` knows, or a function with the arguments of `LaunchFunction` (`functools.partial(launch, ...)` is
one, and so is what the Dagster layer makes for Pipes).
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar, get_args

from ftplatform.errors import TrainingError
from ftplatform.training.launchers.events import Event, follow
from ftplatform.training.launchers.processes import child_events
from ftplatform.training.launchers.run import KubernetesOptions, Options, ProcessOptions, RayOptions, Report, Run, both
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.train import Progress, TrainingResult, train

#: `pipes` needs a Dagster run and is made by `ftplatform.defs.training_pipes`.
LauncherName = Literal["in_process", "subprocess", "pipes", "torchrun", "kubernetes", "ray"]


class LaunchFunction(Protocol):
    """A launcher as a function, see `launch`."""

    def __call__(
        self,
        manifest: TrainingManifest,
        out: Path,
        *,
        progress: Progress | None = None,
        report: Report | None = None,
        work: Path | None = None,
        save_every: int = 100,
    ) -> TrainingResult: ...


Launcher = LauncherName | LaunchFunction
_T = TypeVar("_T")


def launch(
    manifest: TrainingManifest,
    out: Path,
    *,
    launcher: Launcher = "in_process",
    options: Options | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
    work: Path | None = None,
    save_every: int = 100,
) -> TrainingResult:
    """`train(manifest, out)` where `launcher` says. However it ends, it leaves no process, and nothing beside `out` and `work`.

    Args:
        launcher: `in_process`; `subprocess`; `torchrun`, with `manifest.world` processes on this machine; `ray`; `kubernetes`; or a
            function, which gets all other arguments but `options`.
        options: `RayOptions`, `KubernetesOptions`, or `ProcessOptions` for the others; None takes the defaults, if there are any.
        progress, report, work, save_every: as for `train`. A pod of Kubernetes has no `work`.

    Raises:
        TrainingError, UnsafeModel: as `train`; also for a run that took too long, or whose process died (with its last words).
        FtplatformError: where it should happen cannot be reached.
    """
    if callable(launcher):
        return launcher(manifest, out, progress=progress, report=report, work=work, save_every=save_every)
    if launcher == "in_process":
        _fitting(launcher, options, type(None))
        return train(manifest, out, progress=progress, report=report, work=work, save_every=save_every)
    if launcher == "pipes":
        raise TrainingError(
            "the launcher pipes needs a Dagster run around it", remedy="Materialize the adapter, or take subprocess."
        )
    run = Run(manifest=manifest, out=out, work=work, save_every=save_every)
    tell = both(progress, report)
    if launcher == "kubernetes":
        from ftplatform.training.launchers.kubernetes import job_events

        in_cluster = _fitting(launcher, options, KubernetesOptions)
        return launch_staged(run, lambda staged: job_events(staged, in_cluster), tell)
    if launcher == "ray":
        from ftplatform.training.launchers.on_ray import ray_events

        on_ray = _fitting(launcher, options or RayOptions(), RayOptions)
        return launch_staged(run, lambda staged: ray_events(staged, on_ray), tell)
    if launcher not in ("subprocess", "torchrun"):
        raise TrainingError(f"there is no launcher {launcher!r}", remedy=f"Take one of {', '.join(get_args(LauncherName))}.")
    limit = _fitting(launcher, options or ProcessOptions(), ProcessOptions).timeout_seconds
    under_torchrun = launcher == "torchrun"
    return launch_staged(run, lambda staged: child_events(staged, under_torchrun=under_torchrun, timeout_seconds=limit), tell)


def launch_staged(run: Run, start: Callable[[Run], Generator[Event, None, None]], report: Report | None) -> TrainingResult:
    """Follows `start(run)`, where the folder of `run` is a hidden one that becomes `run.out` only after the run told its result."""
    with _staged(run.out) as folder:
        result = follow(start(replace(run, out=folder)), report)
        try:
            folder.rename(run.out)
        except OSError as error:
            raise TrainingError(f"{run.out} cannot be written ({error})", remedy="Give a new folder for every run.") from error
    return replace(result, folder=run.out)


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    if out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out} already holds something", remedy="Give a new folder for every run.")
    around = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex}"
    around.mkdir(parents=True)
    try:
        yield around / "adapter"
    finally:
        # A process that was killed left its unfinished folder in here too.
        shutil.rmtree(around, ignore_errors=True)


def _fitting(launcher: str, options: Options | None, kind: type[_T]) -> _T:
    if not isinstance(options, kind):
        raise TrainingError(
            f"the launcher {launcher} does not take {type(options).__name__}", remedy="See launchers.run for the options of each."
        )
    return options


__all__ = [
    "KubernetesOptions", "LaunchFunction", "Launcher", "LauncherName", "Options", "ProcessOptions", "RayOptions", "Run", "launch",
    "launch_staged",
]  # fmt: skip
