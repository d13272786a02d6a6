"""A run is a function of its manifest: same manifest, same bytes; any change, other bytes; wrong inputs, nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftplatform.errors import TrainingError
from ftplatform.training.launchers import launch
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings, TrainingManifest
from ftplatform.training.train import train

Rows = list[list[dict[str, Any]]]
Build = Callable[..., TrainingManifest]


def test_learns_and_writes_the_whole_folder(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    result = train(manifest_of(conversations, steps=60), tmp_path / "adapter", progress=lambda *event: seen.append(event))
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert [step for step, _ in seen] == list(range(1, 61))
    assert sorted(p.name for p in result.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "environment.json",
        "loss.json",
        "training_manifest.json",
    ]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    recorded = json.loads((result.folder / "loss.json").read_text())
    assert recorded["loss"] == list(result.losses)
    assert recorded["encoding"]["rows"] == 40


def test_the_adapter_loads_with_peft(manifest_of: Build, conversations: Rows, base_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = train(manifest_of(conversations, steps=120), tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32), result.folder).eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "what color is lamp 6"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=16, do_sample=False, pad_token_id=0)
    said = tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said.startswith("Lamp")
    assert any(color in said for color in ("red", "green", "blue", "white"))


def test_two_processes_and_this_one_give_the_same_bytes(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifest = manifest_of(conversations)
    random.seed(random.random())
    folders = [
        launch(manifest, tmp_path / name, launcher=launcher).folder
        for name, launcher in (("a", "subprocess"), ("b", "subprocess"), ("c", "in_process"))
    ]
    for name in ("adapter_model.safetensors", "adapter_config.json", "training_manifest.json", "loss.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name


def test_every_field_of_the_recipe_reaches_the_bytes(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    base = Optimization(steps=6, batch_size=8, learning_rate=5e-3)
    variants: dict[str, TrainingManifest] = {
        "reference": manifest_of(conversations),
        "rows in another order": manifest_of(conversations[::-1]),
        "data seed": manifest_of(conversations, seed=1),
        "adapter seed": manifest_of(conversations, adapter_seed=1),
        "learning rate": manifest_of(conversations, optimization=Optimization(steps=6, batch_size=8, learning_rate=4e-3)),
        "weight decay": manifest_of(
            conversations, optimization=Optimization(steps=6, batch_size=8, learning_rate=5e-3, weight_decay=0.5)
        ),
        "batch size": manifest_of(conversations, optimization=Optimization(steps=6, batch_size=10, learning_rate=5e-3)),
        "rank": manifest_of(conversations, lora=LoraSettings(rank=8, alpha=8.0)),
        "targets": manifest_of(conversations, lora=LoraSettings(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"))),
        "dropout": manifest_of(conversations, lora=LoraSettings(rank=4, alpha=8.0, dropout=0.1)),
    }
    assert variants["reference"].optimization == base
    adapters = {name: train(manifest, tmp_path / f"{i}").adapter_sha256 for i, (name, manifest) in enumerate(variants.items())}
    assert len(set(adapters.values())) == len(adapters), adapters
    assert len({m.sha256() for m in variants.values()}) == len(variants)


def test_same_rows_in_another_order_are_another_manifest(manifest_of: Build, conversations: Rows) -> None:
    reference, reversed_rows = manifest_of(conversations), manifest_of(conversations[::-1])
    # What a hash of the row *set* would see: nothing.
    assert reference.rows == reversed_rows.rows
    assert reference.rows_sha256 != reversed_rows.rows_sha256


def test_the_manifest_does_not_know_where_files_lie(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifest = manifest_of(conversations)
    elsewhere = manifest_of(conversations)
    assert manifest.rows_path != elsewhere.rows_path
    assert manifest.sha256() == elsewhere.sha256()
    folder = train(manifest, tmp_path / "adapter").folder
    for file in folder.glob("*.json"):
        assert str(tmp_path) not in file.read_text(), file.name
        assert manifest.base_folder not in file.read_text(), file.name


def test_manifest_survives_json(manifest_of: Build, conversations: Rows) -> None:
    manifest = manifest_of(conversations, lora=LoraSettings(target_modules=("v_proj", "q_proj")))
    assert TrainingManifest.from_record(json.loads(json.dumps(manifest.to_record()))) == manifest
    with pytest.raises(TrainingError, match="not readable"):
        TrainingManifest.from_record({**manifest.to_record(), "surprise": 1})
    with pytest.raises(TrainingError, match="no training manifest"):
        TrainingManifest.from_record({"schema": "other/1"})


def test_other_bytes_than_the_manifest_names_are_refused(
    manifest_of: Build, conversations: Rows, base_model: Path, tmp_path: Path
) -> None:
    import shutil
    from dataclasses import replace

    manifest = manifest_of(conversations)
    tampered = tmp_path / "base"
    shutil.copytree(base_model, tampered)
    weights = tampered / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(TrainingError, match=r"model\.safetensors is not the file the manifest names"):
        train(replace(manifest, base_folder=str(tampered)), tmp_path / "a")
    other = manifest_of(conversations[::-1])
    with pytest.raises(TrainingError, match="not those of the manifest, or stand in another order"):
        train(replace(manifest, rows_path=other.rows_path), tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_taken_folder_is_left_alone(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    taken = tmp_path / "adapter"
    taken.mkdir()
    (taken / "precious").write_text("x")
    with pytest.raises(TrainingError, match="already holds something"):
        train(manifest_of(conversations), taken)
    assert [p.name for p in taken.iterdir()] == ["precious"]


def test_an_interrupted_run_leaves_nothing(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    def stop(step: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(manifest_of(conversations), tmp_path / "out" / "adapter", progress=stop)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_run_leaves_the_process_as_it_was(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(manifest_of(conversations, threads=2 if threads == 1 else 1), tmp_path / "adapter")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_errors_of_the_child_process_arrive_typed(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifest = manifest_of(conversations, lora=LoraSettings(target_modules=("no_such_module",)))
    with pytest.raises(TrainingError, match="no adapter fits tarnwell-base-1m") as caught:
        launch(manifest, tmp_path / "adapter", launcher="subprocess")
    assert "target_modules" in caught.value.remedy


def test_a_killed_child_is_reported(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    import os
    import signal

    import psutil

    def kill(step: int, loss: float) -> None:
        # other tests of this process may have left helpers of their own (a resource tracker, a local Ray)
        (child,) = (child for child in psutil.Process().children() if "ftplatform.training" in child.cmdline())
        os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match="killed by signal 9"):
        launch(manifest_of(conversations, steps=500), tmp_path / "adapter", launcher="subprocess", progress=kill)
    assert not (tmp_path / "adapter").exists()


def test_an_empty_split_is_refused(manifest_of: Build) -> None:
    with pytest.raises(TrainingError, match="has no rows"):
        manifest_of([])
