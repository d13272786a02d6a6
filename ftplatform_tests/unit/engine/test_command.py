from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ftplatform.engine.__main__ import main
from ftplatform.engine.pipeline import Settings
from ftplatform_tests.unit.engine.corpora import assert_same, expected, write_parts

TEXTS = ["the same words as ever and ever", "The same words: as ever, and ever!", "nothing like the others here", None]


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    write_parts(tmp_path, TEXTS, [1])
    command = [sys.executable, "-m", "ftplatform.engine", str(tmp_path), "--out", str(tmp_path / "out" / "clusters.parquet")]
    done = subprocess.run([*command, "--executor", "process", "--workers", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 rows in 2 parts (2 read): 3 clusters; 1 rows are represented by another one.\n"
    assert "sketch 2/2" in done.stderr
    assert_same(tmp_path / "out" / "clusters.parquet", expected(TEXTS, Settings()))


def test_an_error_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (part,) = write_parts(tmp_path, TEXTS)
    assert main([str(part), "--out", str(tmp_path / "out"), "--text", "body"]) == 2
    said = capsys.readouterr().err
    assert "has no column body" in said
    assert "Traceback" not in said
    assert main([str(part), "--out", str(tmp_path / "out"), "--threshold", "7"]) == 2
    assert main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
