"""Kinds of adapters, where they start, and what of the settings is written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftplatform.errors import TrainingError, UnsafeModel
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings, Openings, TrainingManifest
from ftplatform.training.throughput import Meter, multiplied_parameters, peak_flops
from ftplatform.training.train import train
from ftplatform_tests.unit.training.probes import probe_files

Rows = list[list[dict[str, Any]]]
Build = Callable[..., TrainingManifest]


def loaded(base_model: Path, folder: Path) -> Any:
    """The adapter as any PEFT user loads it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model, dtype="float32"), folder).eval()


# ---- kinds of adapters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "tensor"), [("use_dora", "lora_magnitude_vector"), ("use_rslora", "lora_A")])
def test_other_kinds_of_adapters_train_and_load(
    manifest_of: Build, conversations: Rows, base_model: Path, tmp_path: Path, kind: str, tensor: str
) -> None:
    from safetensors.torch import load_file

    lora = LoraSettings(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"))
    plain = train(manifest_of(conversations, lora=lora), tmp_path / "plain")
    manifest = manifest_of(conversations, lora=replace(lora, **{kind: True}))
    first, second = (train(manifest, tmp_path / name) for name in ("a", "b"))
    assert first.adapter_sha256 == second.adapter_sha256 != plain.adapter_sha256
    assert any(tensor in name for name in load_file(first.folder / "adapter_model.safetensors"))
    config = loaded(base_model, first.folder).peft_config["default"]
    assert getattr(config, kind) is True


def test_a_seed_set_after_the_adapter_is_too_late(base_model: Path) -> None:
    """ADV: seeding at the start of training looks right; the weights were drawn before, by whatever state there was."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save

    from ftplatform.training.loading import load_base
    from ftplatform.training.lora import add_adapter

    def weights(model: Any) -> bytes:
        return save({n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad})

    def base() -> Any:
        return load_base(base_model, device="cpu", precision="fp32")[0]

    def late() -> bytes:
        adapted = get_peft_model(base(), LoraConfig(r=4, target_modules=["q_proj"]))
        torch.manual_seed(0)
        return weights(adapted)

    def ours() -> bytes:
        settings = LoraSettings(rank=4, target_modules=("q_proj",))
        return weights(add_adapter(base(), settings, base_name="base", seed=0))

    assert late() != late()  # a run of two catches it
    assert ours() == ours()


# ---- continuing an adapter ---------------------------------------------------------------------------------------------------


def test_training_goes_on_from_an_adapter(manifest_of: Build, conversations: Rows, repository: Path, tmp_path: Path) -> None:
    first = train(manifest_of(conversations, steps=30), tmp_path / "first")
    probes = probe_files(repository, tmp_path, 10)
    manifest = manifest_of(conversations, initial_adapter=first.folder, probes=probes)
    assert manifest.initial_adapter is not None
    assert manifest.initial_adapter[1] == ("adapter_model.safetensors", first.adapter_sha256)
    second = train(manifest, tmp_path / "second")
    fresh = train(manifest_of(conversations), tmp_path / "fresh")
    assert second.losses[0] < 0.7 * fresh.losses[0]
    points = json.loads((second.folder / "trajectory.json").read_bytes())["points"]
    assert [p["step"] for p in points] == [0, 6]  # where it started is no longer the base
    moved = tmp_path / "elsewhere"
    shutil.copytree(first.folder, moved)
    assert replace(manifest, initial_adapter_folder=str(moved)).sha256() == manifest.sha256()
    assert TrainingManifest.from_record(json.loads(json.dumps(manifest.to_record()))) == manifest
    assert manifest_of(conversations).initial_adapter is None


def test_an_adapter_that_does_not_fit_is_refused(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    first = train(manifest_of(conversations, steps=2), tmp_path / "first").folder
    other = manifest_of(conversations, initial_adapter=first, lora=LoraSettings(rank=8, alpha=8.0, use_rslora=True))
    with pytest.raises(TrainingError, match="made with other settings: r, use_rslora"):
        train(other, tmp_path / "other")
    manifest = manifest_of(conversations, initial_adapter=first)
    weights = first / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(TrainingError, match=r"adapter_model\.safetensors is not the file the manifest names"):
        train(manifest, tmp_path / "tampered")
    weights.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(UnsafeModel, match="not a well-formed safetensors file"):
        train(manifest_of(conversations, initial_adapter=first), tmp_path / "pickle")
    weights.unlink()
    with pytest.raises(TrainingError, match=r"has no adapter_model\.safetensors"):
        manifest_of(conversations, initial_adapter=first)


# ---- the manifest ------------------------------------------------------------------------------------------------------------


def test_every_new_setting_is_written_down(manifest_of: Build, conversations: Rows, repository: Path, tmp_path: Path) -> None:
    probes = probe_files(repository, tmp_path, 5)
    base = Optimization(steps=6, batch_size=8, learning_rate=5e-3)
    settings: dict[str, dict[str, Any]] = {
        "reference": {},
        "micro-batches": {"optimization": replace(base, micro_batches=2)},
        "packing": {"packing": True},
        "rsLoRA": {"lora": LoraSettings(rank=4, alpha=8.0, use_rslora=True)},
        "DoRA": {"lora": LoraSettings(rank=4, alpha=8.0, use_dora=True)},
        "probes": {"probes": probes},
        "openings": {"probes": probes, "openings": Openings(refusal=("No",), compliance=("Yes",))},
        "checkpoints": {"checkpoint_every": 2},
        "kept": {"checkpoint_every": 2, "keep_checkpoints": 1},
        "processes": {"world": 2},
    }
    manifests = {name: manifest_of(conversations, **given) for name, given in settings.items()}
    assert len({m.sha256() for m in manifests.values()}) == len(manifests)
    for manifest in manifests.values():
        assert TrainingManifest.from_record(json.loads(json.dumps(manifest.to_record()))) == manifest
    identity = manifests["reference"].identity()
    assert identity["schema"] == "ftplatform.training/2"
    off = {"packing": False, "initial_adapter": None, "probes": None, "checkpoint_every": 0, "early_stop": None, "world": 1}
    assert off.items() <= identity.items()
    assert not any("path" in key or "folder" in key for key in identity)


@pytest.mark.parametrize(
    "settings",
    [
        {"world": 0},
        {"checkpoint_every": -1},
        {"optimization": Optimization(steps=6, batch_size=8, learning_rate=5e-3, micro_batches=0)},
    ],
)
def test_settings_that_mean_nothing_are_refused(manifest_of: Build, conversations: Rows, settings: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="count from 1"):
        manifest_of(conversations, **settings)


def test_a_manifest_of_the_schema_before_means_what_it_meant(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifest = manifest_of(conversations, steps=2)
    record = {**manifest.to_record(), "schema": "ftplatform.training/1"}
    for new in ("packing", "initial_adapter", "initial_adapter_folder", "probes", "refusal_probes_path", "safe_probes_path",
                "checkpoint_every", "keep_checkpoints", "early_stop", "world"):  # fmt: skip
        del record[new]
    record["optimization"] = {k: v for k, v in record["optimization"].items() if k != "micro_batches"}
    record["lora"] = {k: v for k, v in record["lora"].items() if not k.startswith("use_")}
    assert TrainingManifest.from_record(record) == manifest


# ---- throughput --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
        ("NVIDIA A1000", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_peaks_by_device_name(device: str, peak: float | None) -> None:
    assert peak_flops(device) == peak


def test_model_flop_utilization() -> None:
    meter = Meter(parameters=1_000_000_000, peak=989.4e12)
    meter.add(50_000, 20_000, 60_000)
    meter.seconds = 1.0
    read = meter.read()
    assert read.mfu == pytest.approx(4 * 1e9 * 50_000 / 989.4e12)  # real tokens: padding is no work done
    assert read.padding_share == pytest.approx(1 / 6)


def test_an_embedding_that_is_only_looked_up_is_no_arithmetic() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    def model(tied: bool) -> Any:
        config = LlamaConfig(
            vocab_size=100,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
        return LlamaForCausalLM(config)

    assert multiplied_parameters(model(True)) == sum(p.numel() for p in model(True).parameters())
    assert multiplied_parameters(model(False)) == multiplied_parameters(model(True))
