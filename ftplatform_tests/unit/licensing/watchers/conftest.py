"""Fixtures of the watchers' tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ftplatform_tests.unit.licensing.watchers.stub_server import StubServer, stub_server


@pytest.fixture
def server() -> Iterator[StubServer]:
    with stub_server() as running:
        yield running


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
