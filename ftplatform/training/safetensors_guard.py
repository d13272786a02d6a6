"""Refuses model folders that could run code when loaded, or whose weights are not well-formed safetensors.

Loading a pickle executes whatever its author wrote, and so does a configuration whose `auto_map` names Python files. Both are
refused by looking, before anything is loaded. Format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftplatform.errors import UnsafeModel

#: Files that are, contain or may contain executable content (pickles, Python, native code).
EXECUTABLE_SUFFIXES = frozenset(
    (
        ".bin", ".ckpt", ".dill", ".dll", ".dylib", ".exe", ".h5", ".joblib", ".keras", ".msgpack", ".npy", ".npz", ".onnx",
        ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".py", ".pyc", ".pyd", ".pyz", ".sh", ".so",
    )
)  # fmt: skip

#: Files that make up a model; anything else in the folder (README, images) is left alone and left out.
MODEL_SUFFIXES = frozenset((".safetensors", ".json", ".jinja", ".txt", ".model"))

#: Keys that make a loader import code which travels with the model.
CODE_KEYS = frozenset(("auto_map", "custom_pipelines", "trust_remote_code"))

#: Limits of the reference implementation: header 100 MB; our own for JSON files.
MAX_HEADER_BYTES = 100_000_000
MAX_JSON_BYTES = 256 * 1024 * 1024

_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8,
    "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6,
}  # fmt: skip
_SAFE_ONLY = "Use a revision that ships *.safetensors and plain configuration only."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a safetensors header says about one tensor."""

    dtype: str
    shape: tuple[int, ...]


def model_files(folder: Path) -> list[Path]:
    """Files of the model in `folder`, relative, sorted by their POSIX form. Hidden files and folders are no part of it.

    Raises:
        UnsafeModel: the folder is missing, or a file or folder in it is a link that leads out of it.
    """
    return [p for p in _files(folder) if p.suffix in MODEL_SUFFIXES]


def check_model_folder(folder: Path) -> dict[str, TensorInfo]:
    """Tensors of a model folder, after proof that loading it runs no code from it.

    Raises:
        UnsafeModel: names the first offending file and why.
    """
    files = list(_files(folder))
    for file in files:
        if file.suffix.lower() in EXECUTABLE_SUFFIXES:
            raise UnsafeModel(f"{folder / file} may hold executable content ({file.suffix}).", remedy=f"Remove it. {_SAFE_ONLY}")
        if file.suffix == ".json":
            _check_json(folder / file)
    if Path("config.json") not in files:
        raise UnsafeModel(f"{folder} has no config.json.", remedy="Point to the folder that holds the model itself.")
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        if file.suffix == ".safetensors":
            tensors |= check_safetensors(folder / file)
    if not tensors:
        raise UnsafeModel(f"{folder} has no weights in safetensors format.", remedy=_SAFE_ONLY)
    return tensors


def check_safetensors(path: Path) -> dict[str, TensorInfo]:
    """Tensors named in the header of a safetensors file, after checking that header and data fit together.

    Every byte of the data must belong to exactly one tensor, so nothing hides between or behind them.

    Raises:
        UnsafeModel: malformed, truncated, overlapping, padded or over the limits.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
            raise _malformed(path, f"a header of {length} bytes is announced in a file of {size}")
        raw = file.read(length)
    if not raw.startswith(b"{"):
        raise _malformed(path, "the header does not start with '{'")
    header = _strict_object(path, raw)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _malformed(path, "__metadata__ must map strings to strings")
    tensors: dict[str, TensorInfo] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        tensors[name], span = _tensor(path, name, entry)
        spans.append((*span, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise _malformed(path, f"tensor {name!r} starts at byte {begin} of the data instead of {position}")
        position = end
    if position != size - 8 - length:
        raise _malformed(path, f"the tensors take {position} bytes and the file holds {size - 8 - length}")
    return tensors


def _tensor(path: Path, name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _malformed(path, f"tensor {name!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _BITS:
        raise _malformed(path, f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise _malformed(path, f"tensor {name!r} has a shape or offsets that are not natural numbers")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise _malformed(path, f"tensor {name!r} of shape {shape} does not take {offsets[1] - offsets[0]} bytes as {dtype}")
    return TensorInfo(dtype, tuple(shape)), (offsets[0], offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**63 for v in value)


def _strict_object(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"its JSON is not valid: {error}") from error
    if not isinstance(value, dict):
        raise _malformed(path, "its JSON is not an object")
    return value


def _check_json(path: Path) -> None:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise UnsafeModel(
            f"{path} is larger than {MAX_JSON_BYTES} bytes.", remedy="A configuration is small; find out what this is."
        )
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsafeModel(f"{path} is not valid JSON: {error}.", remedy="Download the model again.") from error
    # Loaders look at the top level and one level below; vocabularies deeper down may hold any string as a key.
    nested = [value, *value.values()] if isinstance(value, dict) else []
    for found in (CODE_KEYS.intersection(v) for v in nested if isinstance(v, dict)):
        if found and path.name not in ("tokenizer.json", "vocab.json"):
            raise UnsafeModel(
                f"{path} asks the loader to run code that comes with the model ({', '.join(sorted(found))}).", remedy=_SAFE_ONLY
            )


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise UnsafeModel(f"{folder} is not a folder.", remedy="Give the folder that holds config.json and *.safetensors.")
    root = folder.resolve()
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if not path.resolve().is_relative_to(root):
            raise UnsafeModel(f"{path} is a link that leads out of {folder}.", remedy="Copy the files into the folder (cp -rL).")
        if path.is_file():
            yield relative


def _malformed(path: Path, why: str) -> UnsafeModel:
    return UnsafeModel(f"{path} is not a well-formed safetensors file: {why}.", remedy="Download or export the weights again.")
