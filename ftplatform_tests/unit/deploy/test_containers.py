"""compose.yaml and Dockerfile: by their own validators, and by the rules that make them safe to start."""

from __future__ import annotations

import contextlib
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
import yaml
from moto.server import ThreadedMotoServer

from ftplatform.project.credentials import credential_in

SERVICES = ("postgres", "objectstore", "prepare", "code", "webserver", "daemon")
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:\?|:-)([^}]*))?\}")


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


@pytest.fixture(scope="module")
def services(deploy: Path) -> dict[str, Any]:
    return yaml.safe_load((deploy / "compose.yaml").read_text())["services"]


def validated(file: Path) -> tuple[bool, str]:
    """Verdict of check-jsonschema on a compose file, with the schema it brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def test_compose_follows_the_specification(deploy: Path) -> None:
    good, output = validated(deploy / "compose.yaml")
    assert good, output


@pytest.mark.parametrize(("old", "new"), [("depends_on:", "depends_onn:"), ("read_only: true\n  cap", "read_onli: true\n  cap")])
def test_the_specification_catches_a_typo(deploy: Path, tmp_path: Path, old: str, new: str) -> None:
    text = (deploy / "compose.yaml").read_text()
    assert old in text
    broken = tmp_path / "compose.yaml"
    broken.write_text(text.replace(old, new))
    good, output = validated(broken)
    assert not good
    assert new.split(":")[0] in output


def test_only_the_webserver_is_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    assert tuple(services) == SERVICES
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["webserver"]
    assert all(isinstance(port, str) and port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not [name for name, service in services.items() if service.get("network_mode") == "host" or service.get("privileged")]


def test_nobody_is_root_or_can_become_it(services: dict[str, Any]) -> None:
    for name, service in services.items():
        user, group = service["user"].split(":")
        assert int(user) > 0, name
        assert int(group) > 0, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_images_are_pinned(services: dict[str, Any], deploy: Path) -> None:
    pinned = re.compile(r"[\w./-]+:\d+\.\d[\w.-]*")
    for name, service in services.items():
        assert pinned.fullmatch(service["image"]) or ("build" in service and service["image"] == "ftplatform:local"), name
    bases = re.findall(r"^ARG PYTHON_IMAGE=(.+)$|^FROM (\S+)", (deploy / "Dockerfile").read_text(), re.MULTILINE)
    assert bases == [("python:3.11.14-slim-bookworm", ""), ("", "${PYTHON_IMAGE}"), ("", "${PYTHON_IMAGE}")]


def test_every_lasting_service_has_a_health_check_and_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    assert {name for name in services if "healthcheck" not in services[name]} == {"prepare"}
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["prepare"] == {"postgres": "service_healthy", "objectstore": "service_healthy"}
    assert waits["code"] == {"prepare": "service_completed_successfully"}
    for name in ("webserver", "daemon"):
        assert waits[name] == {"prepare": "service_completed_successfully", "code": "service_healthy"}


def test_secrets_come_from_the_environment_and_have_no_default(services: dict[str, Any], deploy: Path) -> None:
    secret = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN")
    found = 0
    for name, service in services.items():
        for key, value in service.get("environment", {}).items():
            if secret.search(key):
                found += 1
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), (name, key)
    assert found >= 10
    for file in deploy.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            for line in file.read_text().splitlines():
                assert credential_in(line) is None, (file, line)


def test_every_variable_is_in_the_example_which_holds_no_secret(deploy: Path) -> None:
    example = dict(line.split("=", 1) for line in (deploy / ".env.example").read_text().splitlines() if line and line[0] != "#")
    used = _VARIABLE.findall(re.sub(r"(?m)^\s*#.*$", "", (deploy / "compose.yaml").read_text()))
    assert {name for name, _, _ in used} == set(example)
    required = {name for name, how, _ in used if how == ":?"}
    assert required == {"POSTGRES_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "FTPLATFORM_PROJECT_DIR"}
    assert all(how for _, how, _ in used)
    assert {name for name, value in example.items() if value} == {"FTPLATFORM_PORT"}


def test_the_processes_get_what_their_files_read(services: dict[str, Any], deploy: Path) -> None:
    read = set(re.findall(r"env: (\w+)", (deploy / "dagster.yaml").read_text()))
    workspace = set(re.findall(r"env: (\w+)", (deploy / "workspace.yaml").read_text()))
    for name in ("prepare", "code", "webserver", "daemon"):
        assert read <= set(services[name]["environment"]), name
    for name in ("webserver", "daemon"):
        assert workspace <= set(services[name]["environment"]), name
        assert "AWS_SECRET_ACCESS_KEY" not in services[name]["environment"], name


def test_database_and_objects_have_no_way_out(services: dict[str, Any], deploy: Path) -> None:
    networks = yaml.safe_load((deploy / "compose.yaml").read_text())["networks"]
    assert networks["data"]["internal"] is True
    for name in ("postgres", "objectstore", "prepare"):
        assert services[name]["networks"] == ["data"], name


def hadolint(text: str) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("hadolint")), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_the_dockerfile_has_no_findings(deploy: Path) -> None:
    assert hadolint((deploy / "Dockerfile").read_text()) == (0, "")


def test_the_linter_finds_mistakes() -> None:
    code, output = hadolint("FROM python\nRUN cd /x && sudo pip install torch\nMAINTAINER me\n")
    assert code == 1
    assert {"DL3006", "DL3004", "DL4000"} <= set(re.findall(r"DL\d+", output))


def test_the_image_runs_as_a_numbered_user_and_installs_torch_first(deploy: Path) -> None:
    text = (deploy / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    installs = re.findall(r"^RUN pip install .*$", text, re.MULTILINE)
    assert '"${TORCH}"' in installs[0]
    assert all("--constraint constraints.txt" in line for line in installs)
    assert re.search(r"^ARG TORCH=torch==\d+\.\d+\.\d+\+cpu$", text, re.MULTILINE)
    assert "ADD " not in text


def test_what_the_image_copies_exists_and_is_not_ignored(repository: Path, deploy: Path) -> None:
    allowed = {line[1:] for line in (deploy / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = []
    for arguments in re.findall(r"^COPY (?!--from)(.+)$", (deploy / "Dockerfile").read_text(), re.MULTILINE):
        copied += [source.removeprefix("./") for source in arguments.split()[:-1]]
    assert set(copied) == allowed
    assert [name for name in copied if not (repository / name).exists()] == []


def test_prepare_creates_bucket_and_schema_and_may_be_repeated(
    deploy: Path,
    tmp_path: Path,
    postgres_server: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    (tmp_path / "dagster.yaml").write_bytes((deploy / "dagster.yaml").read_bytes())
    values = {
        **postgres_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_LOGS": str(tmp_path / "logs"),
        "DAGSTER_ARTIFACTS": str(tmp_path / "artifacts"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["prepare.py", "ftplatform"])
    try:
        for said in ("created", "there already"):
            runpy.run_path(str(deploy / "prepare.py"), run_name="__main__")
            assert f"bucket ftplatform: {said}" in capsys.readouterr().out
        buckets = boto3.client("s3").list_buckets()["Buckets"]
    finally:
        moto.stop()
    # moto keeps one backend per process, which other tests may have filled.
    assert "ftplatform" in {bucket["Name"] for bucket in buckets}
    with (
        contextlib.closing(
            psycopg2.connect(
                host=values["DAGSTER_POSTGRES_HOST"],
                port=values["DAGSTER_POSTGRES_PORT"],
                user=values["DAGSTER_POSTGRES_USER"],
                password=values["DAGSTER_POSTGRES_PASSWORD"],
                dbname=values["DAGSTER_POSTGRES_DB"],
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        tables = {name for (name,) in cursor.fetchall()}
    assert {"runs", "event_logs", "asset_check_executions", "job_ticks", "alembic_version"} <= tables
