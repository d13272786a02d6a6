from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ftplatform.project.loading import load_project
from ftplatform.project.models import Project
from ftplatform.project.scaffold import bundled_project
from ftplatform.project.schema import json_schema
from ftplatform.project.yaml_source import read_yaml
from ftplatform_tests.unit.project.sample import VALID, changed, write

VALIDATOR = Draft202012Validator(json_schema())


def errors(value: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(value)]


def forms(text: str) -> list[Any]:
    """The document as an editor's YAML parser types it and as ours does."""
    return [yaml.safe_load(text), read_yaml(text.encode(), "f.yaml").root.plain()]


def test_it_is_a_schema_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(json_schema())) == json_schema()


def test_valid_files_pass_in_both_forms() -> None:
    for text in (VALID, (bundled_project() / "ftplatform.yaml").read_text()):
        for value in forms(text):
            assert errors(value) == []


def test_the_shortest_file_passes() -> None:
    assert errors({"name": "x"}) == []
    assert errors({}) == ["'name' is a required property"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("license: CC0", "lisense: CC0"),
        ("surface: production", "surface: prod"),
        ("steps: 20", "steps: many"),
        ("steps: 20", "steps: 0"),
        ("steps: 20", "steps: 2.5"),
        ("share: 0.1", "share: 2"),
        ("vault: true", "vault: maybe"),
        ("    base: tiny\n", ""),
        ("  tickets:\n", "  Tickets:\n"),
        ("  ledger:", "  a__b:"),
        ("task_regression", "task_regresion"),
        ("ALERT_WEBHOOK", "alert"),
        ("alerts: {webhook_env: ALERT_WEBHOOK}", "alerts: null"),
        ("use: [train", "use: [trian"),
        ("[q_proj, v_proj]", "all_linear"),
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(old: str, new: str) -> None:
    assert errors(yaml.safe_load(changed(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("license: CC0-1.0", "license: no"),
        ("{tag: billing}", "{field: year, equals: 2026}"),
        ("{tag: billing}", "{field: paid, equals: true}"),
        ("steps: 20", "steps: '20'"),
        ("learning_rate: 1e-3", "learning_rate: 0.001"),
        ("learning_rate: 1e-3", "learning_rate: '1e-3'"),
        ("must_keep: yes", "must_keep: 'yes'"),
        ("use: [train, evaluate, commercial_model]", "use: train"),
    ],
)
def test_either_form_of_a_scalar_passes_schema_and_loader(tmp_path: Path, old: str, new: str) -> None:
    text = changed(old, new)
    for value in forms(text):
        assert errors(value) == []
    load_project(write(tmp_path, text))


def _properties(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.get("properties", {}).items():
            yield f"{path}.{name}", value
        for key, value in node.items():
            yield from _properties(value, f"{path}/{key}")


def test_every_key_is_explained() -> None:
    schema = json_schema()
    properties = list(_properties(schema))
    assert len(properties) > 100
    for path, value in properties:
        block = schema["$defs"].get(value.get("$ref", "").removeprefix("#/$defs/"), {})
        assert value.get("description") or block.get("description"), path


def test_every_key_of_the_models_is_there() -> None:
    assert set(json_schema()["properties"]) == set(Project.model_fields)
    assert json_schema()["$defs"]["Source"]["additionalProperties"] is False
    assert '"null"' not in json.dumps(json_schema())
