"""LoRA adapters in the PEFT format, so that any server that loads PEFT adapters loads ours, with bytes that repeat."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.errors import TrainingError
from ftplatform.training.safetensors_guard import check_safetensors
from ftplatform.training.settings import LoraSettings

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"

#: Settings that decide what the numbers of an adapter mean. Two adapters that agree in them are interchangeable as a start.
_MEANING = (
    "peft_type", "r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "lora_bias",
    "fan_in_fan_out", "modules_to_save", "layers_to_transform", "layers_pattern", "layer_replication",
)  # fmt: skip


def add_adapter(model: torch.nn.Module, settings: LoraSettings, *, base_name: str, seed: int) -> PeftModel:
    """`model` with a fresh adapter; only the adapter's weights require gradients.

    The seed is set here, immediately before the weights are drawn. Set it any earlier and whatever consumed random numbers
    in between decides the adapter.

    Raises:
        TrainingError: the model has none of the target modules.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]  (a float is used as is)
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for a property it has renamed; nothing a user could do about it.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            adapted = get_peft_model(model, config)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise TrainingError(
            f"no adapter fits {base_name}: {error}", remedy="Name modules of this model in lora.target_modules."
        ) from error
    return adapted  # pyright: ignore[reportReturnType]


def save_adapter(model: PeftModel, out: Path, *, base_name: str) -> None:
    """Writes weights (safetensors, fp32 as trained) and config into `out`, with bytes that depend on their content only.

    PEFT's own writer dumps a *set* of module names in hash order, so its config differs in every process; and it would record the
    local path of the base.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    save_file(dict(sorted(weights.items())), out / WEIGHTS_FILE, metadata={"format": "pt"})
    check_safetensors(out / WEIGHTS_FILE)
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base_name, "inference_mode": True}
    (out / CONFIG_FILE).write_text(json.dumps(_canonical(config), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def start_from(model: PeftModel, folder: Path) -> None:
    """Replaces the weights of the fresh adapter by those of the adapter in `folder`.

    Raises:
        TrainingError: it was made with other settings, or for another model.
        UnsafeModel: its weights file is malformed.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    check_safetensors(folder / WEIGHTS_FILE)
    ours = _canonical(model.peft_config["default"].to_dict())
    theirs = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    theirs["target_modules"] = _canonical(set(theirs.get("target_modules") or ()))
    if different := [key for key in _MEANING if ours.get(key) != theirs.get(key)]:
        raise TrainingError(
            f"the adapter in {folder} was made with other settings: {', '.join(different)}",
            remedy="Continue it with the settings it was made with, or train from the base.",
        )
    weights = load_file(folder / WEIGHTS_FILE)
    expected = {name: tensor.shape for name, tensor in get_peft_model_state_dict(model).items()}
    if {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise TrainingError(
            f"the adapter in {folder} has other tensors than this base model takes",
            remedy="Continue it on the base it was made for.",
        )
    set_peft_model_state_dict(model, weights)


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, tuple | list):
        return [_canonical(v) for v in value]
    # str-valued enums (task and peft type) are written as their value.
    return str(value.value) if hasattr(value, "value") else value
