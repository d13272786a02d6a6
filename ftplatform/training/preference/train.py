"""`train_on_preferences`: from a preference manifest to a folder with an adapter, by the contract of `training.train`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftplatform.errors import TrainingError
from ftplatform.training.base_model import file_sha256
from ftplatform.training.environment import describe_environment, repro_class
from ftplatform.training.folder import whole_folder, write_json
from ftplatform.training.loading import load_base, require_same_base
from ftplatform.training.lora import WEIGHTS_FILE, add_adapter, save_adapter
from ftplatform.training.numerics import numerics
from ftplatform.training.preference.loop import Progress, fit_preferences
from ftplatform.training.preference.loss import answer_log_probabilities, pair_lengths
from ftplatform.training.preference.manifest import PreferenceManifest
from ftplatform.training.preference.pairs import EncodedPairs, encode_pairs, read_named_pairs
from ftplatform.training.preference.statistics import PreferenceStep, curve, length_statistics
from ftplatform.training.safetensors_guard import check_model_folder, check_safetensors
from ftplatform.training.train import ENVIRONMENT_FILE, LOSS_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    import pyarrow as pa

#: Padded tokens per batch when only measuring: logits of a vocabulary of 32,000 then take 0.5 GB.
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceResult:
    """What a run produced. Times are of this run and are not written into the folder, whose bytes repeat.

    Attributes:
        folder: the finished folder.
        adapter_sha256: of `adapter_model.safetensors`.
        manifest_sha256: of the manifest's identity.
        steps: figures of every step.
        lengths: see `length_statistics`.
        left_out: (row id, reason) of pairs that were not used.
        repro_class: what a replay may be expected to give, see `environment.repro_class`.
        cpu_seconds, wall_seconds: of the whole call.
    """

    folder: Path
    adapter_sha256: str
    manifest_sha256: str
    steps: tuple[PreferenceStep, ...]
    lengths: dict[str, Any]
    left_out: tuple[tuple[str, str], ...]
    repro_class: str
    cpu_seconds: float
    wall_seconds: float


def train_on_preferences(manifest: PreferenceManifest, out: Path, *, progress: Progress | None = None) -> PreferenceResult:
    """Trains the adapter the manifest describes (DPO) and writes it as folder `out`, whole or not at all.

    The folder holds the same files as one of `train`: `adapter_model.safetensors`, `adapter_config.json`, `training_manifest.json`,
    `environment.json` and `loss.json`, here with the curve of loss, accuracy and rewards and with `length_statistics`. Same manifest on
    the same hardware class: the same bytes.

    Args:
        out: folder to create; must not exist or be empty.
        progress: called after every step.

    Raises:
        TrainingError: bytes on disk are not those the manifest names, `out` is taken, or training cannot proceed.
        UnsafeModel: the base model may run code or is malformed.
    """
    started, cpu = time.perf_counter(), time.process_time()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"{out} already holds something", remedy="Give a new folder for every run.")
    base = Path(manifest.base_folder)
    check_model_folder(base)
    require_same_base(manifest.base, base)
    rows = read_named_pairs(manifest.rows_path, manifest.rows_sha256)
    with numerics(device=manifest.device, threads=manifest.threads, deterministic=manifest.deterministic):
        model, tokenizer = load_base(base, device=manifest.device, precision=manifest.precision)
        pairs = encode_pairs(rows, tokenizer, max_tokens=manifest.max_tokens)
        adapted = add_adapter(model, manifest.lora, base_name=manifest.base.name, seed=manifest.adapter_seed)
        environment = describe_environment(manifest.device)
        steps = fit_preferences(
            adapted,
            pairs.chosen,
            pairs.rejected,
            manifest.optimization,
            beta=manifest.beta,
            pad_token=_pad_token(tokenizer),
            bf16=manifest.precision == "bf16",
            progress=progress,
        )
        lengths = length_statistics(pairs)
        with whole_folder(out) as folder:
            save_adapter(adapted, folder, base_name=manifest.base.name)
            write_json(folder / LOSS_FILE, _loss_record(steps, lengths, pairs))
            write_json(folder / MANIFEST_FILE, manifest.identity())
            write_json(folder / ENVIRONMENT_FILE, environment)
    return PreferenceResult(
        folder=out,
        adapter_sha256=file_sha256(out / WEIGHTS_FILE),
        manifest_sha256=manifest.sha256(),
        steps=tuple(steps),
        lengths=lengths,
        left_out=tuple(pairs.left_out),
        repro_class=repro_class(manifest.device),
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - started,
    )


def preference_margins(
    rows: pa.Table, base: Path, adapter: Path | None = None, *, max_tokens: int = 512, threads: int = 1
) -> NDArray[np.float64]:
    """log P(chosen | prompt) - log P(rejected | prompt) in nats of every pair, shape (pairs,), under the base or a tuned model.

    Args:
        rows: table of `PREFERENCE_SCHEMA`; pairs that cannot be used (see `encode_pairs`) get NaN.
        base: folder of the base model. adapter: folder of a PEFT adapter for it.

    Raises:
        TrainingError: as `encode_pairs`. UnsafeModel: weights are no well-formed safetensors, or the folder may run code.
    """
    import torch
    from peft import PeftModel

    check_model_folder(base)
    with numerics(device="cpu", threads=threads, deterministic=True):
        model, tokenizer = load_base(base, device="cpu", precision="fp32")
        if adapter is not None:
            check_safetensors(adapter / WEIGHTS_FILE)
            model = PeftModel.from_pretrained(model, adapter, use_safetensors=True, local_files_only=True)  # pyright: ignore[reportArgumentType]
        model.eval()
        pairs = encode_pairs(rows, tokenizer, max_tokens=max_tokens)
        at = {row: place for place, row in enumerate(rows["row_id"].to_pylist())}
        margins = np.full(rows.num_rows, np.nan)
        with torch.inference_mode():
            for part in _by_length(pairs):
                chosen, rejected = [pairs.chosen[i] for i in part], [pairs.rejected[i] for i in part]
                each = answer_log_probabilities(model, chosen, rejected, pad_token=_pad_token(tokenizer)).double()
                margins[[at[pairs.row_ids[i]] for i in part]] = (each[0] - each[1]).numpy()
    return margins


def _by_length(pairs: EncodedPairs) -> Iterator[list[int]]:
    """Indices of pairs of similar length, so many at a time as `_BATCH_TOKENS` allows."""
    lengths = pair_lengths(pairs.chosen, pairs.rejected)
    order, done = sorted(range(len(lengths)), key=lambda i: -lengths[i]), 0
    while done < len(order):
        size = max(1, _BATCH_TOKENS // (2 * lengths[order[done]]))
        yield order[done : done + size]
        done += size


def _loss_record(steps: Sequence[PreferenceStep], lengths: dict[str, Any], pairs: EncodedPairs) -> dict[str, Any]:
    return {
        "unit": "nats per pair",
        **curve(steps),
        "lengths": lengths,
        "encoding": {
            "pairs": len(pairs.row_ids),
            "cut_rows": pairs.cut,
            "left_out_rows": [{"row_id": row, "reason": why} for row, why in pairs.left_out],
            "sha256": pairs.sha256(),
        },
    }


def _pad_token(tokenizer: Any) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
