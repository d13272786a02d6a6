"""Loading the base model of a run: its bytes checked against the manifest, nothing but safetensors, no code from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.canonical import sha256_hex
from ftplatform.errors import TrainingError
from ftplatform.training.base_model import chat_template_of, file_sha256
from ftplatform.training.safetensors_guard import model_files
from ftplatform.training.settings import BaseModelIdentity, FileHashes

if TYPE_CHECKING:
    import torch


def load_base(folder: Path, *, device: str, precision: str) -> tuple[torch.nn.Module, Any]:
    """Base model and tokenizer from a guarded folder, frozen weights in fp32 on a CPU and in bf16 on a GPU that computes in it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    bf16 = precision == "bf16"
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16 if bf16 and device == "cuda" else torch.float32,
            # The fused CPU attention spends half of a bf16 step in its backward pass (11.6 ms a call, 1.7 ms in fp32).
            attn_implementation="eager" if bf16 and device == "cpu" else "sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    finally:
        if bars:
            logging.enable_progress_bar()
    return model.to(device), tokenizer


def require_same_base(expected: BaseModelIdentity, folder: Path) -> None:
    """Raises `TrainingError`, naming the file, unless the model in `folder` is the expected one."""
    found = {f.as_posix() for f in model_files(folder)}
    if found != (named := set(dict(expected.files))):
        raise TrainingError(
            f"the base model in {folder} has other files than the manifest: {', '.join(sorted(found ^ named))}",
            remedy="Restore the folder, or prepare a new manifest.",
        )
    require_same_files(expected.files, folder)
    template = chat_template_of(folder)
    if expected.chat_template_sha256 != (sha256_hex(template.encode()) if template is not None else None):
        raise TrainingError(f"the chat template in {folder} is not the one the manifest names", remedy="Prepare a new manifest.")


def require_same_files(expected: FileHashes, folder: Path) -> None:
    """Raises `TrainingError`, naming the first file in `folder` that is missing or has other bytes."""
    for path, sha256 in expected:
        if not (folder / path).is_file() or file_sha256(folder / path) != sha256:
            raise TrainingError(
                f"{folder / path} is not the file the manifest names", remedy="Restore it, or prepare a new manifest."
            )
