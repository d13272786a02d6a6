from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from ftplatform_tests.postgres import postgres


@pytest.fixture(scope="package")
def postgres_server() -> Iterator[dict[str, str]]:
    """A Postgres server that asks for a password, as the environment that deploy/dagster.yaml reads."""
    password = "test-only"
    with postgres(password=password) as url:
        parts = make_url(url)
        yield {
            "DAGSTER_POSTGRES_HOST": str(parts.host),
            "DAGSTER_POSTGRES_PORT": str(parts.port),
            "DAGSTER_POSTGRES_USER": str(parts.username),
            "DAGSTER_POSTGRES_PASSWORD": password,
            "DAGSTER_POSTGRES_DB": str(parts.database),
        }
