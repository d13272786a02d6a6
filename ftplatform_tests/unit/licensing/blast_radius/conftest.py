"""An empty index on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftplatform.licensing.blast_radius.index import GraphIndex


@pytest.fixture
def sqlite_index(tmp_path: Path) -> Iterator[GraphIndex]:
    index = GraphIndex(tmp_path / "lineage.db")
    yield index
    index.close()


@pytest.fixture
def postgres_index(postgres_database: str) -> Iterator[GraphIndex]:
    index = GraphIndex(postgres_database)
    yield index
    index.close()


@pytest.fixture(params=["sqlite", "postgres"])
def index(request: pytest.FixtureRequest) -> GraphIndex:
    return request.getfixturevalue(f"{request.param}_index")
