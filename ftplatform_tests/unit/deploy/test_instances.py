"""Every shipped instance and workspace file is loaded by Dagster itself; what is misspelled in one is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from signal import SIG_DFL, SIGINT, signal
from typing import TypeVar, cast

import psycopg2
import pytest
from dagster import DagsterInstance
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import PoolGranularity
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.workspace.load import location_origins_from_yaml_paths

from ftplatform_tests.unit.project.sample import VALID, write, write_files

T = TypeVar("T")


@pytest.fixture
def environment(postgres_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values = {**postgres_server, "DAGSTER_LOGS": str(tmp_path / "logs"), "DAGSTER_ARTIFACTS": str(tmp_path / "artifacts")}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@contextmanager
def instance_of(config: str, home: Path) -> Iterator[DagsterInstance]:
    home.mkdir()
    (home / "dagster.yaml").write_text(config)
    with DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_the_embedded_instance_loads(repository: Path, tmp_path: Path) -> None:
    with instance_of((repository / "dagster.yaml").read_text(), tmp_path / "home") as instance:
        assert "Sqlite" in type(instance.run_storage).__name__
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 1
        assert not instance.run_retries_retry_on_asset_or_op_failure
        pools = instance.get_concurrency_config().pool_config
        assert (pools.default_pool_limit, pools.pool_granularity) == (1, PoolGranularity.OP)


def test_the_postgres_instance_loads_on_a_real_server(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    with instance_of((repository / "deploy/dagster.yaml").read_text(), tmp_path / "home") as instance:
        for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
            assert "Postgres" in type(storage).__name__
        assert instance.get_runs_count() == 0
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_max_runtime_seconds == 48 * 3600
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        logs = cast(LocalComputeLogManager, instance.compute_log_manager)
        assert logs.get_captured_local_path(["x"], "out").startswith(environment["DAGSTER_LOGS"])
        assert instance.storage_directory().startswith(environment["DAGSTER_ARTIFACTS"])
        # Nothing is written to the home itself: in the image it belongs to root.
        assert [path.name for path in (tmp_path / "home").iterdir()] == ["dagster.yaml"]


def test_the_server_asks_for_the_password(postgres_server: dict[str, str]) -> None:
    # Without this the tests above would not show that the password reaches the server.
    port = postgres_server["DAGSTER_POSTGRES_PORT"]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=port, user="postgres", password="wrong", dbname="dagster")


def test_an_unset_variable_is_named(
    repository: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment
    monkeypatch.delenv("DAGSTER_POSTGRES_PASSWORD")
    with (
        pytest.raises(Exception, match="DAGSTER_POSTGRES_PASSWORD"),
        instance_of((repository / "deploy/dagster.yaml").read_text(), tmp_path / "home"),
    ):
        pass


@pytest.mark.parametrize("file", ["dagster.yaml", "deploy/dagster.yaml"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("telemetry:", "telemetri:"),
        ("default_limit: 1", "default_limits: 1"),
        ("granularity: op", "granularity: step"),
        ("max_retries: 1", "max_retries: one"),
        ("poll_interval_seconds:", "poll_interval:"),
        ("free_slots_after_run_end_seconds: 60", "free_slots_after_run_end_seconds: {a: b}"),
        ("skipped: 7", "skiped: 7"),
    ],
)
def test_mistakes_are_refused(repository: Path, tmp_path: Path, environment: dict[str, str], file: str, old: str, new: str) -> None:
    assert environment
    config = (repository / file).read_text()
    assert config.count(old) == 1
    with pytest.raises(DagsterInvalidConfigError), instance_of(config.replace(old, new), tmp_path / "home"):
        pass


def test_the_workspaces_load(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    (origin,) = location_origins_from_yaml_paths([str(repository / "workspace.yaml")])
    assert origin.location_name == "ftplatform"
    assert origin.loadable_target_origin is not None
    assert origin.loadable_target_origin.module_name == "ftplatform.definitions"
    assert Path(origin.loadable_target_origin.working_directory or "").resolve() == repository / "examples/support"
    monkeypatch.setenv("FTPLATFORM_CODE_HOST", "code")
    monkeypatch.setenv("FTPLATFORM_CODE_PORT", "4000")
    (remote,) = location_origins_from_yaml_paths([str(repository / "deploy/workspace.yaml")])
    assert (remote.host, remote.port, remote.location_name) == ("code", 4000, "ftplatform")  # pyright: ignore[reportAttributeAccessIssue]


def test_the_workspace_of_the_checkout_finds_its_project(repository: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FTPLATFORM_PROJECT"}
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "--workspace", "workspace.yaml"],
        cwd=repository,
        env={**environment, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location ftplatform" in done.stdout + done.stderr


@pytest.mark.parametrize(("file", "old"), [("workspace.yaml", "module_name"), ("deploy/workspace.yaml", "grpc_server")])
def test_mistakes_in_a_workspace_are_refused(repository: Path, tmp_path: Path, file: str, old: str) -> None:
    broken = tmp_path / "workspace.yaml"
    broken.write_text((repository / file).read_text().replace(old, f"{old}x"))
    with pytest.raises(Exception, match=f"{old}x"):
        location_origins_from_yaml_paths([str(broken)])


def belong_together(core: str, library: str) -> bool:
    """Dagster x.y.z is released with its libraries as 0.(y+16).z."""
    _, minor, patch = (int(part) for part in core.split("."))
    return library == f"0.{minor + 16}.{patch}"


def test_dagster_and_its_libraries_belong_together(repository: Path) -> None:
    assert belong_together(version("dagster"), version("dagster-postgres"))
    assert version("dagster-webserver") == version("dagster")
    # What a resolver without pins once picked.
    assert not belong_together("1.13.29", "0.11.14")
    assert not belong_together("1.13.27", "0.29.26")
    pins = dict(
        line.split("==") for line in (repository / "constraints.txt").read_text().splitlines() if line.startswith("dagster")
    )
    assert belong_together(pins["dagster"], pins["dagster-postgres"])


@contextmanager
def process(arguments: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    # A shell may have left SIGINT ignored, and Dagster then ignores SIGTERM too: it takes over the handler of SIGINT.
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal(SIGINT, SIG_DFL),
        )
        try:
            yield started
        finally:
            started.send_signal(SIGINT)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def until(ready: Callable[[], T | None], running: subprocess.Popen[bytes], log: Path) -> T:
    """Wait until `ready` returns something, while the process lives."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise AssertionError(f"the process ended with {running.returncode}:\n{log.read_text()}")
        if (found := ready()) is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not ready after 180 s:\n{log.read_text()}")


def succeeds(arguments: list[str], environment: Mapping[str, str]) -> bool | None:
    """True if a health check of compose.yaml does, else None."""
    return subprocess.run([sys.executable, "-m", *arguments], env=dict(environment), capture_output=True).returncode == 0 or None


def listens(port: int) -> bool | None:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0 or None


def fetched(url: str, data: bytes | None = None) -> bytes | None:
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=60).read()
    except OSError:
        return None


def asset_keys(address: str) -> set[str] | None:
    """The assets a webserver shows, None while it shows none."""
    answer = fetched(f"{address}/graphql", b'{"query": "{assetNodes{assetKey{path}}}"}') or b'{"data": {"assetNodes": []}}'
    return {"/".join(node["assetKey"]["path"]) for node in json.loads(answer)["data"]["assetNodes"]} or None


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_code_server_webserver_and_daemon_work_as_separate_processes(
    repository: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The shape of compose.yaml on loopback: same commands, same instance and workspace files, same health checks."""
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    (home / "dagster.yaml").write_bytes((repository / "deploy/dagster.yaml").read_bytes())
    write_files(project)
    code_port, web_port = free_ports(2)
    values = {
        **os.environ,
        **environment,
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "FTPLATFORM_PROJECT": str(write(project, VALID)),
        "FTPLATFORM_CODE_HOST": "127.0.0.1",
        "FTPLATFORM_CODE_PORT": str(code_port),
        "PYTHONPATH": str(repository),
    }
    workspace = str(repository / "deploy/workspace.yaml")
    code = ["dagster", "code-server", "start", "--host", "127.0.0.1", "--port", str(code_port)]
    code += ["--module-name", "ftplatform.definitions", "--location-name", "ftplatform"]
    web = ["dagster_webserver", "--host", "127.0.0.1", "--port", str(web_port), "--workspace", workspace]
    daemon = ["dagster._daemon", "run", "--workspace", workspace]
    logs = [tmp_path / f"{name}.log" for name in ("code", "web", "daemon")]
    address = f"http://127.0.0.1:{web_port}"
    with process(code, values, logs[0]) as code_server:
        until(lambda: listens(code_port), code_server, logs[0])
        until(lambda: succeeds(["dagster", "api", "grpc-health-check", "--port", str(code_port)], values), code_server, logs[0])
        with process(web, values, logs[1]) as webserver, process(daemon, values, logs[2]) as daemons:
            info = until(lambda: fetched(f"{address}/server_info"), webserver, logs[1])
            assert version("dagster") in info.decode()
            until(lambda: succeeds(["dagster._daemon", "liveness-check"], values), daemons, logs[2])
            # The webserver answers before it has asked the code server what there is: until then the list is empty.
            keys = until(lambda: asset_keys(address), webserver, logs[1])
    assert {"raw/tickets", "splits/support", "adapters/support"} <= keys
    # Nothing was written to the home: in the image it is read-only and belongs to root.
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]
