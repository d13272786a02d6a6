"""What a project file points to: present, readable, and of the right kind. Local things are looked at, remote ones are not."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from ftplatform.project.behavior import load_behavior_policy
from ftplatform.project.credentials import shown
from ftplatform.project.places import uris
from ftplatform.project.problems import Problem, ProjectFileError, nearest
from ftplatform.project.synthesis import generation_places
from ftplatform.project.uris import SourceUri, parse_source_uri

if TYPE_CHECKING:
    from ftplatform.project.loading import LoadedProject

#: Weights in these formats run code when they are loaded.
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def check_files(loaded: LoadedProject) -> list[Problem]:
    """Everything that is wrong with what the project points to, in the order of the file.

    Data files and patterns must exist, be regular, readable and not empty; license texts and the policy as well; a base model's
    folder must hold a configuration, a tokenizer and safetensors weights and no code; readers must be installed. Patterns of
    training data and eval sets must not lead to the same file. Remote URIs are not contacted.
    """
    problems: list[Problem] = []
    for path, text, kind in (*uris(loaded.project), *generation_places(loaded.project)):
        uri = parse_source_uri(text)
        if kind == "store" or not uri.is_local:
            continue
        if kind == "encoder":
            found = _encoder_problems(uri.local(loaded.root))
        else:
            found = _model_problems(uri.local(loaded.root)) if kind == "model" else _file_problems(uri, loaded.root)
        problems += [loaded.problem(path, message) for message in found]
    problems += _behavior_problems(loaded)
    problems += _reader_problems(loaded)
    problems += _shared_with_exams(loaded)
    return sorted(problems, key=lambda p: (p.line, p.column, p.message))


def expand(uri: SourceUri, root: Path) -> list[Path]:
    """Local files behind a URI, sorted: all matches of a pattern, or the one path whether it exists or not."""
    if not uri.is_glob:
        return [uri.local(root)]
    return [
        Path(match)
        for match in sorted(glob.glob(str(uri.local(Path(glob.escape(str(root))))), recursive=True))
        if os.path.isfile(match)
    ]


def _file_problems(uri: SourceUri, root: Path) -> Iterator[str]:
    paths = expand(uri, root)
    if not paths:
        yield f"the pattern {shown(uri.text)} matches no file below {root}"
    for path in paths:
        if message := _unreadable(path):
            yield message


def _encoder_problems(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        yield f"there is no folder {folder}"
    elif not (folder / "modules.json").is_file():
        yield f"{folder} is no sentence-transformers model: it has no modules.json"


def _unreadable(path: Path) -> str | None:
    if not path.exists():
        if path.is_symlink():
            return f"{path} is a link to nothing"
        near = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else None
        return f"there is no file {path}" + (f"; did you mean {near!r}?" if near else "")
    if path.is_dir():
        return f"{path} is a folder; name files in it, e.g. with a pattern"
    if not path.is_file():
        return f"{path} is not a regular file"
    try:
        with path.open("rb") as file:
            return None if file.read(1) else f"{path} is empty"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"


def _model_problems(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        yield f"there is no folder {folder} with a base model"
        return
    if (message := _unreadable(folder / "config.json") or _config_problem(folder / "config.json")) is not None:
        yield message
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        yield f"{folder} holds no tokenizer ({', '.join(_TOKENIZERS)})"
    if not list(folder.glob("*.safetensors")):
        pickled = sorted(match.name for pattern in _PICKLED for match in folder.glob(pattern))
        hint = f"; {pickled[0]} is a pickle, which can run code: convert it" if pickled else ""
        yield f"{folder} holds no *.safetensors weights{hint}"


def _config_problem(path: Path) -> str | None:
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        return f"{path} is not JSON: {error}"
    if not isinstance(config, dict):
        return f"{path} is not a JSON object"
    if "auto_map" in config:
        return f"{path} asks for code of its own ('auto_map'), which is never run; use a model of an architecture the library knows"
    return None


def _behavior_problems(loaded: LoadedProject) -> Iterator[Problem]:
    """What is wrong inside the behavior policy, with its lines; a file that is not there is told by `_file_problems`."""
    uri = loaded.project.behavior_policy
    if uri is None or not (path := parse_source_uri(uri).local(loaded.root)).is_file():
        return
    try:
        reference = load_behavior_policy(path.read_bytes(), file=uri).voice.reference
    except ProjectFileError as error:
        yield from error.problems
        return
    if reference is not None and reference not in loaded.project.sources:
        near = nearest(reference, loaded.project.sources)
        yield loaded.problem(
            ("behavior_policy",),
            f"{shown(uri)} names the source {shown(reference)} as voice.reference, which is not declared under 'sources'"
            + (f"; did you mean {near!r}?" if near else ""),
        )


def _reader_problems(loaded: LoadedProject) -> Iterator[Problem]:
    installed: tuple[str, ...] | None = None
    for section in ("sources", "synthetic", "feedback", "eval_sets"):
        for name, block in getattr(loaded.project, section).items():
            if block.reader is None:
                continue
            if installed is None:
                installed = tuple(sorted(entry.name for entry in entry_points(group="ftplatform.readers")))
            if block.reader not in installed:
                near = nearest(block.reader, installed)
                yield loaded.problem(
                    (section, name, "reader"),
                    f"no reader {shown(block.reader)} is installed"
                    + (f"; did you mean {near!r}?" if near else "")
                    + f" installed: {', '.join(installed)}",
                )


def _shared_with_exams(loaded: LoadedProject) -> Iterator[Problem]:
    """Files that both a training source and an eval set lead to, through whatever patterns and links."""
    project = loaded.project
    exams: dict[Path, str] = {}
    for name, eval_set in project.eval_sets.items():
        for text in eval_set.path:
            uri = parse_source_uri(text)
            if uri.is_local:
                exams.update({path.resolve(): name for path in expand(uri, loaded.root)})
    trained = {(s, n) for d in project.datasets.values() for s in ("sources", "synthetic", "feedback") for n in getattr(d, s)}
    trained |= {("sources", a.safety_mix.source) for a in project.adapters.values() if a.safety_mix is not None}
    for section, name in sorted(trained):
        for index, text in enumerate(getattr(project, section)[name].path):
            uri = parse_source_uri(text)
            for path in expand(uri, loaded.root) if uri.is_local else ():
                if path.resolve() in exams:
                    yield loaded.problem(
                        (section, name, "path", index),
                        f"{path} is trained on and belongs to eval set {exams[path.resolve()]!r}; keep them apart",
                    )
