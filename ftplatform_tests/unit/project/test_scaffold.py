from __future__ import annotations

from pathlib import Path

import pytest

from ftplatform.errors import ProjectError
from ftplatform.project import scaffold
from ftplatform.project.loading import FILE_NAME, load_project
from ftplatform.project.references import check_files
from ftplatform.project.scaffold import bundled_project, init_project


def test_a_new_project_is_valid_and_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "new"
    file = init_project(target)
    assert file == target / FILE_NAME
    loaded = load_project(file)
    assert check_files(loaded) == []
    assert loaded.digest == load_project(bundled_project()).digest


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_runs_leave_behind_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = tmp_path / "used"
    init_project(used)
    clean = files(used)
    for litter in (".ftplatform/store/x", "__pycache__/y.pyc", ".tmp_dagster_home_ab/z", "recipe/cache/w", ".keep"):
        (used / litter).parent.mkdir(parents=True, exist_ok=True)
        (used / litter).write_text("litter")
    monkeypatch.setattr(scaffold, "bundled_project", lambda: used)
    init_project(tmp_path / "new")
    assert files(tmp_path / "new") == clean


def test_a_project_is_never_overwritten(tmp_path: Path) -> None:
    init_project(tmp_path)
    before = files(tmp_path)
    with pytest.raises(ProjectError, match="already holds a project"):
        init_project(tmp_path)
    assert files(tmp_path) == before


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    init_project(tmp_path / "first")
    obstacle = min(set(files(tmp_path / "first")) - {Path(FILE_NAME)})
    target = tmp_path / "second"
    (target / obstacle).parent.mkdir(parents=True)
    (target / obstacle).write_text("mine")
    with pytest.raises(ProjectError, match="is in the way"):
        init_project(target)
    assert files(target) == {obstacle: b"mine"}


def test_an_interrupted_copy_can_be_repeated(tmp_path: Path) -> None:
    init_project(tmp_path)
    complete = files(tmp_path)
    for file in [Path(FILE_NAME), *sorted(complete)[::2]]:
        (tmp_path / file).unlink(missing_ok=True)
    init_project(tmp_path)
    assert files(tmp_path) == complete


def test_other_files_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    init_project(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ProjectError, match="is not a folder"):
        init_project(tmp_path / "x")
    with pytest.raises(ProjectError, match="cannot be written"):
        init_project(tmp_path / "x" / "below")
