"""Ray as an executor (optional extra `ray`)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftplatform.engine.errors import ExecutorUnavailable, WorkerDied
from ftplatform.engine.executors import Failure, Windowed, call
from ftplatform.kernels.backend import default_workers

_ADDRESS = re.compile(r"auto|(ray://)?(?P<host>[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
#: Seconds within which a cluster has to answer. Ray itself would try for minutes.
_PATIENCE = 10
#: No usage statistics. The second switch (named for the systems on which it is the default) keeps the services of a cluster that
#: never leaves this machine on 127.0.0.1; Ray would listen on every interface.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_LOCALHOST = "127.0.0.1"
#: Shared memory of a local cluster. Large things travel in files.
_OBJECT_STORE_BYTES = 256 << 20
#: Tasks may be repeated (they write whole files atomically), so that the loss of a machine is no end of the run.
_RETRIES = 2


class RayExecutor(Windowed):
    """Tasks of a Ray cluster, one core each. Parts and index must be reachable under the same path on every machine.

    A connection that existed before is used and left open; anything the executor started ends with `close`.

    Args:
        address: `host:port`, `ray://host:port` or `auto`; None starts a cluster on this machine, reachable from it only.
        workers: tasks at a time; by default the cores of the cluster.

    Raises:
        ExecutorUnavailable: Ray is not installed, `address` is none, nobody answers there, or a local cluster would be reachable from
            elsewhere.
    """

    def __init__(self, address: str | None = None, *, workers: int | None = None) -> None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ExecutorUnavailable(
                f"{address!r} is no address of a Ray cluster.", remedy="Give host:port, ray://host:port or auto."
            )
        self._folder: str | None = None
        local = address is None
        with _environment(_QUIET | (_LOOPBACK if local else {})):
            try:
                import ray
            except ImportError:
                raise ExecutorUnavailable("Ray is not installed.", remedy='Install "ftplatform[ray]".') from None
            self._ray: Any = ray
            self._own = not ray.is_initialized()
            if self._own:
                self._connect(address, workers or default_workers())
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._call: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(call)

    def _connect(self, address: str | None, cores: int) -> None:
        options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "error"}
        if address is None:
            self._folder = tempfile.mkdtemp(prefix="ft-ray-")
            options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
            options |= {"_node_ip_address": _LOCALHOST, "_temp_dir": self._folder}
        try:
            _require_listener(address)
            self._ray.init(**options)
        except (OSError, RuntimeError, ValueError) as problem:
            self.close()
            raise ExecutorUnavailable(
                f"No Ray cluster could be reached at {address or _LOCALHOST}: {type(problem).__name__}.",
                remedy="Check the address, and that both sides run the same versions of Ray and Python.",
            ) from problem
        if address is None and self._ray.util.get_node_ip_address() != _LOCALHOST:
            self.close()
            raise ExecutorUnavailable(
                "Ray was imported before and would listen beyond this machine.",
                remedy="Set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before anything imports ray.",
            )

    def _start(self, address: str, part: Any) -> Any:
        return self._call.remote(address, part)

    def _outcome(self, handle: Any, running: list[str]) -> Any:
        failures = self._ray.exceptions
        try:
            return self._ray.get(handle)
        except (failures.WorkerCrashedError, failures.OutOfMemoryError, failures.NodeDiedError):
            raise WorkerDied(running[:1]) from None
        except failures.RayError as problem:
            kind = f"{type(problem).__module__}.{type(problem).__qualname__}"
            return Failure(kind, f"Ray could not run it ({kind}).", "Look at the state and logs of the cluster.", str(problem))

    def _cancel(self, handles: list[Any]) -> None:
        for handle in handles:
            self._ray.cancel(handle)

    def close(self) -> None:
        if self._own and self._ray.is_initialized():
            self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _require_listener(address: str | None) -> None:
    match = _ADDRESS.fullmatch(address or "")
    if match and match["host"]:
        socket.create_connection((match["host"], int(match["port"])), timeout=_PATIENCE).close()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the duration of the block, which the processes started in it inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
