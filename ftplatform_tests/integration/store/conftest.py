"""Stores on a real S3 API."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from ftplatform.store import Store
from ftplatform_tests.s3 import BUCKET, S3Server


@pytest.fixture
def open_s3(s3_server: S3Server, prefix: str, tmp_path: Path) -> Callable[..., Store]:
    """Opens the test's store anew, each time with an empty cache; give `url` to go through a proxy."""

    def open_store(url: str = s3_server.url, **options: str) -> Store:
        settings = {
            "endpoint_url": url,
            "region": "us-east-1",
            "connect_timeout": "2",
            "read_timeout": "5",
            "deadline": "20",
            **options,
        }
        return Store.open(f"s3://{BUCKET}/{prefix}", settings, cache_dir=tmp_path / uuid.uuid4().hex)

    return open_store
