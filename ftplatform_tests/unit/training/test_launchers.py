"""How children are watched and ended, with a stand-in that imports no trainer; options; what a job's manifest says."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes_validate
import psutil
import pytest
import yaml

from ftplatform.defs.op_tags import GPU_OP_TAGS
from ftplatform.errors import CorruptArtifact, TrainingError, UnsafeModel
from ftplatform.training.launchers import KubernetesOptions, ProcessOptions, RayOptions, Run, launch, launch_staged
from ftplatform.training.launchers.events import error_event, event_of, follow, result_event, step_event
from ftplatform.training.launchers.kubernetes import GPU_RESOURCE, render_job
from ftplatform.training.launchers.processes import child_events
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.session import RefusalMarginLost
from ftplatform.training.throughput import Throughput
from ftplatform.training.train import StepReport, TrainingResult

STAND_IN = "ftplatform_tests.unit.training.stand_in"
IMAGE = "registry.example/ftplatform@sha256:" + "0" * 64

Rows = list[list[dict[str, Any]]]


@pytest.fixture
def manifest(manifest_of: Callable[..., TrainingManifest], conversations: Rows) -> TrainingManifest:
    return manifest_of(conversations)


def children(marker: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline", "status"])
    named = [p for p in found if any(str(marker) in part for part in p.info["cmdline"] or ())]
    return [p for p in named if p.info["status"] != psutil.STATUS_ZOMBIE and p.pid != os.getpid()]


@pytest.fixture(autouse=True)
def _no_orphans(tmp_path: Path) -> Iterator[None]:
    yield
    assert not psutil.wait_procs(children(tmp_path), timeout=15)[1]


def stand_in(manifest: TrainingManifest, out: Path, behavior: str, timeout_seconds: float | None = None, report: Any = None) -> Any:
    start = partial(child_events, module=STAND_IN, environment={"STAND_IN": behavior}, timeout_seconds=timeout_seconds)
    return launch_staged(Run(manifest=manifest, out=out), start, report)


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        ("silent", "ended with exit code 7: .*something unforeseen"),
        ("odd error", "it broke"),
        ("grandchild", "was killed by signal 9"),
    ],
)
def test_how_a_child_ended_is_told(manifest: TrainingManifest, tmp_path: Path, behavior: str, message: str) -> None:
    steps: list[StepReport] = []
    with pytest.raises(TrainingError, match=message):
        stand_in(manifest, tmp_path / "out" / "adapter", behavior, report=steps.append)
    assert {step.loss for step in steps} == {0.5}
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("behavior", ["wait", "stubborn", "talkative"])
def test_a_run_that_takes_too_long_is_ended(manifest: TrainingManifest, tmp_path: Path, behavior: str) -> None:
    started = time.monotonic()
    with pytest.raises(TrainingError, match="longer than 6 seconds") as caught:
        stand_in(manifest, tmp_path / "out" / "adapter", behavior, timeout_seconds=6)
    assert "timeout_seconds" in caught.value.remedy
    assert time.monotonic() - started < 30, "the stubborn child is killed by its lifeline, not waited for"
    assert list((tmp_path / "out").iterdir()) == []


def test_temporary_files_of_a_killed_child_go_too(
    manifest: TrainingManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def kill(step: StepReport) -> None:
        (child,) = children(tmp_path)
        assert list(temporary.glob("*/tmp/half-done"))
        os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match="was killed by signal 9: no output"):
        stand_in(manifest, tmp_path / "out" / "adapter", "wait", report=kill)
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_caller_ends_its_child(
    manifest: TrainingManifest, tmp_path: Path, interruption: type[BaseException]
) -> None:
    def interrupt(step: StepReport) -> None:
        raise interruption

    with pytest.raises(interruption):
        stand_in(manifest, tmp_path / "out" / "adapter", "stubborn", report=interrupt)
    assert children(tmp_path) == []
    assert list((tmp_path / "out").iterdir()) == []


_PARENT = f"""
import json, sys
from functools import partial
from pathlib import Path
from ftplatform.training.launchers import Run, launch_staged
from ftplatform.training.launchers.processes import child_events
from ftplatform.training.manifest import TrainingManifest
manifest = TrainingManifest.from_record(json.loads(Path(sys.argv[1]).read_text()))
start = partial(child_events, module={STAND_IN!r}, environment={{"STAND_IN": "stubborn"}})
launch_staged(Run(manifest=manifest, out=Path(sys.argv[2])), start, lambda step: print("up", flush=True))
"""


def test_a_killed_caller_takes_its_child_along(manifest: TrainingManifest, tmp_path: Path) -> None:
    request = tmp_path / "manifest.json"
    request.write_text(json.dumps(manifest.to_record()))
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(request), str(tmp_path / "adapter")], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        (child,) = [process for process in children(tmp_path) if process.pid != parent.pid]
        parent.kill()
        assert not psutil.wait_procs([child], timeout=15)[1]


def test_what_the_obvious_child_does_when_its_caller_is_killed(tmp_path: Path) -> None:
    """Without the lifeline: it goes on for ever."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        assert psutil.wait_procs([child], timeout=1)[1] == [child]
        child.kill()


def test_a_taken_folder_is_refused_before_anything_starts(manifest: TrainingManifest, tmp_path: Path) -> None:
    taken = tmp_path / "adapter"
    taken.mkdir()
    (taken / "precious").touch()
    for launcher in ("subprocess", "torchrun"):
        with pytest.raises(TrainingError, match="already holds something"):
            launch(manifest, taken, launcher=launcher)
    assert [path.name for path in taken.iterdir()] == ["precious"]


def test_events_survive_the_wire() -> None:
    speed = Throughput(steps=2, tokens=10, trained_tokens=5, padded_tokens=12, seconds=1.5, mfu=None)
    step = StepReport(step=2, steps=3, loss=1.25, throughput=speed, margin_ratio=0.5)
    result = TrainingResult(
        folder=Path("out"), adapter_sha256="a", manifest_sha256="b", losses=(1.5, 1.25), encoding={"rows": 1}, repro_class="bitwise",
        throughput=speed, stopped=None, resumed_from=0, notes=("n",), cpu_seconds=1.0, wall_seconds=2.0,
    )  # fmt: skip
    seen: list[StepReport] = []
    events = [step_event(step), result_event(result)]
    sent = [event_of(json.dumps(event)) for event in events]
    assert follow((event for event in sent if event is not None), seen.append) == result
    assert seen == [step]
    for line in ("", "Loading weights: 100%", "3", "[]", "{}", '{"step": 1, "loss": 2}', '{"other": {}}'):
        assert event_of(line) is None, line
    for error in (UnsafeModel("m", remedy="r"), TrainingError("m"), RefusalMarginLost("m", remedy="r"), CorruptArtifact("m")):
        with pytest.raises(type(error)) as caught:
            follow((event for event in [error_event(error)]), None)
        assert (type(caught.value), caught.value.message, caught.value.remedy) == (type(error), error.message, error.remedy)
    with pytest.raises(TrainingError, match="told no result"):
        follow((event for event in [step_event(step)]), None)


def test_options_that_mean_nothing_are_refused(manifest: TrainingManifest, tmp_path: Path) -> None:
    job = partial(KubernetesOptions, image=IMAGE, handover_url="s3://bucket/prefix")
    wrong: list[Callable[[], Any]] = [
        lambda: ProcessOptions(timeout_seconds=0),
        lambda: RayOptions(cpus=-1),
        lambda: RayOptions(resources={"tpu": 0}),
        lambda: job(image="registry.example/ftplatform:latest"),
        lambda: job(namespace="Team A"),
        lambda: job(secret="a/b"),
        lambda: job(memory="lots"),
        lambda: job(cpu="0"),
        lambda: job(retries=-1),
        lambda: launch(manifest, tmp_path / "a", launcher="in_process", options=ProcessOptions()),
        lambda: launch(manifest, tmp_path / "a", launcher="ray", options=ProcessOptions()),
        lambda: launch(manifest, tmp_path / "a", launcher="kubernetes"),
        lambda: launch(manifest, tmp_path / "a", launcher="pipes"),
        lambda: launch(manifest, tmp_path / "a", launcher="slurm"),  # pyright: ignore[reportArgumentType]
    ]
    for attempt in wrong:
        with pytest.raises(TrainingError) as caught:
            attempt()
        assert caught.value.remedy
    assert not (tmp_path / "a").exists()


def test_a_function_is_a_launcher(manifest: TrainingManifest, tmp_path: Path) -> None:
    asked: list[Any] = []

    def own(manifest: TrainingManifest, out: Path, **given: Any) -> TrainingResult:
        asked.append((manifest, out, given["save_every"]))
        raise TrainingError("not today")

    with pytest.raises(TrainingError, match="not today"):
        launch(manifest, tmp_path, launcher=own, save_every=7)
    assert asked == [(manifest, tmp_path, 7)]


# ---- the job of Kubernetes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_cluster() -> KubernetesOptions:
    return KubernetesOptions(
        image=IMAGE, handover_url="s3://ftplatform/handover", namespace="training", secret="ftplatform-store", region="eu-central-1",
        timeout_seconds=7200, retries=2,
    )  # fmt: skip


def test_the_job_is_valid_and_has_no_rights(manifest: TrainingManifest, in_cluster: KubernetesOptions) -> None:
    on_gpus = replace(manifest, device="cuda", world=4)
    for trained, gpus in ((manifest, None), (on_gpus, "4")):
        job = render_job(trained, in_cluster, "ftplatform-train-x")
        kubernetes_validate.validate(job, "1.33", strict=True)
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert re.search("@sha256:[0-9a-f]{64}$", container["image"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["resources"]["limits"].get(GPU_RESOURCE) == gpus
        assert [t["key"] for t in pod.get("tolerations", [])] == ([GPU_RESOURCE] if gpus else [])
        assert container["envFrom"] == [{"secretRef": {"name": "ftplatform-store"}}]
        assert [entry["name"] for entry in container["env"]] == ["HOME"]
        assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (2, 7200)
        assert f"--handover={in_cluster.handover_url}" in container["command"]
        assert job["metadata"]["annotations"]["ftplatform.io/manifest-sha256"] == trained.sha256()
    # The same resource as the steps of a run ask for.
    assert [*GPU_OP_TAGS["dagster-k8s/config"]["container_config"]["resources"]["limits"]] == [GPU_RESOURCE]  # pyright: ignore


@pytest.mark.parametrize(
    "spoil",
    [
        lambda job: job["spec"].update(backofLimit=1),
        lambda job: job["spec"].update(activeDeadlineSeconds="2h"),
        lambda job: job["spec"]["template"]["spec"].update(automountServiceAccountTokn=False),
        lambda job: job["spec"]["template"]["spec"]["containers"][0]["securityContext"].update(readOnlyRootFilesytem=True),
    ],
)
def test_the_schema_catches_mistakes(
    manifest: TrainingManifest, in_cluster: KubernetesOptions, spoil: Callable[[Any], None]
) -> None:
    job = render_job(manifest, in_cluster, "ftplatform-train-x")
    spoil(job)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.33", strict=True)


def test_what_the_cluster_needs_is_valid_and_grants_no_more(repository: Path) -> None:
    documents = list(yaml.safe_load_all((repository / "deploy" / "k8s" / "training" / "launcher.yaml").read_text()))
    for document in documents:
        kubernetes_validate.validate(document, "1.33", strict=True)
    (role,) = [document for document in documents if document["kind"] == "Role"]
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }
    # Every request `KubernetesApi` sends, and none besides.
    assert granted == {
        ("batch", "jobs", "create"), ("batch", "jobs", "get"), ("batch", "jobs", "delete"), ("", "pods", "list"), ("", "pods/log", "get"),
    }  # fmt: skip
    policies = [document for document in documents if document["kind"] == "NetworkPolicy"]
    labels = {"app.kubernetes.io/name": "ftplatform", "app.kubernetes.io/component": "training"}
    assert [policy["spec"]["podSelector"]["matchLabels"] for policy in policies] == [labels]
    assert policies[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies[0]["spec"], "nobody connects to a trainer"
