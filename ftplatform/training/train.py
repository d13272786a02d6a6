"""`train`: from a manifest to a folder with an adapter. No orchestrator, no network, no state besides the folder."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.canonical import sha256_hex
from ftplatform.errors import TrainingError
from ftplatform.training.base_model import chat_template_of, file_sha256
from ftplatform.training.encode import EncodedRows, encode_rows
from ftplatform.training.environment import describe_environment
from ftplatform.training.loop import fit
from ftplatform.training.lora import CONFIG_FILE, WEIGHTS_FILE, add_adapter, save_adapter
from ftplatform.training.manifest import TrainingManifest, read_rows, sequence_sha256
from ftplatform.training.safetensors_guard import check_model_folder, check_safetensors, model_files

if TYPE_CHECKING:
    import torch

LOSS_FILE, MANIFEST_FILE, ENVIRONMENT_FILE = "loss.json", "training_manifest.json", "environment.json"

#: Called with (steps done, loss of the last step).
Progress = Callable[[int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a run produced. Times are of this run and are not written into the folder, whose bytes repeat.

    Attributes:
        folder: the finished folder.
        adapter_sha256: of `adapter_model.safetensors`.
        manifest_sha256: of the manifest's identity.
        losses: mean loss per trained token of every step, in nats.
        encoding: rows, tokens, trained tokens, cut and left-out rows, hash of the encoded rows.
        cpu_seconds, wall_seconds: of the whole call.
    """

    folder: Path
    adapter_sha256: str
    manifest_sha256: str
    losses: tuple[float, ...]
    encoding: dict[str, Any]
    cpu_seconds: float
    wall_seconds: float

    def to_record(self) -> dict[str, Any]:
        """JSON-able form, for another process."""
        return {
            "folder": str(self.folder), "adapter_sha256": self.adapter_sha256, "manifest_sha256": self.manifest_sha256,
            "losses": list(self.losses), "encoding": self.encoding, "cpu_seconds": self.cpu_seconds,
            "wall_seconds": self.wall_seconds,
        }  # fmt: skip


def train(manifest: TrainingManifest, out: Path, *, progress: Progress | None = None) -> TrainingResult:
    """Trains the adapter the manifest describes and writes it as folder `out`, whole or not at all.

    The folder holds `adapter_model.safetensors`, `adapter_config.json` (PEFT), `loss.json`, `training_manifest.json` and
    `environment.json`. Same manifest on the same hardware class: the same bytes.

    Args:
        manifest: see `manifest.prepare`.
        out: folder to create; must not exist or be empty.
        progress: called after every step.

    Raises:
        TrainingError: bytes on disk are not those the manifest names, `out` is taken, or training cannot proceed.
        UnsafeModel: the base model may run code or is malformed.
    """
    started, cpu = time.perf_counter(), time.process_time()
    if out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out} already holds something", remedy="Give a new folder for every run.")
    base = Path(manifest.base_folder)
    check_model_folder(base)
    _require_same_base(manifest, base)
    rows = read_rows(Path(manifest.rows_path))
    if sequence_sha256(rows) != manifest.rows_sha256:
        raise TrainingError(
            f"the rows in {manifest.rows_path} are not those of the manifest, or stand in another order",
            remedy="Restore the file, or prepare a new manifest.",
        )
    with _numerics(manifest):
        model, tokenizer = load_base(base, device=manifest.device, precision=manifest.precision)
        encoded = encode_rows(rows, tokenizer, max_tokens=manifest.max_tokens)
        if manifest.gradient_checkpointing:
            model.gradient_checkpointing_enable()  # pyright: ignore[reportCallIssue]
            model.enable_input_require_grads()  # pyright: ignore[reportCallIssue]
        adapted = add_adapter(model, manifest.lora, base_name=manifest.base.name, seed=manifest.adapter_seed)
        losses = fit(
            adapted,
            encoded.examples,
            manifest.optimization,
            pad_token=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
            bf16=manifest.precision == "bf16",
            progress=progress,
        )
        environment = describe_environment(manifest.device)
        with _whole_folder(out) as folder:
            save_adapter(adapted, folder, base_name=manifest.base.name)
            _write_json(folder / LOSS_FILE, {"unit": "nats per trained token", "loss": losses, "encoding": _encoding(encoded)})
            _write_json(folder / MANIFEST_FILE, manifest.identity())
            _write_json(folder / ENVIRONMENT_FILE, environment)
            check_safetensors(folder / WEIGHTS_FILE)
    return TrainingResult(
        folder=out,
        adapter_sha256=file_sha256(out / WEIGHTS_FILE),
        manifest_sha256=manifest.sha256(),
        losses=tuple(losses),
        encoding=_encoding(encoded),
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - started,
    )


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


def _require_same_base(manifest: TrainingManifest, folder: Path) -> None:
    named = dict(manifest.base.files)
    found = {f.as_posix() for f in model_files(folder)}
    if found != set(named):
        raise TrainingError(
            f"the base model in {folder} has other files than the manifest: {', '.join(sorted(found ^ set(named)))}",
            remedy="Restore the folder, or prepare a new manifest.",
        )
    for path, expected in named.items():
        if file_sha256(folder / path) != expected:
            raise TrainingError(
                f"{folder / path} is not the file the manifest names", remedy="Restore it, or prepare a new manifest."
            )
    template = chat_template_of(folder)
    if manifest.base.chat_template_sha256 != (sha256_hex(template.encode()) if template is not None else None):
        raise TrainingError(f"the chat template in {folder} is not the one the manifest names", remedy="Prepare a new manifest.")


@contextmanager
def _numerics(manifest: TrainingManifest) -> Iterator[None]:
    """Threads and determinism as the manifest says, and everything put back afterwards: a run may share its process."""
    if manifest.device == "cuda" and manifest.deterministic:
        # Read by cuBLAS when its first handle is created; it keeps a caller's own choice.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    threads = torch.get_num_threads()
    deterministic, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if manifest.device == "cuda" else []):
        torch.set_num_threads(manifest.threads)
        torch.use_deterministic_algorithms(manifest.deterministic)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A hidden sibling folder that becomes `out` by one rename when everything in it is written and on disk."""
    out.parent.mkdir(parents=True, exist_ok=True)
    working = out.parent / f".{out.name}.{uuid.uuid4().hex}"
    working.mkdir()
    try:
        yield working
        for file in working.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        # Replaces an empty folder; on a folder that got filled meanwhile it fails, which is right.
        working.rename(out)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _encoding(encoded: EncodedRows) -> dict[str, Any]:
    return {
        "rows": len(encoded.examples),
        "tokens": encoded.tokens,
        "trained_tokens": encoded.trained_tokens,
        "cut_rows": encoded.cut,
        "left_out_rows": [{"row_id": row, "reason": why} for row, why in encoded.left_out],
        "sha256": encoded.sha256(),
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["CONFIG_FILE", "ENVIRONMENT_FILE", "LOSS_FILE", "MANIFEST_FILE", "WEIGHTS_FILE", "TrainingResult", "load_base", "train"]
