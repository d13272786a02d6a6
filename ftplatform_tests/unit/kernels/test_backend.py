from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ftplatform.kernels
from ftplatform.kernels import backend
from ftplatform.kernels.backend import NUMBA_FROM_BYTES, VARIABLE, Compiled, KernelUnavailable, map_blocks, use_numba
from ftplatform_tests.projects import REPOSITORY

FOLDER = Path(ftplatform.kernels.__file__).parent


def test_large_work_is_compiled_and_small_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(backend, "_installed", lambda: True)
    monkeypatch.setattr(Compiled, "loaded", False)
    assert use_numba(NUMBA_FROM_BYTES)
    assert not use_numba(NUMBA_FROM_BYTES - 1)
    monkeypatch.setattr(Compiled, "loaded", True)
    assert use_numba(NUMBA_FROM_BYTES - 1)
    assert not use_numba(1000)


def test_without_numba_there_is_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(backend, "_installed", lambda: False)
    assert not use_numba(1 << 40)
    monkeypatch.setenv(VARIABLE, "numba")
    with pytest.raises(KernelUnavailable, match="not installed"):
        use_numba(1)


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_installed", lambda: True)
    monkeypatch.setenv(VARIABLE, "numba")
    assert use_numba(0)
    monkeypatch.setenv(VARIABLE, "numpy")
    assert not use_numba(1 << 40)
    monkeypatch.setenv(VARIABLE, "fortran")
    with pytest.raises(KernelUnavailable, match="'fortran'"):
        use_numba(0)


def test_numpy_kernels_never_import_numba() -> None:
    code = """
import sys, polars as pl
sys.modules["numba"] = None  # an import of it fails
from ftplatform.kernels.clusters import near_duplicate_clusters
found = near_duplicate_clusters(pl.Series(["a b c d e f", "A b, c d e f!", "a b c d e g"] * 50), 0.5)
print(found.cluster.max(), len(found.pairs.left))
"""
    environment = {**os.environ, VARIABLE: "numpy"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=True)
    assert done.stdout.split() == ["0", "1"]


def test_results_come_in_order_and_errors_come_through() -> None:
    assert list(map_blocks(lambda x: x * x, range(100), workers=3)) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(map_blocks(lambda x: 1 // x, [1, 0], workers=2))


def test_blocks_are_not_read_far_ahead() -> None:
    read: list[int] = []
    results = map_blocks(lambda x: x, (read.append(i) or i for i in range(1000)), workers=2)
    next(results)
    assert len(read) < 10
    results.close()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.name)
def test_kernels_stand_on_nothing_but_errors(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ftplatform"):
            assert node.module == "ftplatform.errors" or node.module.startswith("ftplatform.kernels")
