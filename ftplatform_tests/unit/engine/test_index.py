from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.dedup_corpus import corpus, sources
from ftplatform.engine.errors import IndexBusy, IndexDamaged
from ftplatform.engine.executors import Executor, SerialExecutor
from ftplatform.engine.pipeline import Settings, Summary, near_duplicates
from ftplatform.errors import InputDataError
from ftplatform.kernels.header import SketchMismatch
from ftplatform_tests.unit.engine.corpora import Text, assert_same, expected, write_parts

SETTINGS = Settings(0.7)


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[Text]:
    return corpus(sources(shared_data), 1200, seed=5)["text"].to_pylist()


@pytest.fixture
def parts(tmp_path: Path, texts: list[Text]) -> list[Path]:
    return write_parts(tmp_path, texts, [500, 800])


def run(parts: list[Path], tmp_path: Path, executor: Executor | None = None, settings: Settings = SETTINGS) -> Summary:
    return near_duplicates(parts, tmp_path / "out", executor or SerialExecutor(), settings, index=tmp_path / "index")


def test_new_parts_meet_old_ones_that_are_gone(tmp_path: Path, parts: list[Path], texts: list[Text], executor: Executor) -> None:
    assert run(parts[:1], tmp_path, executor).sketched == 1
    assert_same(tmp_path / "out", expected(texts[:500], SETTINGS))
    parts[0].unlink()
    added = run(parts[1:], tmp_path, executor)
    assert (added.sketched, added.parts, added.rows) == (2, 3, 1200)
    assert_same(tmp_path / "out", expected(texts, SETTINGS))
    again = run([], tmp_path, executor)
    assert (again.sketched, again.clusters) == (0, added.clusters)
    assert_same(tmp_path / "out", expected(texts, SETTINGS))


def test_a_part_given_again_counts_once(tmp_path: Path, parts: list[Path], texts: list[Text]) -> None:
    run(parts, tmp_path)
    assert run([parts[1], parts[0], parts[1]], tmp_path).sketched == 0
    assert_same(tmp_path / "out", expected(texts, SETTINGS))


def test_other_settings_are_refused_by_name(tmp_path: Path, parts: list[Path]) -> None:
    run(parts, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "index").iterdir()}
    with pytest.raises(SketchMismatch, match=r"index have bands \d+ instead of \d+, rows \d+ instead of \d+"):
        run([], tmp_path, settings=Settings(0.9))
    with pytest.raises(SketchMismatch, match=r"index have seed 1 instead of 2\."):
        run([], tmp_path, settings=Settings(0.7, seed=2))
    with pytest.raises(SketchMismatch, match=r"index have width 3 instead of 4\."):
        run([], tmp_path, settings=Settings(0.7, width=4))
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "index").iterdir() if file.name != ".lock"}
    assert after == {file: at for file, at in before.items() if file.name != ".lock"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "ftplatform.sketch_index/9"}'])
def test_a_manifest_that_is_none(tmp_path: Path, parts: list[Path], content: str) -> None:
    run(parts, tmp_path)
    (tmp_path / "index" / "manifest.json").write_text(content)
    with pytest.raises(IndexDamaged, match=r"manifest\.json is no manifest"):
        run([], tmp_path)


def test_a_manifest_cannot_point_elsewhere(tmp_path: Path, parts: list[Path]) -> None:
    run(parts, tmp_path)
    manifest = tmp_path / "index" / "manifest.json"
    name = next(file.stem for file in (tmp_path / "index").glob("*.sets"))
    manifest.write_text(manifest.read_text().replace(name, "../" + name))
    with pytest.raises(IndexDamaged):
        run([], tmp_path)


def test_a_part_that_does_not_fit_is_not_taken_in(tmp_path: Path, parts: list[Path]) -> None:
    run(parts[:1], tmp_path)
    other = tmp_path / "numbered.parquet"
    pq.write_table(pa.table({"row_id": [1, 2], "text": ["one", "two"]}), other)
    with pytest.raises(InputDataError, match="ids are of different types"):
        run([other], tmp_path)
    assert run(parts[1:], tmp_path).rows == 1200


def test_a_sketch_that_is_missing(tmp_path: Path, parts: list[Path]) -> None:
    run(parts, tmp_path)
    next((tmp_path / "index").glob("*.parquet")).unlink()
    with pytest.raises(IndexDamaged, match="cannot be read"):
        run([], tmp_path)


def test_one_writer_at_a_time(tmp_path: Path, parts: list[Path]) -> None:
    run(parts[:1], tmp_path)
    with (tmp_path / "index" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(IndexBusy, match="index"):
            run(parts, tmp_path)
    run(parts, tmp_path)


def test_kill_between_files_leaves_the_old_index_and_the_finished_sketch(
    tmp_path: Path, parts: list[Path], texts: list[Text]
) -> None:
    index = tmp_path / "index"
    run(parts[:1], tmp_path)
    manifest = (index / "manifest.json").read_bytes()
    pipe = tmp_path / "last.parquet"
    os.mkfifo(pipe)  # nobody writes to it: whoever reads the last part waits there to be killed
    command = [sys.executable, "-m", "ftplatform.engine", str(parts[1]), str(pipe), "--out", str(tmp_path / "out2")]
    options = ["--index", str(index), "--executor", "serial", "--threshold", "0.7"]
    writer = subprocess.Popen(command + options)
    until = time.monotonic() + 60
    while len([*index.glob("*.parquet")]) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    assert len([*index.glob("*.parquet")]) == 2
    assert [*index.glob(".unfinished-*")], "it was killed in the middle"
    assert (index / "manifest.json").read_bytes() == manifest
    run([], tmp_path)
    assert_same(tmp_path / "out", expected(texts[:500], SETTINGS))
    assert not [*index.glob(".unfinished-*")]
    resumed = run(parts[1:], tmp_path)
    assert (resumed.sketched, resumed.parts) == (1, 3)
    assert_same(tmp_path / "out", expected(texts, SETTINGS))
