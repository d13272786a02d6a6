"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.storage.defs_state.base import DefsStateStorage
from hypothesis import settings

# Two processes with two OpenMP threads each on two cores run several times slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Workers are told the width of somebody's terminal; tables are read as they stand in a pipe.
os.environ["COLUMNS"] = "160"

# A busy machine makes single examples slow; what counts is whether they hold.
# A verdict on a commit must not depend on the draw; `--hypothesis-profile=explore` looks for new examples.
settings.register_profile("ftplatform", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("ftplatform")

#: Fixtures of a real S3 API: `s3_server`, `prefix`, `proxy`.
pytest_plugins = ["ftplatform_tests.s3"]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def no_instance_stays_entered() -> Iterator[None]:
    """Each module starts and ends without a current Dagster instance.

    A sensor or schedule context that is not closed leaves its instance entered until it is garbage-collected, which then
    puts back whatever was current before: definitions of any later module load from an instance that is gone.
    """
    assert DefsStateStorage.get() is None, "an earlier module left a Dagster instance entered: close its contexts with `with`"
    yield
    assert DefsStateStorage.get() is None, "this module left a Dagster instance entered: close its contexts with `with`"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data with known answers, kept beside the checkout."""
    for parent in Path(__file__).resolve().parents:
        candidate = parent / "shared" / "data"
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError("shared/data not found beside the checkout: place the shared folder next to it")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a database on a real Postgres server that lives as long as the test session."""
    from ftplatform_tests.postgres import postgres

    with postgres() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """URL of an empty database of its own on that server."""
    from ftplatform_tests.postgres import new_database

    return new_database(postgres_url)
