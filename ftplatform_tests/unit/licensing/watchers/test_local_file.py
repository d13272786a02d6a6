"""License files beside a local corpus."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ftplatform.licensing.states import State
from ftplatform.licensing.watchers.local_file import LocalFileWatcher
from ftplatform_tests.unit.licensing.watchers.test_git import APACHE, MIT, NC


def test_files_beside_the_corpus_and_named_ones_are_watched(tmp_path: Path, now: datetime) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "LICENSE").write_text(MIT)
    (tmp_path / "data" / "rows.jsonl").write_text("{}")
    (tmp_path / "contract.pdf").write_bytes(b"%PDF-1.7 scan")
    watcher = LocalFileWatcher("raw/x", tmp_path, folder="data", files=["contract.pdf"])
    first = watcher.look(None, now)
    (seen,) = first.observations
    assert (seen.state, seen.declared) == (State.ACTIVE, ("MIT",))
    assert {e.uri for e in seen.exhibits} == {"data/LICENSE", "contract.pdf"}
    assert watcher.look(first.cursor, now).observations == ()

    (tmp_path / "data" / "LICENSE").write_text(MIT.replace("2023", "2026").replace(" ", "\n"))
    assert watcher.look(first.cursor, now).observations == (), "year and line breaks"

    (tmp_path / "contract.pdf").write_bytes(b"%PDF-1.7 another")
    second = watcher.look(first.cursor, now)
    assert second.observations[0].detail["changes"] == {"contract.pdf": {"kind": "changed"}}

    (tmp_path / "data" / "LICENSE").unlink()
    third = watcher.look(second.cursor, now)
    assert third.observations[0].state is State.RELICENSED
    assert third.observations[0].detail["changes"] == {"data/LICENSE": {"kind": "removed"}}


def test_contradicting_files_are_disputed(tmp_path: Path, now: datetime) -> None:
    (tmp_path / "LICENSE").write_text(APACHE)
    (tmp_path / "DATA_LICENSE.md").write_text(NC)
    (seen,) = LocalFileWatcher("raw/x", tmp_path, folder=".").look(None, now).observations
    assert seen.state is State.DISPUTED


def test_what_cannot_be_read_changes_nothing(tmp_path: Path, now: datetime) -> None:
    nothing = LocalFileWatcher("raw/x", tmp_path, folder=".").look(None, now)
    assert (nothing.looked, nothing.observations, nothing.problem) == (False, (), "no license file was found")
    missing = LocalFileWatcher("raw/x", tmp_path, files=["contract.txt"]).look(None, now)
    assert (missing.looked, missing.problem) == (False, "contract.txt does not exist")
    (tmp_path / "LICENSE").write_text(MIT)
    first = LocalFileWatcher("raw/x", tmp_path, files=["LICENSE"]).look(None, now)
    (tmp_path / "LICENSE").unlink()
    os.mkfifo(tmp_path / "LICENSE")
    blocked = LocalFileWatcher("raw/x", tmp_path, files=["LICENSE"]).look(first.cursor, now)
    assert (blocked.looked, blocked.observations, blocked.cursor) == (False, (), first.cursor)
    (tmp_path / "LICENSE").unlink()
    (tmp_path / "LICENSE").write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    large = LocalFileWatcher("raw/x", tmp_path, files=["LICENSE"]).look(first.cursor, now)
    assert (large.looked, large.observations) == (False, ())
    gone = LocalFileWatcher("raw/x", tmp_path, folder="nowhere").look(first.cursor, now)
    assert (gone.looked, gone.observations) == (False, ())
