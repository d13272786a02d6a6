from __future__ import annotations

from collections.abc import Iterator

import pytest

from ftplatform.engine.executors import Executor, ProcessExecutor, SerialExecutor


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessExecutor]:
    """Two processes, for all tests that do not kill them."""
    executor = ProcessExecutor(2)
    yield executor
    executor.close()


@pytest.fixture(params=["serial", "process"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return SerialExecutor() if request.param == "serial" else request.getfixturevalue("processes")
