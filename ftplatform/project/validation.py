"""From pydantic's errors to problems a person can act on: file, line, key, allowed values, nearest spelling."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ftplatform.project.credentials import shown
from ftplatform.project.models import Project
from ftplatform.project.problems import KeyPath, Problem, nearest
from ftplatform.project.yaml_source import Node, YamlDocument

_PLAIN_WORDS = {
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_parsing": "should be true or false",
    "string_type": "should be text",
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "list_type": "should be a list",
}
_SHAPE_ERRORS = frozenset({"string_type", "dict_type", "model_type", "list_type"})


def validate(document: YamlDocument) -> tuple[Project | None, list[Problem]]:
    """Check a document against the models.

    Returns:
        The project and its problems. With problems, the project is what remains when the wrong parts are taken out (None if
        too little remains), so that references can still be checked and everything is reported in one go.
    """
    data = document.root.plain()
    if not isinstance(data, dict):
        position = document.root.position
        message = "the project file must be a mapping of keys to values, starting with 'name: ...'"
        return None, [Problem(file=document.file, line=position.line, column=position.column, message=message)]
    try:
        return Project.model_validate(data), []
    except ValidationError as error:
        return _what_remains(data), _problems(document, error.errors(include_url=False))


def _problems(document: YamlDocument, errors: Sequence[ErrorDetails]) -> list[Problem]:
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    for error in errors:
        found, _, _ = document.walk(_location(error))
        path = (*found, str(error["loc"][-1])) if error["type"] == "missing" and len(found) == len(error["loc"]) - 1 else found
        grouped.setdefault(path, []).append(error)
    problems = []
    for path, group in grouped.items():
        _, position, node = document.walk(path)
        for error in _relevant(group, node):
            message, allowed, suggestion = _explain(error, path, node)
            problems.append(
                Problem(
                    file=document.file,
                    line=position.line,
                    column=position.column,
                    path=path,
                    message=message,
                    allowed=allowed,
                    suggestion=suggestion,
                )
            )
    # `bse:` for `base:` is one mistake, not an unknown key and a missing one.
    misspelled = {(*p.path[:-1], p.suggestion) for p in problems if p.message == "unknown key"}
    return [p for p in problems if not (p.message.startswith("missing") and p.path in misspelled)]


def _location(error: ErrorDetails) -> Sequence[str | int]:
    """The error's place in the file: pydantic adds ``[key]`` for a mapping's key and a tag for a member of a union."""
    return [part for part in error["loc"] if part != "[key]"]


def _relevant(errors: list[ErrorDetails], node: Node) -> Iterator[ErrorDetails]:
    """Of the errors at one place, those of the union member the user meant; each message once."""
    if len(errors) > 1:
        if node.text is not None:
            chosen = [e for e in errors if e["type"] not in _SHAPE_ERRORS]
        else:
            chosen = [e for e in errors if e["type"] not in ("literal_error", "enum")]
        errors = chosen or errors[:1]
    seen = set()
    for error in errors:
        if (identity := (error["type"], error["msg"])) not in seen:
            seen.add(identity)
            yield error


def _explain(error: ErrorDetails, path: KeyPath, node: Node) -> tuple[str, tuple[str, ...], str | None]:
    """Message, allowed values and suggestion of one error."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys_at(path[:-1])
        return "unknown key", allowed, nearest(str(path[-1]), allowed)
    if kind == "missing":
        return f"missing: the key {path[-1]!r} is required here", (), None
    got = f"; got {shown(node.text)}" if node.text is not None else f"; got a {'list' if node.items is not None else 'mapping'}"
    if kind in ("enum", "literal_error"):
        allowed = tuple(re.findall(r"'([^']*)'", str(context.get("expected", ""))))
        if node.text is None:
            return f"should be one word{got}", allowed, None
        return f"{shown(node.text)} is not accepted", allowed, nearest(node.text, allowed)
    if kind == "bool_parsing":
        return f"should be true or false{got}", ("true", "false"), nearest(node.text or "", ("true", "false"))
    if kind == "value_error":
        return str(context.get("error", error["msg"])), (), None
    if kind == "too_short":
        return f"needs at least {context.get('min_length', 1)} item", (), None
    if kind == "string_too_short":
        return "must not be empty", (), None
    return (_PLAIN_WORDS.get(kind) or error["msg"].removeprefix("Input ")) + got, (), None


def _keys_at(path: KeyPath) -> tuple[str, ...]:
    """Keys the model at `path` knows."""
    current: Any = Project
    for part in path:
        model = _model_in(current)
        if isinstance(model, type) and isinstance(part, str) and part in model.model_fields:
            current = model.model_fields[part].annotation
        else:
            arguments = get_args(_container_in(current))
            current = arguments[-1] if arguments else current
    model = _model_in(current)
    return tuple(model.model_fields) if model else ()


def _container_in(annotation: Any) -> Any:
    """The dict or list inside unions and `Annotated`."""
    if get_origin(annotation) in (dict, list):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _container_in(argument)) is not None), None)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside unions and `Annotated`, but not inside dicts and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, list):
        return None
    return next((found for argument in get_args(annotation) if (found := _model_in(argument)) is not None), None)


def _what_remains(data: Mapping[str, Any]) -> Project | None:
    """The project with misspelled keys put right and its wrong parts taken out, or None."""
    rest = copy.deepcopy(dict(data))
    # Taking out a wrong value can leave its block without a required key; the block then goes in the next round.
    for _ in range(8):
        try:
            return Project.model_validate(rest)
        except ValidationError as error:
            # Misspelled keys first: `bse:` put right is no longer missing.
            for detail in sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden"):
                _mend(rest, detail)
    return None


def _mend(data: dict[str, Any], error: ErrorDetails) -> None:
    blocks: list[Any] = [data]
    path: list[str | int] = []
    for part in _location(error):
        block = blocks[-1]
        if not isinstance(block, dict):
            break  # list items go with their list, so that the indexes of other lists stay those of the file
        if part not in block:
            if error["type"] != "missing":
                return  # taken out with an earlier error
            if not path:
                data["name"] = "unnamed"
                return
            path, blocks = path[:2], blocks[:3]
            break
        path.append(part)
        blocks.append(block[part])
    else:
        if error["type"] == "missing":
            return  # put right by a misspelled key
    if not path:
        return
    value = blocks[-2].pop(path[-1])
    if error["type"] == "extra_forbidden" and (right := nearest(str(path[-1]), _keys_at(tuple(path[:-1])))) is not None:
        blocks[-2].setdefault(right, value)
