"""The record of the surroundings: complete, free of places and people, and cheap to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftplatform.training.environment import describe_environment, has_bf16


def test_environment_is_json_and_names_no_place() -> None:
    record = describe_environment("cpu")
    text = json.dumps(record)
    assert {"torch", "transformers", "peft", "safetensors"} <= record["packages"].keys()
    assert record["capability_class"].count("/") == 1
    for private in (str(Path.home()), sys.prefix, __file__):
        assert private not in text


def test_instruction_set_limits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert has_bf16("cpu") is False


@pytest.mark.parametrize(
    "module",
    ["environment", "manifest", "train", "launchers", "session", "margins", "base_model", "safetensors_guard", "encode", "lora"],
)
def test_importing_the_package_loads_no_heavy_library(module: str) -> None:
    code = (
        f"import sys, ftplatform.training.{module}; "
        "print([m for m in ('torch', 'transformers', 'peft', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
