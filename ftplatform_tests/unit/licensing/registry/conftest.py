"""Ledgers on both databases."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftplatform.licensing.registry import Ledger
from ftplatform.store.backend import Backend
from ftplatform.store.memory import MemoryBackend
from ftplatform_tests.unit.licensing.registry import factories


@pytest.fixture
def backend() -> Backend:
    """An empty place for a log."""
    return MemoryBackend(uuid.uuid4().hex)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty SQLite file, then an empty database on a real Postgres server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
def open_ledger(backend: Backend, database_url: str) -> Iterator[Callable[..., Ledger]]:
    """Opens the test's ledger, as often as wanted."""
    opened: list[Ledger] = []

    def open_(place: Backend = backend, url: str = database_url, **options: Any) -> Ledger:
        opened.append(Ledger.open(place, url, **options))
        return opened[-1]

    yield open_
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    """An empty ledger."""
    return open_ledger()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A real S3 API on loopback."""
    with factories.s3_server() as url:
        yield url
