"""Checkpoints of a run in a work folder, from which a killed run goes on as if nothing had happened.

A checkpoint is `state.safetensors` (weights, moments, states of the random generators) and `state.json` (everything else, with the
hash of the tensors file); no pickle. It appears by one rename, and it is used only by the run it belongs to: same manifest, same
environment. The loop does not depend on anything else, so the resumed run ends in the same bits.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.canonical import digest
from ftplatform.errors import UnsafeModel
from ftplatform.training.base_model import file_sha256
from ftplatform.training.folder import whole_folder, write_json
from ftplatform.training.safetensors_guard import check_safetensors

if TYPE_CHECKING:
    import torch

    from ftplatform.training.loop import FitState
    from ftplatform.training.replica import Replica

SCHEMA = "ftplatform.checkpoint/1"
_TENSORS, _RECORD = "state.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{6,})")


def step_name(step: int) -> str:
    """Folder name of a step."""
    return f"step-{step:06d}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two steps: `tensors` by name and a JSON-able `record`."""

    step: int
    tensors: dict[str, torch.Tensor]
    record: dict[str, Any]


@dataclass(slots=True)
class CheckpointFolder:
    """The checkpoints of one run.

    Attributes:
        folder: its own folder; nobody else writes there.
        manifest_sha256, environment_sha256: what a checkpoint must have been written under.
        notes: why checkpoints that lie there were not used.
    """

    folder: Path
    manifest_sha256: str
    environment_sha256: str
    notes: list[str] = field(default_factory=list)

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes it, then removes those before it."""
        from safetensors.torch import save_file

        place = self.folder / step_name(checkpoint.step)
        if place.exists():
            shutil.rmtree(place)  # it was looked at when the run began and is of no use
        with whole_folder(place) as working:
            save_file(checkpoint.tensors, working / _TENSORS)
            content = {
                "schema": SCHEMA,
                "manifest_sha256": self.manifest_sha256,
                "environment_sha256": self.environment_sha256,
                "step": checkpoint.step,
                "tensors_sha256": file_sha256(working / _TENSORS),
                "record": checkpoint.record,
            }
            write_json(working / _RECORD, {"content": content, "sha256": digest(content)})
        for older in self._found():
            if older != place:
                shutil.rmtree(older, ignore_errors=True)

    def load(self) -> Checkpoint | None:
        """The last usable checkpoint. What is damaged or not of this run is left alone, with a note."""
        for place in self._found():
            found = self._read(place)
            if isinstance(found, Checkpoint):
                return found
            self.notes.append(f"the checkpoint {place} is not used: {found}")
        return None

    def _found(self) -> list[Path]:
        places = [p for p in self.folder.glob("step-*") if _NAME.fullmatch(p.name)] if self.folder.is_dir() else []
        return sorted(places, key=lambda p: int(p.name.removeprefix("step-")), reverse=True)

    def _read(self, place: Path) -> Checkpoint | str:
        from safetensors.torch import load_file

        try:
            sealed = json.loads((place / _RECORD).read_bytes())
            content = sealed["content"]
            if digest(content) != sealed["sha256"]:
                return f"{_RECORD} is damaged"
            if content["schema"] != SCHEMA:
                return f"its schema is {content['schema']}"
            if content["manifest_sha256"] != self.manifest_sha256:
                return f"it belongs to the manifest {content['manifest_sha256'][:16]}, and this is {self.manifest_sha256[:16]}"
            if content["environment_sha256"] != self.environment_sha256:
                return "it was written under other packages, hardware or settings, and going on would give other bits"
            if file_sha256(place / _TENSORS) != content["tensors_sha256"]:
                return f"{_TENSORS} is damaged"
            check_safetensors(place / _TENSORS)
            return Checkpoint(content["step"], load_file(place / _TENSORS), content["record"])
        except (OSError, ValueError, KeyError, TypeError, UnsafeModel) as error:
            return f"it cannot be read ({error})"


def capture(state: FitState, replica: Replica, record: Mapping[str, Any]) -> Checkpoint:
    """`state` and the random generators of all processes as a checkpoint; every process has to call it.

    Args:
        record: what else is to be kept, JSON-able.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in state.parameters.items():
        kept = {"weight": parameter, **state.optimizer.state[parameter]}
        tensors |= {f"{kind}/{name}": tensor.detach().cpu().contiguous() for kind, tensor in kept.items()}
    tensors["generator/cpu"] = torch.stack(replica.gather(torch.get_rng_state()))
    if state.device.type == "cuda":
        tensors["generator/cuda"] = torch.stack(replica.gather(torch.cuda.get_rng_state(state.device)))
    return Checkpoint(state.step, tensors, {**record, "losses": list(state.losses)})


def restore(state: FitState, checkpoint: Checkpoint, replica: Replica) -> None:
    """Puts `state` and the random generators of this process where `checkpoint` was."""
    import torch

    tensors = dict(checkpoint.tensors)
    # Copies: PyTorch reads a state from the beginning of its storage, wherever in it the tensor begins (torch 2.13 crashes).
    torch.set_rng_state(tensors.pop("generator/cpu")[replica.rank].clone())
    if state.device.type == "cuda":
        torch.cuda.set_rng_state(tensors.pop("generator/cuda")[replica.rank].clone(), state.device)
    moments: dict[str, dict[str, torch.Tensor]] = {name: {} for name in state.parameters}
    with torch.no_grad():
        for key, tensor in tensors.items():
            kind, name = key.split("/", 1)
            if kind == "weight":
                state.parameters[name].copy_(tensor)
            else:
                moments[name][kind] = tensor.to(state.device)
    for name, parameter in state.parameters.items():
        state.optimizer.state[parameter] = moments[name]
    state.losses[:] = checkpoint.record["losses"]
