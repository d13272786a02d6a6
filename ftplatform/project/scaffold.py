"""A new project for a new user: the bundled one, copied."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path

import ftplatform
from ftplatform.errors import ProjectError
from ftplatform.project.loading import FILE_NAME

#: What runs and editors leave behind; never part of a new project.
_LEFT_OUT = frozenset({".ftplatform", "__pycache__", ".keep", ".DS_Store", ".git"})
_LEFT_OUT_PREFIXES = (".tmp_dagster_home_", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".cache", "cache")


def bundled_project() -> Path:
    """Folder of the project that comes with the package: inside the wheel, or beside the package in a checkout.

    Raises:
        ProjectError: if the installation lacks it.
    """
    package = Path(ftplatform.__file__).parent
    for folder in (package / "examples" / "support", package.parent / "examples" / "support"):
        if (folder / FILE_NAME).is_file():
            return folder
    raise ProjectError("The bundled project is missing from this installation.", remedy="Reinstall the package.")


def init_project(directory: Path | str) -> Path:
    """Write a runnable project into `directory`, which is created if need be.

    No file is overwritten. The project file is written last, so that a copy that was interrupted can be repeated.

    Returns:
        The new project file.

    Raises:
        ProjectError: if there is a project already, or a file of another content is in the way; nothing is written then.
    """
    directory = Path(directory)
    if (directory / FILE_NAME).exists():
        raise ProjectError(f"{directory} already holds a project.", remedy="Choose another folder.")
    if directory.exists() and not directory.is_dir():
        raise ProjectError(f"{directory} is not a folder.", remedy="Choose another name.")
    source = bundled_project()
    files = sorted(_files(source), key=lambda file: (file == Path(FILE_NAME), file))
    for file in files:
        target = directory / file
        if target.exists() and not (target.is_file() and filecmp.cmp(source / file, target, shallow=False)):
            raise ProjectError(f"{target} is in the way.", remedy="Choose an empty folder.")
    for file in files:
        target = directory / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target)
        except OSError as error:
            raise ProjectError(f"{target} cannot be written: {error.strerror}.", remedy="Choose another folder.") from error
    return directory / FILE_NAME


def _files(folder: Path) -> Iterator[Path]:
    """Files of the bundled project, relative to it, without what runs leave behind."""
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        kept = not any(part in _LEFT_OUT or part.startswith(_LEFT_OUT_PREFIXES) or part.endswith(".pyc") for part in relative.parts)
        if kept and path.is_file():
            yield relative
