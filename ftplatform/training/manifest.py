"""The training manifest: everything that decides the folder of an adapter, resolved, and nothing else.

`train(manifest, out)` is a function of this value. Where the files lie today (`base_folder`, `rows_path`, ...) is needed to run but is
no part of the identity: two machines with the same bytes in other folders have the same manifest hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ftplatform.canonical import digest
from ftplatform.errors import TrainingError
from ftplatform.training.base_model import describe_base_model, file_sha256
from ftplatform.training.environment import Device, Precision, resolve_device, resolve_precision
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest_record import file_hashes, restore
from ftplatform.training.settings import BaseModelIdentity, EarlyStop, FileHashes, LoraSettings, MarginProbes, Openings
from ftplatform.training.training_rows import read_rows, sequence_sha256

SCHEMA = "ftplatform.training/2"

#: The schema before packing, checkpoints and probes: a manifest of it means what one of today means with all of them off.
_EARLIER = "ftplatform.training/1"

#: Where files lie; not part of the identity.
_LOCATIONS = ("base_folder", "rows_path", "initial_adapter_folder", "refusal_probes_path", "safe_probes_path")

#: What an adapter to be continued consists of.
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingManifest:
    """See the module. Build it with `prepare`, which resolves `auto` and hashes what is on disk.

    Attributes:
        base, base_folder: which base model, and where its files lie now.
        rows_path, rows, rows_sha256: Parquet file with the training rows, how many, and `sequence_sha256` of them.
        optimization, lora, max_tokens: every hyper-parameter; `optimization.seed` orders the data.
        adapter_seed: initial weights of the adapter, set before it is created.
        precision, device, threads: resolved, since each changes the last bits of the result.
        deterministic: PyTorch's deterministic algorithms.
        gradient_checkpointing: recompute activations in the backward pass; the same result with less memory.
        packing: lay the rows of a batch side by side in sequences of up to `max_tokens`; loses on a CPU, wins on a GPU.
        initial_adapter, initial_adapter_folder: an adapter to continue from; None trains from the base.
        probes, refusal_probes_path, safe_probes_path: prompts on which the refusal margin is followed; None follows none.
        checkpoint_every: steps between measurements of the margin; 0 measures at the end only.
        keep_checkpoints: adapters of so many last checkpoints are kept in the folder.
        early_stop: None trains all steps.
        world: processes that share every batch; sums over another number of parts end in other last bits.

    Raises:
        TrainingError: settings that do not go together.
    """

    base: BaseModelIdentity
    base_folder: str
    rows_path: str
    rows: int
    rows_sha256: str
    optimization: Optimization
    lora: LoraSettings
    max_tokens: int
    adapter_seed: int
    precision: Precision
    device: Device
    threads: int
    deterministic: bool = True
    gradient_checkpointing: bool = False
    packing: bool = False
    initial_adapter: FileHashes | None = None
    initial_adapter_folder: str | None = None
    probes: MarginProbes | None = None
    refusal_probes_path: str | None = None
    safe_probes_path: str | None = None
    checkpoint_every: int = 0
    keep_checkpoints: int = 0
    early_stop: EarlyStop | None = None
    world: int = 1

    def __post_init__(self) -> None:
        if min(self.optimization.micro_batches, self.world) < 1 or min(self.checkpoint_every, self.keep_checkpoints) < 0:
            raise TrainingError(
                "micro_batches and world count from 1, checkpoint_every and keep_checkpoints from 0", remedy="Raise the number."
            )
        if self.keep_checkpoints and not self.checkpoint_every:
            raise TrainingError("there are no checkpoints to keep", remedy="Set checkpoint_every, or keep_checkpoints to 0.")
        if self.early_stop is not None and not (self.probes and self.checkpoint_every):
            raise TrainingError(
                "early_stop looks at the refusal margin, and it is not followed", remedy="Give probes and checkpoint_every."
            )

    def identity(self) -> dict[str, Any]:
        """JSON-able form without locations: what goes into a closure."""
        record = {"schema": SCHEMA, **asdict(self)}
        for name in _LOCATIONS:
            del record[name]
        return _plain(record)

    def sha256(self) -> str:
        """The manifest's hash (RFC 8785 form of `identity`)."""
        return digest(self.identity())

    def to_record(self) -> dict[str, Any]:
        """JSON-able form with locations, for handing it to another process."""
        return {**self.identity(), **{name: getattr(self, name) for name in _LOCATIONS}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TrainingManifest:
        """Inverse of `to_record`; reads the schema before this one too.

        Raises:
            TrainingError: another schema, or unknown or missing keys (named).
        """
        return restore(
            cls,
            record,
            noun="training manifest",
            schemas=(SCHEMA, _EARLIER),
            parts={
                "initial_adapter": file_hashes,
                "probes": lambda value: _probes(**value),
                "early_stop": lambda value: EarlyStop(**value),
            },
        )


def prepare(
    base_folder: Path,
    rows_path: Path,
    *,
    base_name: str,
    optimization: Optimization,
    lora: LoraSettings | None = None,
    max_tokens: int = 512,
    adapter_seed: int = 0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
    gradient_checkpointing: bool = False,
    packing: bool = False,
    initial_adapter: Path | None = None,
    probes: tuple[Path, Path] | None = None,
    openings: Openings | None = None,
    checkpoint_every: int = 0,
    keep_checkpoints: int = 0,
    early_stop: EarlyStop | None = None,
    world: int = 1,
) -> TrainingManifest:
    """Manifest of a training run on what lies on disk now.

    Args:
        base_folder: folder of the base model, see `resolve_base_model`.
        rows_path: Parquet file with `row_id` and `messages` in training order (safety mix already in it).
        base_name: what the adapter's config calls the base (hub id, or a name of your own).
        precision: ``auto`` is bf16 where matrix products in bf16 run in hardware.
        device: ``auto`` is the GPU if there is one.
        initial_adapter: folder of an adapter to continue from.
        probes: Parquet files with harmful prompts and with safe ones, same columns as the rows.
        openings: how answers decline and comply; None takes it from the base model's answers to the probes.

    For the others see `TrainingManifest`.

    Raises:
        UnsafeModel: the base model may run code or is malformed.
        TrainingError: no rows, settings that do not go together, or asked for a GPU that is not there.
    """
    description = describe_base_model(base_folder)
    on = resolve_device(device)
    rows = read_rows(rows_path)
    if rows.num_rows == 0:
        raise TrainingError(f"{rows_path} has no rows", remedy="Materialize the split first; check what its filters left over.")
    refusal, safe = probes if probes is not None else (None, None)
    limit = description["max_tokens"]
    return TrainingManifest(
        base=BaseModelIdentity(
            name=base_name,
            files=tuple((f["path"], f["sha256"]) for f in description["files"]),
            tokenizer_sha256=description["tokenizer_sha256"],
            chat_template_sha256=description["chat_template_sha256"],
        ),
        base_folder=str(base_folder),
        rows_path=str(rows_path),
        rows=rows.num_rows,
        rows_sha256=sequence_sha256(rows),
        optimization=optimization,
        lora=lora or LoraSettings(),
        max_tokens=min(max_tokens, limit) if limit else max_tokens,
        adapter_seed=adapter_seed,
        precision=resolve_precision(precision, on),
        device=on,
        threads=threads,
        gradient_checkpointing=gradient_checkpointing,
        packing=packing,
        initial_adapter=_adapter_files(initial_adapter) if initial_adapter is not None else None,
        initial_adapter_folder=str(initial_adapter) if initial_adapter is not None else None,
        probes=MarginProbes(
            refusal_sha256=sequence_sha256(read_rows(refusal)), safe_sha256=sequence_sha256(read_rows(safe)), openings=openings
        )
        if refusal is not None and safe is not None
        else None,
        refusal_probes_path=str(refusal) if refusal is not None else None,
        safe_probes_path=str(safe) if safe is not None else None,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        early_stop=early_stop,
        world=world,
    )


def _adapter_files(folder: Path) -> FileHashes:
    if missing := [name for name in _ADAPTER_FILES if not (folder / name).is_file()]:
        raise TrainingError(f"{folder} has no {missing[0]}", remedy="Give the folder of a PEFT adapter, or train from the base.")
    return tuple((name, file_sha256(folder / name)) for name in _ADAPTER_FILES)


def _probes(*, openings: Mapping[str, Any] | None, **hashes: str) -> MarginProbes:
    declared = Openings(**{name: tuple(texts) for name, texts in openings.items()}) if openings is not None else None
    return MarginProbes(**hashes, openings=declared)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


__all__ = [
    "SCHEMA", "BaseModelIdentity", "Device", "EarlyStop", "LoraSettings", "MarginProbes", "Openings", "Precision", "TrainingManifest",
    "prepare", "read_rows", "resolve_device", "resolve_precision", "sequence_sha256",
]  # fmt: skip
