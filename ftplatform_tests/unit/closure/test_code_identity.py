"""What the code was: trees, commits, packages."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import pytest

from ftplatform.closure.code_identity import package_root, project_identity, tree_identity, unpack_tree
from ftplatform.closure.lint import lint
from ftplatform.closure.packages import installed_packages, normalized_name
from ftplatform.errors import FtplatformError
from ftplatform_tests.unit.closure.factories import git, small_package

needs_git = pytest.mark.usefixtures("git_is_installed")


@pytest.fixture(scope="module")
def git_is_installed() -> None:
    assert shutil.which("git"), "these tests need git"


def test_tree_does_not_depend_on_place_time_or_caches(tmp_path: Path) -> None:
    root = small_package(tmp_path / "a")
    first = tree_identity(root)
    copy = tmp_path / "b" / "elsewhere"
    shutil.copytree(root, copy)
    os.utime(copy / "__init__.py", (1, 1))
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"\x00")
    assert tree_identity(copy) == first
    assert [path for path, _ in first.files] == ["__init__.py", "inner/code.py"]


@pytest.mark.parametrize("change", ["edit", "add", "rename", "remove"])
def test_any_change_of_the_tree_changes_its_digest(tmp_path: Path, change: str) -> None:
    root = small_package(tmp_path)
    first = tree_identity(root)
    match change:
        case "edit":
            (root / "inner" / "code.py").write_text("def f():\n    return 2\n")
        case "add":
            (root / "new.yaml").write_text("a: b\n")
        case "rename":
            (root / "inner" / "code.py").rename(root / "inner" / "edoc.py")
        case "remove":
            (root / "inner" / "code.py").unlink()
    second = tree_identity(root)
    assert second.digest != first.digest
    assert second.archive != first.archive


def test_the_archive_brings_the_tree_back(tmp_path: Path) -> None:
    first = tree_identity(small_package(tmp_path))
    unpack_tree(first.archive, tmp_path / "again")
    assert tree_identity(tmp_path / "again") == first


def test_links_out_of_the_tree_and_empty_trees_are_refused(tmp_path: Path) -> None:
    root = small_package(tmp_path)
    (tmp_path / "secret").write_text("x")
    (root / "link.py").symlink_to(tmp_path / "secret")
    with pytest.raises(FtplatformError, match=r"link\.py"):
        tree_identity(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FtplatformError, match="no files"):
        tree_identity(tmp_path / "empty")


def test_the_installed_package_has_an_identity() -> None:
    found = tree_identity(package_root())
    paths = {path for path, _ in found.files}
    assert {"__init__.py", "canonical.py", "licensing/default_policy.yaml"} <= paths
    assert not any("__pycache__" in path for path in paths)


@needs_git
def test_a_tracked_project_has_a_commit_and_a_state(tmp_path: Path) -> None:
    project = tmp_path / "work" / "ftplatform.yaml"
    project.parent.mkdir()
    project.write_text("name: demo\n")
    git(tmp_path, "init", "-q")
    untracked = project_identity(project)
    assert (untracked.vcs, untracked.commit, untracked.data) == ("none", None, b"name: demo\n")
    git(tmp_path, "add", "-A")
    assert project_identity(project).vcs == "none", "before the first commit there is nothing to name"
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = project_identity(project)
    assert (clean.vcs, clean.dirty, clean.path) == ("git", False, "work/ftplatform.yaml")
    assert clean.commit == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("untracked files are not code")
    assert project_identity(project).dirty is False
    project.write_text("name: demo2\n")
    assert project_identity(project).dirty is True
    git(tmp_path, "add", "-A")
    assert project_identity(project).dirty is True, "staged is not committed"


@needs_git
def test_git_of_the_repository_runs_no_programs_of_its_choosing(tmp_path: Path) -> None:
    project = tmp_path / "ftplatform.yaml"
    project.write_text("name: demo\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    marker = tmp_path / "ran"
    git(tmp_path, "config", "core.fsmonitor", f"touch {marker}; false")
    assert project_identity(project).vcs == "git"
    assert not marker.exists()


def test_without_git_the_file_is_its_own_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "ftplatform.yaml"
    project.write_bytes(b"name: demo\n")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    found = project_identity(project)
    assert (found.vcs, found.commit, found.dirty, found.data) == ("none", None, None, b"name: demo\n")


@needs_git
def test_a_git_environment_of_somebody_else_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    project = tmp_path / "plain" / "ftplatform.yaml"
    project.parent.mkdir()
    project.write_text("name: demo\n")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert project_identity(project).vcs == "none"


def test_installed_packages_are_the_ones_python_reports() -> None:
    found = installed_packages()
    for name in ("numpy", "pyarrow", "ftplatform"):
        assert found.versions[name] == importlib.metadata.version(name)
    assert found.lock.decode().splitlines() == [f"{n}=={v}" for n, v in sorted(found.versions.items())]
    # Every version that is really installed here counts as pinned.
    assert lint({"environment": {"packages": dict(found.versions)}}) == []


def test_installs_that_no_index_holds_are_recorded_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {
        "from-folder": {"url": "file:///x", "dir_info": {}},
        "from-working-copy": {"url": "file:///x", "dir_info": {"editable": True}},
        "from-git": {"url": "https://h/x.git", "vcs_info": {"vcs": "git", "commit_id": "a" * 40, "requested_revision": "main"}},
        "from-wheel": {"url": "https://h/x.whl", "archive_info": {"hashes": {"sha256": "b" * 64}}},
        "from-loose-wheel": {"url": "https://h/x.whl", "archive_info": {}},
    }
    for name, record in records.items():
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "direct_url.json").write_text(json.dumps(record))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {d.name: (d.kind, d.pin) for d in installed_packages().direct if d.name in records}
    assert found == {
        "from-folder": ("folder", None),
        "from-working-copy": ("editable", None),
        "from-git": ("vcs", "a" * 40),
        "from-wheel": ("archive", f"sha256={'b' * 64}"),
        "from-loose-wheel": ("archive", None),
    }


def test_names_are_normalized() -> None:
    assert normalized_name("Foo__Bar.baz") == "foo-bar-baz"
