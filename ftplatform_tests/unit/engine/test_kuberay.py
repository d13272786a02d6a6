"""deploy/ray: by the schemas of Kubernetes, by the fields of KubeRay's API, and by the rules that make it safe to start."""

from __future__ import annotations

import copy
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from ftplatform.engine.__main__ import main
from ftplatform.engine.executors import RAY_ADDRESS
from ftplatform_tests.unit.engine.corpora import write_parts

_TEXT, _FLAG, _COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}


def _fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


#: Fields of `ray.io/v1` (API reference of KubeRay 1.6) that these files may use; pod templates go to Kubernetes' own schema.
_GROUP = {"rayStartParams": _TEXTS, "template": _fields(["spec"], metadata={"type": "object"}, spec={"type": "object"})}
_CLUSTER = _fields(
    ["headGroupSpec"],
    rayVersion=_TEXT,
    authOptions=_fields([], mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    enableInTreeAutoscaling=_FLAG,
    suspend=_FLAG,
    headGroupSpec=_fields(["template"], serviceType=_TEXT, enableIngress=_FLAG, **_GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": _fields(
            ["groupName", "template"],
            groupName=_TEXT,
            replicas=_COUNT,
            minReplicas=_COUNT,
            maxReplicas=_COUNT,
            numOfHosts=_COUNT,
            **_GROUP,
        ),
    },
)
_JOB = _fields(
    [],
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    clusterSelector=_TEXTS,
    entrypoint=_TEXT,
    entrypointNumCpus={"type": "number"},
    runtimeEnvYAML=_TEXT,
    activeDeadlineSeconds=_COUNT,
    backoffLimit=_COUNT,
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_COUNT,
    rayClusterSpec=_CLUSTER,
)
_SPECS = {"RayCluster": _CLUSTER, "RayJob": _JOB}


def validate(document: dict[str, Any]) -> None:
    """Raise unless the operator (its kinds) or Kubernetes (all others) takes it; misspelled fields are refused."""
    if document["kind"] not in _SPECS:
        kubernetes_validate.validate(document, "1.33", strict=True)
        return
    assert document["apiVersion"] == "ray.io/v1"
    jsonschema.validate(document["spec"], _SPECS[document["kind"]])
    for group in groups(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.33", strict=True)


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    spec = cluster["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]] if "headGroupSpec" in spec else []


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "deploy" / "ray"


@pytest.fixture(scope="module")
def documents(folder: Path) -> dict[str, dict[str, Any]]:
    loaded = [document for file in sorted(folder.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]
    return {document["kind"]: document for document in loaded}


def test_every_document_is_valid(documents: dict[str, dict[str, Any]]) -> None:
    assert set(documents) == {"PersistentVolumeClaim", "NetworkPolicy", "RayCluster", "RayJob"}
    for document in documents.values():
        validate(document)


def _container(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("RayCluster", lambda d: d["spec"].update(authOption={"mode": "token"})),
        ("RayCluster", lambda d: d["spec"]["authOptions"].update(mode="tokens")),
        ("RayCluster", lambda d: d["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0})),
        ("RayCluster", lambda d: _container(d).update(comand=["ray"])),
        ("RayCluster", lambda d: _container(d)["securityContext"].update(readOnlyRootFilesytem=True)),
        ("RayJob", lambda d: d["spec"].update(clusterSelektor={})),
        ("NetworkPolicy", lambda d: d["spec"].update(ingres=[])),
        ("PersistentVolumeClaim", lambda d: d["spec"].update(accessModes="ReadWriteMany")),
    ],
)
def test_the_schemas_catch_mistakes(documents: dict[str, dict[str, Any]], kind: str, spoil: Callable[[Any], None]) -> None:
    document = copy.deepcopy(documents[kind])
    spoil(document)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(document)


def test_nobody_is_root_and_resources_are_bounded(documents: dict[str, dict[str, Any]]) -> None:
    for group in groups(documents["RayCluster"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001  # the user of the image
        assert pod["automountServiceAccountToken"] is False
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for container in pod["containers"]:
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert limits["memory"] == requests["memory"]
            assert limits["cpu"] == requests["cpu"]
            rights = container["securityContext"]
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert "privileged" not in rights


def test_nothing_is_public(documents: dict[str, dict[str, Any]]) -> None:
    cluster, policy = documents["RayCluster"], documents["NetworkPolicy"]["spec"]
    head = cluster["spec"]["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    for group in groups(cluster):
        for container in group["template"]["spec"]["containers"]:
            assert not [port for port in container["ports"] if "hostPort" in port]
    assert policy["podSelector"] == {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}
    assert policy["policyTypes"] == ["Ingress"]
    for rule in policy["ingress"]:
        assert all(peer["podSelector"]["matchLabels"] for peer in rule["from"])  # no rule for everybody
        assert "ipBlock" not in str(rule)


def test_the_job_runs_on_this_cluster_with_arguments_that_exist(documents: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    cluster, job = documents["RayCluster"], documents["RayJob"]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    python, flag, module, *arguments = job["entrypoint"].split()
    assert (python, flag, module) == ("/opt/venv/bin/python", "-m", "ftplatform.engine")
    (tmp_path / "parts").mkdir()
    write_parts(tmp_path / "parts", ["a row"])
    assert main([argument.replace("/data", str(tmp_path)) for argument in arguments]) == 0
    assert (tmp_path / "clusters.parquet").exists()
    for group in groups(cluster):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": RAY_ADDRESS, "value": "auto"} in container["env"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}
    claim = documents["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["name"] in str(cluster)


def test_versions_and_images_belong_together(documents: dict[str, dict[str, Any]], folder: Path, repository: Path) -> None:
    pinned = dict(re.findall(r"^(ray|numba)==(\S+)$", (repository / "constraints.txt").read_text(), re.MULTILINE))
    assert documents["RayCluster"]["spec"]["rayVersion"] == pinned["ray"] == importlib.metadata.version("ray")
    text = (folder / "Dockerfile").read_text()
    built = re.findall(r"--tag (\S+)", text)
    images = {c["image"] for group in groups(documents["RayCluster"]) for c in group["template"]["spec"]["containers"]}
    assert images == set(built)
    base = re.findall(r"--tag (\S+)", (folder.parent / "Dockerfile").read_text())
    assert re.findall(r"^ARG BASE=(.+)$", text, re.MULTILINE) == base
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "10001:10001"
    installs = re.findall(r"^RUN pip install .*$", text, re.MULTILINE)
    assert len(installs) == 1
    assert "--constraint" in installs[0]
    assert re.findall(r"^COPY (\S+)", text, re.MULTILINE) == ["constraints.txt"]


def test_the_dockerfile_has_no_findings(folder: Path) -> None:
    linter = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([linter, str(folder / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
