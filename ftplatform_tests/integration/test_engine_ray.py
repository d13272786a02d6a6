"""Ray as an executor: a real cluster on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.dedup_corpus import corpus, sources
from ftplatform.engine.errors import ExecutorUnavailable, PartFailed, WorkerDied
from ftplatform.engine.executors import RAY_ADDRESS, ProcessExecutor, executor_from_environment
from ftplatform.engine.on_ray import RayExecutor
from ftplatform.engine.pipeline import Settings, near_duplicates
from ftplatform_tests.unit.engine import work
from ftplatform_tests.unit.engine.corpora import Text, assert_same, expected, write_parts
from ftplatform_tests.unit.kernels.test_clusters import crowded_texts

#: Ray takes 127.0.0.1 for the machine's outer address, where a cluster of tests does not listen, unless told that there are no others.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayExecutor]:
    executor = RayExecutor(workers=2)
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def large(shared_data: Path) -> list[Text]:
    return corpus(sources(shared_data), 20_000, seed=6)["text"].to_pylist()


def test_results_come_in_order(cluster: RayExecutor) -> None:
    assert [*cluster.map_parts(work.double, range(20))] == [2 * k for k in range(20)]


def test_the_cluster_listens_on_this_machine_only_and_tells_nobody(cluster: RayExecutor) -> None:
    assert [*cluster.map_parts(work.variable, ["RAY_USAGE_STATS_ENABLED"])] == ["0"]
    listening = []
    for process in psutil.Process().children(recursive=True):
        try:
            sockets = process.net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        listening += [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_a_failure_names_the_part_and_keeps_the_remedy(cluster: RayExecutor) -> None:
    with pytest.raises(PartFailed, match="3: three is not wanted") as caught:
        list(cluster.map_parts(work.refuse_three, range(6)))
    assert (caught.value.part, caught.value.remedy) == ("3", "Leave it out.")
    assert caught.value.kind == "ftplatform.errors.InputDataError"
    with pytest.raises(PartFailed, match="Stubborn: a b"):
        list(cluster.map_parts(work.stumble, [0]))


def test_a_killed_worker_is_a_typed_error(cluster: RayExecutor) -> None:
    with pytest.raises(WorkerDied, match="smaller parts") as caught:
        list(cluster.map_parts(work.die_at_three, [1, 3]))
    assert caught.value.parts == ["3"]
    assert [*cluster.map_parts(work.double, [1])] == [2]


def test_twenty_thousand_rows_as_in_one_memory(cluster: RayExecutor, tmp_path: Path, large: list[Text]) -> None:
    parts, settings = write_parts(tmp_path, large, [4000, 4000, 9000, 15_000]), Settings(0.7)
    wanted = expected(large, settings)
    seconds = {}
    with closing(ProcessExecutor(2)) as processes:
        for name, executor in (("ray", cluster), ("process", processes)):
            start = time.perf_counter()
            summary = near_duplicates(parts, tmp_path / name, executor, settings, index=tmp_path / f"index-{name}")
            seconds[name] = time.perf_counter() - start
            assert_same(tmp_path / name, wanted)
            assert summary.redundant > 2000
    print(f"seconds: {seconds}")


def test_crowds_and_an_index_that_grows(cluster: RayExecutor, tmp_path: Path) -> None:
    texts: list[Text] = [*crowded_texts(500, 60), None, "?!"]
    parts, settings = write_parts(tmp_path, texts, [200]), Settings(0.7)
    near_duplicates(parts[:1], tmp_path / "out", cluster, settings, index=tmp_path / "index")
    assert near_duplicates(parts[1:], tmp_path / "out", cluster, settings, index=tmp_path / "index").sketched == 1
    assert_same(tmp_path / "out", expected(texts, settings))


def test_a_connection_of_somebody_else_is_used_and_left_open(cluster: RayExecutor) -> None:
    import ray

    second = RayExecutor()
    assert second.workers == 2
    assert [*second.map_parts(work.double, [4])] == [8]
    second.close()
    assert ray.is_initialized()
    assert [*cluster.map_parts(work.double, [5])] == [10]


def test_what_it_started_ends_with_it() -> None:
    code = (
        "import os, psutil\n"
        "from ftplatform.engine.executors import executor_from_environment\n"
        "from ftplatform_tests.unit.engine.work import double\n"
        "executor = executor_from_environment(1)\n"
        "folder, before = executor._folder, psutil.Process().children(recursive=True)\n"
        "assert [*executor.map_parts(double, [1])] == [2] and before\n"
        "executor.close()\n"
        "gone, alive = psutil.wait_procs(before, timeout=20)\n"
        "print(len(gone), len(alive), os.path.exists(folder), 'RAY_USAGE_STATS_ENABLED' in os.environ)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {RAY_ADDRESS: "local"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    gone, alive, folder, variable = done.stdout.split()
    assert int(gone) > 3
    assert (alive, folder, variable) == ("0", "False", "False")


@contextmanager
def client_server(address: str) -> Iterator[str]:
    """Address under which drivers that are no node of the cluster reach it, as from another pod."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.util.client.server", "--address", address, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--mode", "specific-server"], env=os.environ | LOOPBACK, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield f"ray://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("way", ["node", "client"])
def test_a_cluster_is_joined_by_its_address_and_outlives_the_driver(cluster: RayExecutor, way: str, tmp_path: Path) -> None:
    import ray

    gcs = ray.get_runtime_context().gcs_address
    texts: list[Text] = ["one row of words", "another row of words", "One row of words."]
    write_parts(tmp_path, texts, [1])
    command = [sys.executable, "-m", "ftplatform.engine", str(tmp_path), "--out", str(tmp_path / "out")]
    with nullcontext(gcs) if way == "node" else client_server(gcs) as address:
        environment = os.environ | LOOPBACK | {RAY_ADDRESS: address}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "out", expected(texts, Settings()))
    assert [*cluster.map_parts(work.double, [6])] == [12]


def test_nobody_at_the_address() -> None:
    code = (
        "from ftplatform.engine.errors import ExecutorUnavailable\n"
        "from ftplatform.engine.executors import executor_from_environment\n"
        "try:\n"
        "    executor_from_environment(1)\n"
        "except ExecutorUnavailable as problem:\n"
        "    print(problem)\n"
    )
    with socket.socket() as reserved:  # bound, but it does not listen
        reserved.bind(("127.0.0.1", 0))
        for scheme in ("", "ray://"):
            address = f"{scheme}127.0.0.1:{reserved.getsockname()[1]}"
            start, environment = time.monotonic(), os.environ | {RAY_ADDRESS: address}
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
            assert f"No Ray cluster could be reached at {address}: ConnectionRefusedError" in done.stdout, done.stderr
            assert time.monotonic() - start < 60  # Ray by itself tries for minutes


def test_ray_imported_before_is_not_let_out(tmp_path: Path) -> None:
    code = (
        "import ray\n"
        "from ftplatform.engine.errors import ExecutorUnavailable\n"
        "from ftplatform.engine.on_ray import RayExecutor\n"
        "try:\n"
        "    RayExecutor()\n"
        "except ExecutorUnavailable as problem:\n"
        "    print(problem, ray.is_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert "would listen beyond this machine" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("False")


def test_the_address_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAY_ADDRESS, "nonsense")
    with pytest.raises(ExecutorUnavailable, match="'nonsense' is no address"):
        executor_from_environment(1)
