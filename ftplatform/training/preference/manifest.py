"""The manifest of a preference run: everything that decides the folder of its adapter, as `training.manifest` is for a supervised one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ftplatform.canonical import digest
from ftplatform.errors import TrainingError
from ftplatform.training.base_model import describe_base_model
from ftplatform.training.environment import Device, Precision, resolve_device, resolve_precision
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest_record import restore
from ftplatform.training.preference.pairs import pairs_sha256, read_pairs
from ftplatform.training.settings import BaseModelIdentity, LoraSettings

SCHEMA = "ftplatform.preference/1"
_LOCATIONS = ("base_folder", "rows_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceManifest:
    """See the module. Build it with `prepare`, which resolves `auto` and hashes what is on disk.

    Attributes:
        base, base_folder: the model to be tuned, and where its files lie now. It is also the reference, with the adapter switched off.
        rows_path, rows, rows_sha256: Parquet file of `PREFERENCE_SCHEMA`, how many rows, and `pairs_sha256` of them.
        optimization: `batch_size` counts pairs; `seed` orders the data.
        beta: strength of the pull towards the reference, per nat; small lets the model go far.
        adapter_seed: initial weights of the adapter.

    For the others see `TrainingManifest`.

    Raises:
        TrainingError: beta is not a positive number, or a count is below 1.
    """

    base: BaseModelIdentity
    base_folder: str
    rows_path: str
    rows: int
    rows_sha256: str
    optimization: Optimization
    lora: LoraSettings
    beta: float
    max_tokens: int
    adapter_seed: int
    precision: Precision
    device: Device
    threads: int
    deterministic: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise TrainingError(f"beta is {self.beta}", remedy="Give a positive number; 0.1 is usual.")
        if min(self.optimization.steps, self.optimization.batch_size, self.optimization.micro_batches) < 1:
            raise TrainingError("steps, batch_size and micro_batches count from 1", remedy="Raise the number.")

    def identity(self) -> dict[str, Any]:
        """JSON-able form without locations: what goes into a closure."""
        record = self.to_record()
        return {key: value for key, value in record.items() if key not in _LOCATIONS}

    def sha256(self) -> str:
        """The manifest's hash (RFC 8785 form of `identity`)."""
        return digest(self.identity())

    def to_record(self) -> dict[str, Any]:
        """JSON-able form with locations, for handing it to another process."""
        record = {"schema": SCHEMA, **asdict(self)}
        record["base"]["files"] = [list(file) for file in self.base.files]
        if not isinstance(self.lora.target_modules, str):
            record["lora"]["target_modules"] = list(self.lora.target_modules)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PreferenceManifest:
        """Inverse of `to_record`.

        Raises:
            TrainingError: another schema, or unknown or missing keys (named).
        """
        return restore(cls, record, noun="preference manifest", schemas=(SCHEMA,))


def prepare(
    base_folder: Path,
    rows_path: Path,
    *,
    base_name: str,
    optimization: Optimization,
    lora: LoraSettings | None = None,
    beta: float = 0.1,
    max_tokens: int = 512,
    adapter_seed: int = 0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
) -> PreferenceManifest:
    """Manifest of a preference run on what lies on disk now; arguments as `training.manifest.prepare` takes them.

    Raises:
        UnsafeModel: the base model may run code or is malformed.
        TrainingError: no rows, rows that are no pairs, or asked for a GPU that is not there.
    """
    description = describe_base_model(base_folder)
    on = resolve_device(device)
    rows = read_pairs(rows_path)
    if rows.num_rows == 0:
        raise TrainingError(f"{rows_path} has no rows", remedy="Materialize the preferences first.")
    limit = description["max_tokens"]
    return PreferenceManifest(
        base=BaseModelIdentity(
            name=base_name,
            files=tuple((f["path"], f["sha256"]) for f in description["files"]),
            tokenizer_sha256=description["tokenizer_sha256"],
            chat_template_sha256=description["chat_template_sha256"],
        ),
        base_folder=str(base_folder),
        rows_path=str(rows_path),
        rows=rows.num_rows,
        rows_sha256=pairs_sha256(rows),
        optimization=optimization,
        lora=lora or LoraSettings(),
        beta=beta,
        max_tokens=min(max_tokens, limit) if limit else max_tokens,
        adapter_seed=adapter_seed,
        precision=resolve_precision(precision, on),
        device=on,
        threads=threads,
    )
