"""What every launcher gets: the run, and the options of where it happens."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ftplatform.errors import TrainingError
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.train import Progress, StepReport

if TYPE_CHECKING:
    from ftplatform.training.launchers.kubernetes import JobClient

#: Called after every step.
Report = Callable[[StepReport], None]

#: Amounts as Kubernetes writes them; its schemas take any text, and the scheduler does not.
_BYTES = re.compile(r"[1-9]\d*(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?")
_AMOUNTS = {"cpu": re.compile(r"[1-9]\d*(\.\d+|m)?|0\.\d*[1-9]\d*"), "memory": _BYTES, "scratch": _BYTES}
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of `train`, see there."""

    manifest: TrainingManifest
    out: Path
    work: Path | None = None
    save_every: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """For launchers that start processes on this machine.

    Attributes:
        timeout_seconds: the run is ended after this time.

    Raises:
        TrainingError: a time that is not positive.
    """

    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        _require_time(self.timeout_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """For a task of a Ray cluster that sees the manifest's files and the output folder under the same paths as this machine.

    Attributes:
        address: `host:port`, `ray://host:port` or `auto`; None starts a cluster on this machine.
        cpus, gpus: of the task; None takes a core per thread, and a GPU per process that trains on one.
        memory_bytes, resources: of the task, further resources by name.
        timeout_seconds: as `ProcessOptions`, from the start of the task; waiting for a free machine does not count.

    Raises:
        TrainingError: an amount that is not positive.
    """

    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    memory_bytes: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        _require_time(self.timeout_seconds)
        amounts = {"cpus": self.cpus, "memory_bytes": self.memory_bytes, **self.resources}
        if wrong := [name for name, amount in amounts.items() if amount is not None and not 0 < amount < math.inf]:
            raise TrainingError(f"a Ray task cannot have {amounts[wrong[0]]} of {wrong[0]}", remedy="Give a positive number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """For a Kubernetes Job, see `kubernetes.render_job`.

    Attributes:
        image: the platform's image by digest, ``registry/name@sha256:...``.
        handover_url: `s3://bucket/prefix` where inputs wait for the pod and its result for us.
        endpoint_url, region: of an S3-compatible server.
        namespace: of the job.
        secret: name of a secret whose keys become environment variables of the pod: the credentials of the store.
        cpu, memory, scratch: requests and limits of the pod, as Kubernetes writes them; scratch is disk space.
        gpus: None takes a GPU per process that trains on one.
        timeout_seconds: `activeDeadlineSeconds` of the job.
        retries: how often Kubernetes starts the pod again (`backoffLimit`).
        client: how jobs are submitted; None asks the API of the cluster this process runs in.

    Raises:
        TrainingError: an image that is not named by digest, or a value Kubernetes would not take.
    """

    image: str
    handover_url: str
    endpoint_url: str | None = None
    region: str | None = None
    namespace: str = "default"
    secret: str | None = None
    cpu: str = "4"
    memory: str = "16Gi"
    scratch: str = "20Gi"
    gpus: int | None = None
    timeout_seconds: int = 24 * 3600
    retries: int = 0
    client: JobClient | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _require_time(self.timeout_seconds)
        if not _IMAGE.fullmatch(self.image):
            raise TrainingError(
                f"the image {self.image!r} is not named by digest, so what runs could change",
                remedy="Write registry/name@sha256:<64 hexadecimal digits>.",
            )
        for name, value in {"namespace": self.namespace, "secret": self.secret}.items():
            if value is not None and not _NAME.fullmatch(value):
                raise TrainingError(f"{value!r} is no {name} of Kubernetes", remedy="Use lower-case letters, digits and hyphens.")
        for name, form in _AMOUNTS.items():
            if not form.fullmatch(value := getattr(self, name)):
                raise TrainingError(f"{value!r} is no amount of {name}", remedy="Write it as Kubernetes does: 4 or 500m, 16Gi.")
        if self.retries < 0 or (self.gpus is not None and self.gpus < 0):
            raise TrainingError("a job cannot have less than no GPUs or retries", remedy="Give numbers from 0.")


Options = ProcessOptions | RayOptions | KubernetesOptions


def both(progress: Progress | None, report: Report | None) -> Report | None:
    """One callback that calls both."""
    if progress is None:
        return report

    def tell(step: StepReport) -> None:
        progress(step.step, step.loss)
        if report is not None:
            report(step)

    return tell


def _require_time(seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise TrainingError(f"a run cannot end after {seconds} seconds", remedy="Give a positive number of seconds.")
