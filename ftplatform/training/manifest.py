"""The training manifest: everything that decides the bytes of an adapter, resolved, and nothing else.

`train(manifest, out)` is a function of this value. Where the files lie today (`base_folder`, `rows_path`) is needed to run but is
no part of the identity: two machines with the same bytes in other folders have the same manifest hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ftplatform.canonical import digest
from ftplatform.errors import TrainingError
from ftplatform.rows.schema import row_id
from ftplatform.training.base_model import describe_base_model
from ftplatform.training.environment import has_bf16
from ftplatform.training.loop import Optimization

SCHEMA = "ftplatform.training/1"

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16"]

#: Where files lie; not part of the identity.
_LOCATIONS = ("base_folder", "rows_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2021): every adapted weight W becomes W + (alpha / rank) B A.

    `target_modules` is ``all-linear`` (every linear layer but the output layer) or names of modules, sorted.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        if not isinstance(self.target_modules, str):
            # A set of names: their order means nothing and must not change the hash.
            object.__setattr__(self, "target_modules", tuple(sorted(set(self.target_modules))))


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModelIdentity:
    """Which base model: hashes of its bytes, not its name (the name is for people and for the adapter's config)."""

    name: str
    files: tuple[tuple[str, str], ...]
    """(path inside the model's folder, SHA-256), by path."""
    tokenizer_sha256: str | None
    chat_template_sha256: str | None


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
        """Inverse of `to_record`.

        Raises:
            TrainingError: another schema, or unknown or missing keys (named).
        """
        known = dict(record)
        if known.pop("schema", None) != SCHEMA:
            raise TrainingError(
                f"this is no training manifest of schema {SCHEMA}", remedy="Write it with this version of ftplatform."
            )
        try:
            known["base"] = BaseModelIdentity(**{**known["base"], "files": tuple((p, h) for p, h in known["base"]["files"])})
            known["optimization"] = Optimization(**known["optimization"])
            known["lora"] = LoraSettings(**known["lora"])
            return cls(**known)
        except (KeyError, TypeError, ValueError) as error:
            expected = ", ".join(f.name for f in fields(cls))
            raise TrainingError(f"the training manifest is not readable: {error}", remedy=f"Its keys are {expected}.") from error


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
) -> TrainingManifest:
    """Manifest of a training run on what lies on disk now.

    Args:
        base_folder: folder of the base model, see `resolve_base_model`.
        rows_path: Parquet file with `row_id` and `messages` in training order (safety mix already in it).
        base_name: what the adapter's config calls the base (hub id, or a name of your own).
        precision: ``auto`` is bf16 where matrix products in bf16 run in hardware.
        device: ``auto`` is the GPU if there is one.

    Raises:
        UnsafeModel: the base model may run code or is malformed.
        TrainingError: no rows, or asked for a GPU that is not there.
    """
    description = describe_base_model(base_folder)
    on = resolve_device(device)
    rows = read_rows(rows_path)
    if rows.num_rows == 0:
        raise TrainingError(f"{rows_path} has no rows", remedy="Materialize the split first; check what its filters left over.")
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
    )


def read_rows(path: Path) -> pa.Table:
    """The columns training reads: `row_id`, `messages` and, where there is one, `weight`.

    Raises:
        TrainingError: not a Parquet file with these columns.
    """
    try:
        columns = ["row_id", "messages", *(["weight"] if "weight" in pq.read_schema(path).names else [])]
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise TrainingError(
            f"{path} cannot be read as training rows: {error}", remedy="Give a Parquet file of the row schema."
        ) from error


def sequence_sha256(rows: pa.Table) -> str:
    """SHA-256 of the *sequence* of rows: their texts, loss masks and weights (where not 1), in this order.

    Identities are computed from the texts, not taken from the `row_id` column. The same rows in another order give another adapter
    (measured: weight change of cosine 0.63), so they get another hash.
    """
    state = hashlib.sha256()
    weights = rows.column("weight").to_pylist() if "weight" in rows.column_names else [1.0] * rows.num_rows
    for messages, weight in zip(rows.column("messages").to_pylist(), weights, strict=True):
        mask = "".join("1" if m["trainable"] else "0" for m in messages)
        counted = "" if weight == 1.0 else f" {weight!r}"
        state.update(f"{row_id(messages)} {mask}{counted}\n".encode())
    return state.hexdigest()


def resolve_device(device: Literal["auto", "cpu", "cuda"]) -> Device:
    """``auto`` becomes the GPU if PyTorch sees one.

    Raises:
        TrainingError: ``cuda`` was asked for and is not there.
    """
    import torch

    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise TrainingError(
            "the manifest asks for a GPU and PyTorch sees none", remedy="Run it on a GPU machine or set device to cpu."
        )
    return "cpu"


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], device: Device) -> Precision:
    """``auto`` becomes bf16 where hardware multiplies it."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "fp32"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
