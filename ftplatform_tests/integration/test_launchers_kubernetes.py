"""Training as a Kubernetes Job: over real HTTP to an API server of the tests, real S3 in between, the pod a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ftplatform.errors import CorruptArtifact, TrainingError
from ftplatform.training.launchers import KubernetesOptions, launch
from ftplatform.training.launchers.kubernetes import render_job
from ftplatform.training.launchers.kubernetes_api import KubernetesApi
from ftplatform.training.manifest import LoraSettings, TrainingManifest
from ftplatform_tests.kubernetes_api import TOKEN, Cluster, kubernetes_api
from ftplatform_tests.s3 import BUCKET, S3Server
from ftplatform_tests.unit.training.conftest import base_model, conversations, manifest_of

__all__ = ["base_model", "conversations", "manifest_of"]

Rows = list[list[dict[str, Any]]]
Build = Callable[..., TrainingManifest]
IMAGE = "registry.example/ftplatform@sha256:" + "0" * 64


@pytest.fixture
def cluster(tmp_path: Path, s3_server: S3Server) -> Iterator[Cluster]:
    credentials = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    with kubernetes_api(tmp_path / "cluster", {"store-credentials": credentials}) as running:
        yield running


@pytest.fixture
def options(cluster: Cluster, s3_server: S3Server, prefix: str, tmp_path: Path) -> KubernetesOptions:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    return KubernetesOptions(
        image=IMAGE,
        handover_url=f"s3://{BUCKET}/{prefix}",
        endpoint_url=s3_server.url,
        region="us-east-1",
        namespace="training",
        secret="store-credentials",
        timeout_seconds=300,
        client=KubernetesApi(cluster.url, token_file=token),
    )


def kept(s3_server: S3Server, prefix: str) -> list[str]:
    listed = s3_server.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/")
    return [entry["Key"].removeprefix(f"{prefix}/") for entry in listed.get("Contents", ())]


def pods() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ftplatform.training.launchers.pod" in (p.info["cmdline"] or ())]


def test_a_job_gives_the_bytes_a_process_here_gives(
    manifest_of: Build,
    conversations: Rows,
    options: KubernetesOptions,
    cluster: Cluster,
    s3_server: S3Server,
    prefix: str,
    tmp_path: Path,
) -> None:
    manifest = manifest_of(conversations)
    steps: list[int] = []
    found = launch(
        manifest, tmp_path / "job", launcher="kubernetes", options=options, progress=lambda step, _loss: steps.append(step)
    )
    here = launch(manifest, tmp_path / "here", launcher="subprocess")
    assert (found.adapter_sha256, found.manifest_sha256) == (here.adapter_sha256, here.manifest_sha256)
    assert {p.name: p.read_bytes() for p in found.folder.iterdir()} == {p.name: p.read_bytes() for p in here.folder.iterdir()}
    assert steps == [1, 2, 3, 4, 5, 6]
    # The job is gone, and so are its documents; blobs stay for the next run.
    assert cluster.deleted == list(cluster.jobs)
    assert {key.split("/")[0] for key in kept(s3_server, prefix)} == {"blobs", "format.json"}
    (job,) = cluster.jobs.values()
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], TOKEN]
    assert not any(f'"{secret}"' in json.dumps(job) for secret in secrets)


def test_errors_deadlines_and_refusals(
    manifest_of: Build,
    conversations: Rows,
    options: KubernetesOptions,
    cluster: Cluster,
    s3_server: S3Server,
    prefix: str,
    tmp_path: Path,
) -> None:
    def refused(message: str, manifest: TrainingManifest, given: KubernetesOptions) -> TrainingError:
        with pytest.raises(TrainingError, match=message) as caught:
            launch(manifest, tmp_path / "out" / "adapter", launcher="kubernetes", options=given)
        assert list((tmp_path / "out").iterdir()) == []
        assert not any(key.startswith("runs/") for key in kept(s3_server, prefix))
        assert pods() == []
        return caught.value

    misfit = manifest_of(conversations, lora=LoraSettings(target_modules=("no_such_module",)))
    assert "target_modules" in refused("no adapter fits tarnwell-base-1m", misfit, options).remedy
    long = manifest_of(conversations, steps=4000)
    assert "timeout_seconds" in refused("DeadlineExceeded", long, replace(options, timeout_seconds=2)).remedy
    refused("401 Unauthorized", long, replace(options, client=KubernetesApi(cluster.url)))
    refused("does not answer", long, replace(options, client=KubernetesApi("http://127.0.0.1:9")))
    job = render_job(long, options, "ftplatform-train-x")
    del job["spec"]["template"]["spec"]["containers"][0]["name"]
    assert options.client is not None
    with pytest.raises(TrainingError, match=r"422 .*name"):
        options.client.create(job)
    with pytest.raises(TrainingError, match="unencrypted"):
        KubernetesApi("http://kubernetes.example")
    with pytest.raises(TrainingError, match="no Kubernetes cluster around"):
        launch(long, tmp_path / "out" / "adapter", launcher="kubernetes", options=replace(options, client=None))


def test_an_interrupted_caller_removes_the_job(
    manifest_of: Build, conversations: Rows, options: KubernetesOptions, cluster: Cluster, tmp_path: Path
) -> None:
    def interrupt(step: int, loss: float) -> None:
        assert len(pods()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(
            manifest_of(conversations, steps=4000),
            tmp_path / "out" / "a",
            launcher="kubernetes",
            options=options,
            progress=interrupt,
        )
    assert cluster.deleted == list(cluster.jobs) != []
    assert pods() == []


def test_what_comes_back_is_not_believed(
    manifest_of: Build, conversations: Rows, options: KubernetesOptions, s3_server: S3Server, prefix: str, tmp_path: Path
) -> None:
    """Somebody who may write to the handover exchanges the weights on their way back."""
    manifest = manifest_of(conversations, steps=3)
    other = launch(manifest_of(conversations[::-1], steps=3), tmp_path / "other")
    s3_server.client.upload_file(str(other.folder / "adapter_model.safetensors"), BUCKET, f"{prefix}/blobs/{other.adapter_sha256}")
    swapped = {"adapter_model.safetensors": other.adapter_sha256}

    class Swapping(KubernetesApi):
        def state(self, namespace: str, name: str) -> Any:
            found = super().state(namespace, name)
            if found.phase != "running":
                key = f"{prefix}/runs/{name}/answer.json"
                answer = json.loads(s3_server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
                answer["files"].update(swapped)
                s3_server.client.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(answer).encode())
            return found

    assert isinstance(options.client, KubernetesApi)
    given = replace(options, client=Swapping(options.client._url, token_file=options.client._token_file))
    with pytest.raises(CorruptArtifact, match="another run's adapter"):
        launch(manifest, tmp_path / "out" / "a", launcher="kubernetes", options=given)
    swapped = {"../../escaped": other.adapter_sha256}
    with pytest.raises(CorruptArtifact, match="is no file of a handover"):
        launch(manifest, tmp_path / "out" / "a", launcher="kubernetes", options=given)
    assert list((tmp_path / "out").iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))
