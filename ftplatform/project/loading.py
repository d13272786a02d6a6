"""From a file on disk to a checked project."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftplatform.canonical import sha256_hex
from ftplatform.errors import ProjectError
from ftplatform.project.check_names import KNOWN_CHECKS
from ftplatform.project.models import Project
from ftplatform.project.problems import KeyPath, Problem, ProjectFileError
from ftplatform.project.references import check_references
from ftplatform.project.uris import parse_source_uri
from ftplatform.project.validation import validate
from ftplatform.project.yaml_source import MAX_BYTES, YamlDocument, parse_yaml

#: Name of the project file.
FILE_NAME = "ftplatform.yaml"
#: Environment variable that names the project file (or its folder) for processes that take no arguments, such as code servers.
PROJECT_VARIABLE = "FTPLATFORM_PROJECT"


@dataclass(frozen=True, slots=True)
class LoadedProject:
    """A project and where it came from.

    Attributes:
        project: the validated models.
        path: the file, absolute.
        root: its folder; relative paths in the file start here.
        digest: SHA-256 (hex) of the file's bytes.
        document: the file with the position of every key.
        warnings: what is probably not meant, but can be run.
    """

    project: Project
    path: Path
    root: Path
    digest: str
    document: YamlDocument
    warnings: tuple[Problem, ...] = ()

    def line_of(self, path: Sequence[str | int]) -> int:
        """Line of the key at `path`, e.g. ``("sources", "tickets", "license")``; of the nearest key above if it is absent."""
        return self.document.position(path).line

    def resolve(self, uri: str) -> str:
        """What to open for a URI of the file: an absolute local path, or the URL as it is.

        Raises:
            UnsafeUri: if `uri` is neither.
        """
        return parse_source_uri(uri).resolved(self.root)

    def problem(self, path: KeyPath, message: str, *, warning: bool = False) -> Problem:
        """A problem of this file at the key `path`."""
        position = self.document.position(path)
        return Problem(
            file=self.document.file,
            line=position.line,
            column=position.column,
            path=path,
            message=message,
            severity="warning" if warning else "error",
        )


def project_path(given: Path | str | None = None) -> Path:
    """The project file that is meant.

    The given file or folder, else that of `FTPLATFORM_PROJECT`, else the first `ftplatform.yaml` in the working directory or on
    Python's path: Dagster puts the `working_directory` of a workspace there, and does not change into it.
    """
    path = Path(given or os.environ.get(PROJECT_VARIABLE) or FILE_NAME)
    if not given and not os.environ.get(PROJECT_VARIABLE) and not path.is_file():
        path = next((file for folder in sys.path if (file := Path(folder) / FILE_NAME).is_file()), path)
    return path / FILE_NAME if path.is_dir() else path


def load_project(path: Path | str, *, known_checks: Collection[str] = KNOWN_CHECKS) -> LoadedProject:
    """Read and check a project file; nothing it points to is opened (see `references.check_files`).

    Args:
        path: the file, or the folder that holds an `ftplatform.yaml`.
        known_checks: names that `gates` may override.

    Raises:
        ProjectFileError: with every problem found, each with its line.
        ProjectError: if there is no such file or it cannot be read.
    """
    path = project_path(path)
    data = _read(path)
    document, problems = parse_yaml(data, _shown_name(path))
    if document is None:
        raise ProjectFileError(problems)
    project, invalid = validate(document)
    if project is not None:
        invalid += check_references(project, document, known_checks=known_checks)
    # What was already said about a value by its syntax is not said again by its type.
    said = {(problem.path, problem.line, problem.column) for problem in problems}
    problems += [problem for problem in invalid if (problem.path, problem.line, problem.column) not in said]
    if project is None or any(problem.severity == "error" for problem in problems):
        raise ProjectFileError(problems)
    absolute = path.absolute()
    return LoadedProject(project, absolute, absolute.parent, sha256_hex(data), document, tuple(problems))


def _read(path: Path) -> bytes:
    if not path.exists():
        raise ProjectError(
            f"There is no project file {path}.", remedy="Create one with 'ftplatform init DIR', or name the folder that holds it."
        )
    if not path.is_file():
        raise ProjectError(f"{path} is not a file.", remedy="Name the project file or its folder.")
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}.", remedy="Check its permissions.") from error


def _shown_name(path: Path) -> str:
    """The file's name as a person in the working directory would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
