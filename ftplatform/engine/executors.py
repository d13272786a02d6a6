"""Where work on parts runs: in this process, in processes beside it, or on a Ray cluster.

One operation suffices: a function mapped over parts. What other engines call a shuffle is here a column read from every part's file
(`sketches`), which survives a crash and needs no memory of its own.
"""

from __future__ import annotations

import importlib
import os
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ftplatform.engine.errors import ExecutorUnavailable, PartFailed, WorkerDied
from ftplatform.errors import FtplatformError

P = TypeVar("P")
R = TypeVar("R")

#: Address of a Ray cluster (`host:port`, `ray://host:port`, `auto`), or `local` for one of this machine's cores.
RAY_ADDRESS = "FTPLATFORM_RAY_ADDRESS"


class Executor(Protocol):
    """Runs functions on parts.

    Attributes:
        workers: functions that run at a time.
        threads: threads a function may use itself; None for as many as there are cores.
    """

    workers: int
    threads: int | None

    def map_parts(self, function: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        """`function` of each part, in order, with a bounded number of parts and results in flight.

        The function is one of a module's top level and travels as its address; part and result are plain data.

        Raises:
            PartFailed: the function raised; names the part.
            WorkerDied: a worker ended; names the parts that it may have died of.
        """
        ...

    def close(self) -> None:
        """Ends what the executor started."""
        ...


@dataclass(frozen=True)
class Failure:
    """What a function raised, as plain data: an exception of any class may not survive the way between processes."""

    kind: str
    message: str
    remedy: str
    trace: str


def address_of(function: Callable[..., Any]) -> str:
    """`module:name` under which a worker finds a function of a module's top level."""
    module, name = function.__module__, getattr(function, "__qualname__", "")
    if module == "__main__" or getattr(importlib.import_module(module), name, None) is not function:
        raise TypeError(f"{module}.{name} is no function at the top level of an importable module")
    return f"{module}:{name}"


def call(address: str, part: Any) -> Any:
    """Result of the function at `address`, or a `Failure`. Runs in the worker."""
    module, _, name = address.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(part)
    except Exception as problem:  # noqa: BLE001 (the driver raises it again, with the name of the part)
        kind = f"{type(problem).__module__}.{type(problem).__qualname__}"
        if isinstance(problem, FtplatformError):
            return Failure(kind, problem.message, problem.remedy, "")
        return Failure(kind, f"{kind}: {problem}", "Read the traceback of the worker.", traceback.format_exc())


def result_of(name: str, outcome: Any) -> Any:
    """What `call` gave back for the part of this name.

    Raises:
        PartFailed: the function raised.
    """
    if isinstance(outcome, Failure):
        raise PartFailed(name, outcome.kind, outcome.message, remedy=outcome.remedy, trace=outcome.trace)
    return outcome


class Windowed(ABC):
    """`map_parts` for executors that start a call and wait for its outcome."""

    workers = 1
    threads: int | None = 1

    @abstractmethod
    def _start(self, address: str, part: Any) -> Any: ...

    @abstractmethod
    def _outcome(self, handle: Any, running: list[str]) -> Any: ...

    @abstractmethod
    def _cancel(self, handles: list[Any]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def map_parts(self, function: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        address = address_of(function)
        waiting: deque[tuple[str, Any]] = deque()
        try:
            for part in parts:
                # One call more than workers: the next one is at hand when a worker is done, and few parts are in doubt if one dies.
                if len(waiting) > self.workers:
                    yield self._next(waiting)
                waiting.append((str(part), self._start(address, part)))
            while waiting:
                yield self._next(waiting)
        finally:
            self._cancel([handle for _, handle in waiting])

    def _next(self, waiting: deque[tuple[str, Any]]) -> Any:
        running = [name for name, _ in waiting]
        name, handle = waiting.popleft()
        return result_of(name, self._outcome(handle, running))


class SerialExecutor:
    """One part after the other in this process, each on all cores."""

    workers = 1
    threads: int | None = None

    def map_parts(self, function: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        address = address_of(function)
        return (result_of(str(part), call(address, part)) for part in parts)

    def close(self) -> None:
        pass


class ProcessExecutor(Windowed):
    """Processes on this machine, started afresh (spawn): a fork would copy the driver's threads and locks.

    Args:
        workers: processes; by default the cores this process may run on.
    """

    def __init__(self, workers: int | None = None) -> None:
        from ftplatform.kernels.backend import default_workers

        self.workers = workers or default_workers()
        self._pool: ProcessPoolExecutor | None = None

    def _start(self, address: str, part: Any) -> Future[Any]:
        import multiprocessing

        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
        try:
            return self._pool.submit(call, address, part)
        except BrokenProcessPool as problem:  # a worker died since the last result was asked for, which the next outcome tells
            broken: Future[Any] = Future()
            broken.set_exception(problem)
            return broken

    def _outcome(self, handle: Future[Any], running: list[str]) -> Any:
        try:
            return handle.result()
        except BrokenProcessPool:
            self.close()
            raise WorkerDied(running) from None

    def _cancel(self, handles: list[Future[Any]]) -> None:
        for handle in handles:
            handle.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def executor_from_environment(parts: int) -> Executor:
    """Executor for so many parts: Ray where `FTPLATFORM_RAY_ADDRESS` says so, else processes, and none of them for a single part.

    Raises:
        ExecutorUnavailable: the variable is no address, Ray is not installed, or nobody answers there.
    """
    address = os.environ.get(RAY_ADDRESS, "")
    if address:
        from ftplatform.engine.on_ray import RayExecutor

        return RayExecutor(None if address == "local" else address)
    return ProcessExecutor() if parts > 1 else SerialExecutor()


def named_executor(name: str, workers: int | None = None) -> Executor:
    """Executor `serial`, `process` or `ray` (the address in the environment, else a cluster of this machine's cores).

    Raises:
        ExecutorUnavailable: there is no such executor, or it cannot be started.
    """
    if workers is not None and workers < 1:
        raise ExecutorUnavailable(f"{workers} workers do no work.", remedy="Ask for one or more.")
    if name == "serial":
        return SerialExecutor()
    if name == "process":
        return ProcessExecutor(workers)
    if name == "ray":
        from ftplatform.engine.on_ray import RayExecutor

        address = os.environ.get(RAY_ADDRESS, "")
        return RayExecutor(None if address in ("", "local") else address, workers=workers)
    raise ExecutorUnavailable(f"There is no executor {name!r}.", remedy="Choose serial, process or ray.")


def _end_with_parent() -> None:
    """A worker whose driver was killed would wait forever: its own end of the queue keeps the queue open."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
