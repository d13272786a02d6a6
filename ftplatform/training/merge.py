"""One adapter out of several: the mean of their weight changes, exactly, as a plain PEFT adapter.

With shards k of rank r, the mean of (alpha / r) B_k A_k over S shards is (alpha / (S r)) [B_1 ... B_S] [A_1; ...; A_S]: stack the
factors, let the rank be S r, and leave alpha alone. No number is computed, so dropping a shard gives the bytes of a merge that
never knew it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.errors import TrainingError
from ftplatform.training.lora import CONFIG_FILE, WEIGHTS_FILE
from ftplatform.training.safetensors_guard import check_safetensors

if TYPE_CHECKING:
    import torch

#: Where the rank runs: rows of A, columns of B.
_RANK_AXIS = {"lora_A": 0, "lora_B": 1}
#: Settings under which the scale of a weight change is not alpha / rank for all modules, or there is more than A and B.
_UNMERGEABLE = ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "modules_to_save", "lora_bias", "layer_replication")


def merge_adapters(folders: Mapping[str, Path], out: Path) -> None:
    """Writes the mean of adapters into `out` (an existing folder) as `adapter_model.safetensors` and `adapter_config.json`.

    Args:
        folders: adapter folder by name; they are stacked in the order of the names.

    Raises:
        TrainingError: no adapter, settings or tensors that differ, or settings under which the sum is not a LoRA adapter.
        UnsafeModel: a weights file is malformed.
    """
    from safetensors.torch import save_file

    if not folders:
        raise TrainingError("there is no adapter to merge", remedy="Give at least one; check what the filters left of the rows.")
    names = sorted(folders)
    config = _config(folders[names[0]])
    for name in names[1:]:
        if _config(folders[name]) != config:
            raise TrainingError(
                f"adapters {names[0]!r} and {name!r} have different settings", remedy="Train both with the same LoRA settings."
            )
    if found := [key for key in _UNMERGEABLE if config.get(key)]:
        raise TrainingError(f"adapters with {', '.join(found)} have no exact mean", remedy="Train them as plain LoRA adapters.")
    save_file(_stacked([(name, _weights(folders[name])) for name in names]), out / WEIGHTS_FILE, metadata={"format": "pt"})
    config["r"] *= len(names)
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _stacked(shards: list[tuple[str, dict[str, torch.Tensor]]]) -> dict[str, torch.Tensor]:
    import torch

    first, tensors = shards[0]
    for name, other in shards[1:]:
        if {k: t.shape for k, t in other.items()} != {k: t.shape for k, t in tensors.items()}:
            raise TrainingError(
                f"adapters {first!r} and {name!r} have different tensors", remedy="Merge adapters of one base model and recipe."
            )
    stacked = {}
    for key in sorted(tensors):
        axis = next((axis for part, axis in _RANK_AXIS.items() if part in key.split(".")), None)
        if axis is None:
            raise TrainingError(f"the adapters hold {key}, which is no LoRA factor", remedy="Merge plain LoRA adapters.")
        stacked[key] = torch.cat([weights[key] for _, weights in shards], dim=axis)
    return stacked


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    check_safetensors(folder / WEIGHTS_FILE)
    return load_file(folder / WEIGHTS_FILE)
