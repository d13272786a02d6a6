"""Training as a Kubernetes Job: inputs and result go through an object store (`handover`), steps through the pod's log."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ftplatform.errors import CorruptArtifact, TrainingError
from ftplatform.store.urls import open_backend
from ftplatform.training.base_model import file_sha256
from ftplatform.training.launchers import handover
from ftplatform.training.launchers.events import Event, event_of
from ftplatform.training.launchers.run import KubernetesOptions, Run
from ftplatform.training.lora import WEIGHTS_FILE
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.safetensors_guard import check_safetensors

#: What a pod asks for to get a GPU.
GPU_RESOURCE = "nvidia.com/gpu"
#: User and group of the platform's image (deploy/Dockerfile).
_USER = 10001
#: Seconds between looks at a job; Kubernetes keeps a finished one this long for people to look at.
_LOOK, _KEEP = 2.0, 3600


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands, and why, in Kubernetes' words."""

    phase: Literal["running", "succeeded", "failed"]
    reason: str = ""


class JobClient(Protocol):
    """What is needed of a Kubernetes API; `kubernetes_api.KubernetesApi` is one. Methods raise `TrainingError`."""

    def create(self, job: Mapping[str, Any]) -> None:
        """Submits a Job."""
        ...

    def log(self, namespace: str, name: str) -> Iterator[str]:
        """Lines of the newest pod of the job as they come, from the first one on; none while there is no log."""
        ...

    def state(self, namespace: str, name: str) -> JobState:
        """How the job stands."""
        ...

    def delete(self, namespace: str, name: str) -> None:
        """Removes the job and its pods; does nothing if there is none."""
        ...


def render_job(manifest: TrainingManifest, options: KubernetesOptions, name: str) -> dict[str, Any]:
    """The Job (batch/v1) that trains `manifest`, as the API takes it.

    The pod runs as a user without rights on a read-only file system, with no token of the cluster. Secrets are named, never
    contained. An error of the input (exit code 2) is not tried again.
    """
    gpus = options.gpus if options.gpus is not None else manifest.world if manifest.device == "cuda" else 0
    size = {"cpu": options.cpu, "memory": options.memory, "ephemeral-storage": options.scratch}
    if gpus:
        size[GPU_RESOURCE] = str(gpus)
    arguments = [name, f"--handover={options.handover_url}"]
    if options.endpoint_url is not None:
        arguments.append(f"--endpoint-url={options.endpoint_url}")
    if options.region is not None:
        arguments.append(f"--region={options.region}")
    labels = {"app.kubernetes.io/name": "ftplatform", "app.kubernetes.io/component": "training"}
    container: dict[str, Any] = {
        "name": "trainer",
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "ftplatform.training.launchers.pod", *arguments],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": size, "limits": size},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Processes of one run exchange gradients through /dev/shm; a container's own is 64 MiB.
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    if options.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": options.secret}}]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 15,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": options.scratch}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    if gpus:
        pod["tolerations"] = [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}]
    not_again = {"action": "FailJob", "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [2]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": options.namespace,
            "labels": labels,
            "annotations": {"ftplatform.io/manifest-sha256": manifest.sha256()},
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": options.retries,
            "activeDeadlineSeconds": options.timeout_seconds,
            "ttlSecondsAfterFinished": _KEEP,
            "podFailurePolicy": {"rules": [not_again]},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def job_name(manifest: TrainingManifest) -> str:
    """A new name for a job of this manifest."""
    return f"ftplatform-train-{manifest.sha256()[:12]}-{uuid.uuid4().hex[:8]}"


def job_events(run: Run, options: KubernetesOptions) -> Generator[Event, None, None]:
    """Events of `run` in a job, which is removed however this ends.

    Raises:
        TrainingError: the API refused, or the job failed without an answer (with Kubernetes' reason).
        StoreError: the handover cannot be reached, or gives other bytes back than were put in.
    """
    client = options.client if options.client is not None else _in_cluster()
    places = {"endpoint_url": options.endpoint_url, "region": options.region}
    backend = open_backend(options.handover_url, {name: value for name, value in places.items() if value is not None})
    name = job_name(run.manifest)
    files, moved = handover.files_of(run.manifest)
    handover.write_document(backend, name, "request", {"manifest": moved.to_record(), "files": handover.send(backend, files)})
    try:
        client.create(render_job(run.manifest, options, name))
        state, words = yield from _steps(client, options.namespace, name)
        answer = handover.read_document(backend, name, "answer")
        if answer is None:
            why = ": ".join(filter(None, (state.reason, words))) or "no reason given"
            raise TrainingError(
                f"the job {name} {state.phase} without an answer ({why})",
                remedy="DeadlineExceeded: raise timeout_seconds. Signal 9: raise memory. Otherwise look at the image and the cluster.",
            )
        if "result" in answer["event"]:
            handover.receive(backend, answer["files"], run.out)
            _require_the_run(answer["event"]["result"], run)
        yield answer["event"]
    finally:
        try:
            client.delete(options.namespace, name)
        finally:
            handover.forget(backend, name)


def _steps(client: JobClient, namespace: str, name: str) -> Generator[Event, None, tuple[JobState, str]]:
    """Every step once, in order; returns how the job ended and what its pod said last went wrong."""
    last, words = 0, ""
    while True:
        # Asked before the log is read: what is in a finished job's log will not change.
        state = client.state(namespace, name)
        for line in client.log(namespace, name):
            event = event_of(line) or {}
            if "step" in event and event["step"]["step"] > last:
                last = event["step"]["step"]
                yield event
            elif "error" in event:
                words = str(event["error"]["message"])
        if state.phase != "running":
            return state, words
        time.sleep(_LOOK)


def _require_the_run(result: Mapping[str, Any], run: Run) -> None:
    """What came back is checked like anything else that comes from elsewhere."""
    check_safetensors(run.out / WEIGHTS_FILE)
    if (result["manifest_sha256"], result["adapter_sha256"]) != (run.manifest.sha256(), file_sha256(run.out / WEIGHTS_FILE)):
        raise CorruptArtifact(
            "the job answered with another run's adapter", remedy="Find out who writes to the handover; run again."
        )


def _in_cluster() -> JobClient:
    from ftplatform.training.launchers.kubernetes_api import KubernetesApi

    return KubernetesApi.in_cluster()
