from __future__ import annotations

import importlib.util

import pytest

from ftplatform.kernels.backend import VARIABLE

NUMBA = pytest.param("numba", marks=pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is optional"))


@pytest.fixture(params=["numpy", NUMBA])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param
