"""Model and adapter folders: what their bytes are called, which may be opened, and opening them.

Nothing here reaches a network or runs code from a folder: local files only, safetensors only, no `trust_remote_code`.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftplatform.canonical import digest
from ftplatform.errors import EvaluationError, UnsafeModel


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files in a model or adapter folder (hidden files left out)."""
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    if not files:
        raise EvaluationError(
            f"{folder} holds no files.", remedy="Give the folder with config.json, tokenizer files and *.safetensors."
        )
    return digest({p.relative_to(folder).as_posix(): _file_sha256(p) for p in files})


def open_model(base: Path, adapter: Path | None, device: str) -> tuple[Any, Any]:
    """Model (in evaluation mode) and tokenizer of a base folder, with an adapter over it if one is given.

    Raises:
        UnsafeModel: if a folder holds no safetensors, or its configuration asks to run code.
        EvaluationError: if the tokenizer has no chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    refuse_unsafe_base(base)
    if adapter is not None:
        refuse_unsafe_adapter(adapter)
    place = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device)
    with _quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(base), local_files_only=True, trust_remote_code=False, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(base),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32 if place.type == "cpu" else "auto",
        )
        if adapter is not None:
            from peft import PeftModel

            # `base_model_name_or_path` inside the adapter is where it was trained; the base given here decides.
            with warnings.catch_warnings():
                # PEFT asks transformers for a property it has renamed; nothing a user could do about it.
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
                model = PeftModel.from_pretrained(model, str(adapter), is_trainable=False, local_files_only=True)
    if tokenizer.chat_template is None:
        raise EvaluationError(
            f"The tokenizer in {base} has no chat template.", remedy="Add chat_template.jinja to the model folder."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(place).eval(), tokenizer


def refuse_unsafe_base(folder: Path) -> None:
    """Raise UnsafeModel unless the folder holds a model in safetensors that asks to run no code of its own."""
    if not (folder / "config.json").is_file():
        raise UnsafeModel(f"{folder} has no config.json.", remedy="Give the folder of a Hugging Face causal language model.")
    if not any(folder.glob("*.safetensors")):
        raise UnsafeModel(
            f"{folder} holds no *.safetensors.",
            remedy="Convert the weights to safetensors; pickled weights can run code and are never loaded.",
        )
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and _read_json(path).get("auto_map"):
            raise UnsafeModel(
                f"{path} asks to run Python code from the model folder (auto_map).",
                remedy="Use a model of an architecture that transformers has.",
            )


def refuse_unsafe_adapter(folder: Path) -> None:
    """Raise UnsafeModel unless the folder holds a plain LoRA adapter in safetensors."""
    path = folder / "adapter_config.json"
    if not path.is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise UnsafeModel(
            f"{folder} is not an adapter in safetensors form (adapter_config.json and adapter_model.safetensors).",
            remedy="Save the adapter with safetensors; pickled weights can run code and are never loaded.",
        )
    config = _read_json(path)
    # `megatron_core` names a Python module that peft would import.
    if config.get("peft_type") != "LORA" or config.get("megatron_config") or config.get("auto_mapping"):
        raise UnsafeModel(f"{path} is not a plain LoRA adapter.", remedy="Train the adapter with LoRA and without custom modules.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UnsafeModel(f"{path} is not JSON: {error}.", remedy="Restore the file from where the model came from.") from error
    if not isinstance(value, dict):
        raise UnsafeModel(f"{path} is not a JSON object.", remedy="Restore the file from where the model came from.")
    return value


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
