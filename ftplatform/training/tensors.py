"""The hash of what an adapter *is*: its tensors, whatever header the file around them has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def tensors_digest(path: Path) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of every tensor of a safetensors file, by name.

    The same tensors written in another order or with other metadata have the same digest. Call it on files that
    `safetensors_guard.check_safetensors` accepted.
    """
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        for name in sorted(header):
            tensor = header[name]
            low, high = tensor["data_offsets"]
            hasher.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode() + b"\n")
            stream.seek(8 + length + low)
            hasher.update(stream.read(high - low))
    return hasher.hexdigest()
