"""The JSON Schema of `ftplatform.yaml`, from the models: editors complete and check from it while the user types."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ftplatform.project.check_names import KNOWN_CHECKS
from ftplatform.project.models import Project

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: What pydantic takes for a truth value when it is text; spelled out because JavaScript has no inline `(?i)`.
_TRUTH = ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n")
_BOOLEAN_WORDS = "|".join("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in _TRUTH)
_NUMBER_WORDS = {"integer": r"^[+-]?[0-9]+$", "number": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a project file; descriptions are the docstrings of the models' attributes.

    An editor's YAML parser guesses types and ours does not, so `equals: 3`, `rank: "16"` and `license: no` are accepted in either
    form. `null` is not: an absent key is the way to say nothing. Limits of numbers hold for numbers only; cross references are
    beyond a schema and are checked by `load_project`.
    """
    schema = Project.model_json_schema(mode="validation")
    properties = {name: _loosened(definition) for name, definition in schema.pop("$defs").items()}
    top = _loosened(schema)
    top.pop("description", None)
    top["properties"]["gates"]["propertyNames"] = {"enum": list(KNOWN_CHECKS)}
    return {
        "$schema": _DRAFT,
        "title": "ftplatform project file",
        "description": "The data, licenses, base models, adapters and evaluations of a fine-tuning project.",
        **{key: value for key, value in top.items() if key != "title"},
        "$defs": properties,
    }


def _loosened(node: Any) -> Any:
    """The schema of a value as an editor sees it: text or number, never null."""
    if isinstance(node, list):
        return [_loosened(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    rest = copy.deepcopy(dict(node))
    options = rest.get("anyOf")
    if options is not None and {"type": "null"} in options:
        kept = [option for option in options if option != {"type": "null"}]
        del rest["anyOf"]
        rest = {**(kept[0] if len(kept) == 1 else {"anyOf": kept}), **rest}
    if rest.get("default", ...) is None:
        del rest["default"]
    if isinstance(rest.get("default"), dict):
        del rest["default"]  # the defaults of a block are those of its keys
    rest.pop("title", None)
    if "patternProperties" in rest:
        # `propertyNames` lets an editor say that a name is wrong; with `patternProperties` alone a wrong name goes unchecked.
        ((pattern, value),) = rest.pop("patternProperties").items()
        rest["additionalProperties"] = value
        rest["propertyNames"] = {"pattern": pattern, **rest.get("propertyNames", {})}
    for key in ("properties", "$defs"):
        if key in rest:
            rest[key] = {name: _loosened(value) for name, value in rest[key].items()}
    for key in ("anyOf", "items", "additionalProperties"):
        if key in rest:
            rest[key] = _loosened(rest[key])
    return _either_form(rest)


def _either_form(node: dict[str, Any]) -> dict[str, Any]:
    kind = node.get("type")
    if kind == "string" and "enum" not in node and "const" not in node and "pattern" not in node:
        return {**node, "type": ["string", "number", "boolean"]}
    if kind == "boolean":
        return {**node, "type": ["boolean", "string"], "pattern": f"^({_BOOLEAN_WORDS}|1|0)$"}
    if kind in _NUMBER_WORDS:
        return {**node, "type": [kind, "string"], "pattern": _NUMBER_WORDS[kind]}
    return node
