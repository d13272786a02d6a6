"""A run that was killed goes on as if nothing had happened, or begins again; it never uses what is damaged or not its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftplatform.canonical import digest
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings, TrainingManifest
from ftplatform.training.train import TrainingResult, train
from ftplatform_tests.unit.training.probes import probe_files

Rows = list[list[dict[str, Any]]]
Build = Callable[..., TrainingManifest]

#: Everything that has a state: dropout, warm-up and decay, weight decay, micro-batches.
RECIPE: dict[str, Any] = {
    "optimization": Optimization(
        steps=14, batch_size=8, learning_rate=5e-3, warmup_steps=3, schedule="cosine", weight_decay=0.1, micro_batches=2, seed=3
    ),
    "lora": LoraSettings(rank=4, alpha=8.0, dropout=0.2),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def interrupted(manifest: TrainingManifest, out: Path, work: Path, *, at: int) -> None:
    def stop(step: int, loss: float) -> None:
        if step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(manifest, out, work=work, save_every=4, progress=stop)
    assert not out.exists()


def test_a_killed_run_goes_on_to_the_same_bytes(manifest_of: Build, conversations: Rows, repository: Path, tmp_path: Path) -> None:
    manifest = manifest_of(
        conversations, **RECIPE, probes=probe_files(repository, tmp_path), checkpoint_every=3, keep_checkpoints=2
    )
    uninterrupted = train(manifest, tmp_path / "whole")
    work, out, request = tmp_path / "work", tmp_path / "resumed", tmp_path / "manifest.json"
    request.write_text(json.dumps(manifest.to_record()))
    command = [sys.executable, "-m", "ftplatform.training", str(request), str(out), "--work", str(work), "--save-every", "4"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        event = json.loads(line)
        if event["step"]["step"] == 10:
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    assert not out.exists()
    seen: list[int] = []
    resumed = train(manifest, out, work=work, save_every=4, progress=lambda step, _loss: seen.append(step))
    assert resumed.resumed_from in (8, 12)  # it may have got on a little before the signal came
    assert seen == list(range(resumed.resumed_from + 1, 15))
    assert resumed.notes == ()
    assert resumed.losses == uninterrupted.losses
    assert contents(out) == contents(uninterrupted.folder)
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["step-000009", "step-000012"]
    assert list(work.iterdir()) == []


def test_forgetting_the_generator_is_not_resuming(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    """ADV: weights, moments and step restored, dropout drawn anew: the run ends, and elsewhere. So all of the state is needed."""
    import torch
    from safetensors.torch import load_file, save_file

    from ftplatform.training.base_model import file_sha256

    manifest = manifest_of(conversations, **RECIPE)
    uninterrupted = train(manifest, tmp_path / "whole")
    interrupted(manifest, tmp_path / "out", tmp_path / "work", at=6)
    (place,) = tmp_path.glob("work/*/step-000004")
    tensors = load_file(place / "state.safetensors")
    tensors["generator/cpu"] = torch.Generator().manual_seed(1).get_state()[None]
    save_file(tensors, place / "state.safetensors")
    content = json.loads((place / "state.json").read_bytes())["content"]
    content["tensors_sha256"] = file_sha256(place / "state.safetensors")
    (place / "state.json").write_text(json.dumps({"content": content, "sha256": digest(content)}))
    forgetful = train(manifest, tmp_path / "out", work=tmp_path / "work", save_every=4)
    assert forgetful.resumed_from == 4
    assert forgetful.losses[:4] == uninterrupted.losses[:4]
    assert forgetful.adapter_sha256 != uninterrupted.adapter_sha256


def _truncate(place: Path) -> None:
    data = (place / "state.safetensors").read_bytes()
    (place / "state.safetensors").write_bytes(data[:-1])


def _flip(place: Path) -> None:
    text = (place / "state.json").read_text()
    (place / "state.json").write_text(text.replace('"step": 4', '"step": 5'))


def _garble(place: Path) -> None:
    (place / "state.json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "why"),
    [(_truncate, "state.safetensors is damaged"), (_flip, "state.json is damaged"), (_garble, "cannot be read")],
)
def test_a_damaged_checkpoint_is_not_used(
    manifest_of: Build, conversations: Rows, tmp_path: Path, harm: Callable[[Path], None], why: str
) -> None:
    manifest = manifest_of(conversations, **RECIPE)
    interrupted(manifest, tmp_path / "out", tmp_path / "work", at=6)
    (place,) = tmp_path.glob("work/*/step-000004")
    harm(place)
    result = train(manifest, tmp_path / "out", work=tmp_path / "work", save_every=4)
    assert result.resumed_from == 0
    (note,) = result.notes
    assert why in note
    assert "step-000004" in note
    assert result.adapter_sha256 == train(manifest, tmp_path / "whole").adapter_sha256


def test_a_checkpoint_of_another_manifest_or_environment_is_not_used(
    manifest_of: Build, conversations: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, other = manifest_of(conversations, **RECIPE), manifest_of(conversations, **RECIPE, adapter_seed=1)
    work = tmp_path / "work"
    interrupted(manifest, tmp_path / "out", work, at=6)
    (own,) = work.iterdir()
    # One work folder serves several manifests; only a copy by hand gets one run's checkpoint into another's folder.
    shutil.copytree(own, work / other.sha256()[:16])
    foreign = train(other, tmp_path / "other", work=work, save_every=4)
    assert foreign.resumed_from == 0
    assert f"belongs to the manifest {manifest.sha256()[:16]}" in foreign.notes[0]
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")  # recorded among what changes the last bits
    elsewhere = train(manifest, tmp_path / "elsewhere", work=work, save_every=4)
    assert elsewhere.resumed_from == 0
    assert "other packages, hardware or settings" in elsewhere.notes[0]


def test_a_run_that_fails_keeps_its_checkpoints_and_no_other_files(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifest = manifest_of(conversations, **RECIPE)
    interrupted(manifest, tmp_path / "out", tmp_path / "work", at=9)
    (own,) = (tmp_path / "work").iterdir()
    assert [p.name for p in own.iterdir()] == ["step-000008"]  # the one before is gone
    assert sorted(p.name for p in (own / "step-000008").iterdir()) == ["state.json", "state.safetensors"]


def test_a_result_survives_json(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    result = train(manifest_of(conversations), tmp_path / "adapter")
    assert result.repro_class == "bitwise"
    assert result.throughput.steps == 6
    assert TrainingResult.from_record(json.loads(json.dumps(result.to_record()))) == result
