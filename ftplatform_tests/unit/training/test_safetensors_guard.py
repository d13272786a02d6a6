"""Nothing that could run code, and nothing malformed, is ever loaded."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ftplatform.errors import InputDataError, TrainingError, UnsafeModel
from ftplatform.training.base_model import describe_base_model, resolve_base_model
from ftplatform.training.safetensors_guard import check_model_folder, check_safetensors


@pytest.fixture
def folder(base_model: Path, tmp_path: Path) -> Path:
    """A copy of a good model."""
    return Path(shutil.copytree(base_model, tmp_path / "model"))


def test_a_good_folder_passes(folder: Path) -> None:
    tensors = check_model_folder(folder)
    assert tensors["model.embed_tokens.weight"].shape == (2048, 128)
    assert resolve_base_model(path=folder) == folder


class Attack:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.pt", "optimizer.pkl", "modeling_evil.py", "sub/native.so"])
def test_executable_files_are_refused_unopened(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(Attack(tmp_path / "pwned")))
    with pytest.raises(UnsafeModel, match="executable content"):
        check_model_folder(folder)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_configuration_that_brings_code_is_refused(folder: Path, file: str) -> None:
    config = json.loads((folder / file).read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(UnsafeModel, match="auto_map"):
        check_model_folder(folder)


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (folder / "extra.json").symlink_to(secret)
    with pytest.raises(UnsafeModel, match="link that leads out"):
        check_model_folder(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsafeModel, match="no weights in safetensors"):
        check_model_folder(folder)


def header(value: Any, data: bytes = b"") -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(raw).to_bytes(8, "little") + raw + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "header of 0 bytes is announced in a file of 0"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "announced in a file of 10"),
        (b"\xff" * 8 + b"{}", "announced"),
        (header(b"[1]"), "does not start with"),
        (header(b"{'a':1}"), "not valid"),
        (header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}', bytes(8)), "twice"),
        (header({"a": TENSOR}, bytes(4)), "take 8 bytes and the file holds 4"),
        (header({"a": TENSOR}, bytes(12)), "take 8 bytes and the file holds 12"),
        (header({"a": TENSOR, "b": {**TENSOR, "data_offsets": [4, 12]}}, bytes(12)), "starts at byte 4 of the data instead of 8"),
        (header({"a": {**TENSOR, "data_offsets": [4, 12]}}, bytes(12)), "starts at byte 4 of the data instead of 0"),
        (header({"a": {**TENSOR, "shape": [3]}}, bytes(8)), "does not take 8 bytes"),
        (header({"a": {**TENSOR, "shape": [-2]}}, bytes(8)), "not natural numbers"),
        (header({"a": {**TENSOR, "shape": [True, 2]}}, bytes(8)), "not natural numbers"),
        (header({"a": {**TENSOR, "dtype": "PICKLE"}}, bytes(8)), "unknown dtype"),
        (header({"a": {**TENSOR, "extra": 1}}, bytes(8)), "exactly dtype, shape"),
        (header({"__metadata__": {"x": 1}}), "__metadata__"),
        (header(b'{"a":' + b"[" * 100_000), "not valid"),
        (b"\x80\x04\x95" + bytes(30), "announced"),
    ],
)
def test_malformed_weights_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UnsafeModel, match=why):
        check_safetensors(path)


def test_well_formed_weights_are_described(tmp_path: Path) -> None:
    save_file(
        {"a": np.zeros((2, 3), np.float16), "empty": np.zeros((0,), np.int64), "scalar": np.array(1.0)}, tmp_path / "x.safetensors"
    )
    tensors = check_safetensors(tmp_path / "x.safetensors")
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        "a": ("F16", (2, 3)),
        "empty": ("I64", (0,)),
        "scalar": ("F64", ()),
    }


def test_description_names_every_byte(folder: Path) -> None:
    before = describe_base_model(folder)
    assert before["parameters"] == 1_115_264
    assert before["dtypes"] == {"BF16": 38}
    assert before["max_tokens"] == 1024
    (folder / "README.md").write_text("not part of the model")
    assert describe_base_model(folder) == before
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] += "\n"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    after = describe_base_model(folder)
    assert after["chat_template_sha256"] != before["chat_template_sha256"]
    assert after["digest"] != before["digest"]
    assert after["tokenizer_sha256"] == before["tokenizer_sha256"]


def test_a_branch_is_no_revision() -> None:
    with pytest.raises(TrainingError, match="is not a commit"):
        resolve_base_model(hub="org/name", revision="main")
    with pytest.raises(TrainingError, match="exactly one"):
        resolve_base_model(path="x", hub="org/name")


def test_an_unreachable_hub_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputDataError, match="cannot be downloaded"):
        resolve_base_model(hub="org/name", revision="0" * 40, cache=tmp_path)
