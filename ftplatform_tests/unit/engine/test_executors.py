from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context

import psutil
import pytest

from ftplatform.engine.errors import ExecutorUnavailable, PartFailed, WorkerDied
from ftplatform.engine.executors import (
    RAY_ADDRESS,
    Executor,
    ProcessExecutor,
    SerialExecutor,
    executor_from_environment,
    named_executor,
)
from ftplatform.engine.on_ray import RayExecutor
from ftplatform_tests.unit.engine import work


def test_results_come_in_order(executor: Executor) -> None:
    assert [*executor.map_parts(work.double, range(40))] == [2 * k for k in range(40)]
    assert [*executor.map_parts(work.double, [])] == []


def test_parts_in_flight_are_bounded(executor: Executor) -> None:
    taken = 0

    def parts() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    results = iter(executor.map_parts(work.double, parts()))
    assert next(results) == 0
    assert taken <= executor.workers + 2


def test_a_failure_names_the_part_and_keeps_the_remedy(executor: Executor) -> None:
    with pytest.raises(PartFailed, match="3: three is not wanted") as caught:
        list(executor.map_parts(work.refuse_three, range(6)))
    assert caught.value.part == "3"
    assert caught.value.kind == "ftplatform.errors.InputDataError"
    assert caught.value.remedy == "Leave it out."
    assert [*executor.map_parts(work.double, [1])] == [2]  # it can still be used


def test_adv_an_exception_that_cannot_travel_does_not_break_the_pool(executor: Executor) -> None:
    """Sent as it is, the exception is made again from its arguments, fails at that, and takes the whole pool with it."""
    with pytest.raises(PartFailed, match=r"0: .*Stubborn: a b") as caught:
        list(executor.map_parts(work.stumble, [0]))
    assert "in stumble" in caught.value.__notes__[0]
    assert [*executor.map_parts(work.double, [1])] == [2]


def test_the_naive_pool_breaks_there() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as naive, pytest.raises(BrokenProcessPool):
        naive.submit(work.stumble, 0).result()


def test_functions_travel_by_address(executor: Executor) -> None:
    def inner(part: int) -> int:
        return part

    with pytest.raises(TypeError, match=r"inner is no function at the top level"):
        list(executor.map_parts(inner, [1]))


def test_a_killed_worker_is_a_typed_error_with_the_parts_in_doubt() -> None:
    with closing(ProcessExecutor(2)) as own:
        with pytest.raises(WorkerDied, match="smaller parts") as caught:
            list(own.map_parts(work.die_at_three, range(20)))
        assert "3" in caught.value.parts
        assert len(caught.value.parts) <= 3
        assert [*own.map_parts(work.double, [1, 2])] == [2, 4]


def test_adv_a_worker_that_dies_between_two_results() -> None:
    """The pool then refuses the next part, with an error of its own that names none."""

    def parts() -> Iterator[int]:
        yield from (1, 3)
        time.sleep(3)
        yield from (4, 5)

    with closing(ProcessExecutor(2)) as own, pytest.raises(WorkerDied) as caught:
        list(own.map_parts(work.die_at_three, parts()))
    assert "3" in caught.value.parts
    with ProcessPoolExecutor(2, get_context("spawn")) as naive:
        naive.submit(work.die_at_three, 3).exception()
        with pytest.raises(BrokenProcessPool) as raw:
            naive.submit(work.die_at_three, 4)
    assert "3" not in str(raw.value)


def test_work_is_spread_and_ends_with_the_executor() -> None:
    own = ProcessExecutor(2)
    pids = {*own.map_parts(work.pid_after, [0.3] * 6)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    own.close()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_workers_end_with_a_driver_that_is_killed() -> None:
    code = (
        "from ftplatform.engine.executors import ProcessExecutor; from ftplatform_tests.unit.engine.work import pid_after\n"
        "if __name__ == '__main__':\n"
        "    e = ProcessExecutor(2)\n"
        "    print(*{*e.map_parts(pid_after, [.3] * 4)}, flush=True)\n"
        "    list(e.map_parts(pid_after, [600.] * 2))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    until = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAY_ADDRESS, raising=False)
    assert isinstance(executor_from_environment(1), SerialExecutor)
    assert isinstance(executor_from_environment(2), ProcessExecutor)
    monkeypatch.setenv(RAY_ADDRESS, "host:6379; rm -rf /")
    with pytest.raises(ExecutorUnavailable, match="no address of a Ray cluster"):
        executor_from_environment(1)
    with pytest.raises(ExecutorUnavailable, match="no executor 'dask'"):
        named_executor("dask")
    with pytest.raises(ExecutorUnavailable, match="0 workers"):
        named_executor("process", 0)


def test_without_ray_the_remedy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorUnavailable, match=r"Install \"ftplatform\[ray\]\""):
        RayExecutor("auto")
