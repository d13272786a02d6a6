"""How long our own adapters take to their first token: what a cold start costs here, and what would avoid it.

Each kind is measured in processes of its own, one thread each, with its spread: loading is dominated by the injection of the adapter's
modules, which differs between runs more than a mean shows.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftplatform.errors import InputDataError, UnsafeModel

#: Kinds in the order they are reported; the first starts a process, the last has everything in memory.
KINDS = (
    "cold process",
    "cold adapter, warm base",
    "cold adapter, beside others",
    "hot swap",
    "resident beside others",
    "warm",
)
_TIMEOUT = 600.0
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """Measurements of one kind, in seconds to the first token."""

    what: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def to_record(self) -> dict[str, Any]:
        """Kind, n, median, extremes and standard deviation (n - 1), seconds."""
        return {
            "what": self.what,
            "n": len(self.seconds),
            "median_s": round(self.median, 4),
            "low_s": round(min(self.seconds), 4),
            "high_s": round(max(self.seconds), 4),
            "sd_s": round(statistics.stdev(self.seconds), 4) if len(self.seconds) > 1 else None,
        }


def measure_loads(base: Path, adapters: Sequence[Path], *, rounds: int = 5, processes: int | None = None) -> list[LoadTimes]:
    """Measure loading of PEFT adapters on a local base model.

    Args:
        base: folder of a model in safetensors.
        adapters: folders of adapters of that base, of one rank and the same modules where hot swap is to work; the first is loaded,
            swapped and served, the others are held beside it.
        rounds: measurements in the warm process: as many of loading, twice as many of swapping.
        processes: cold processes to start; `rounds` by default.

    Returns:
        One entry per kind that could be measured (nothing is "beside others" with a single adapter).

    Raises:
        InputDataError: a folder is missing, or the adapters do not load.
        UnsafeModel: a folder holds pickled weights.
    """
    if not adapters:
        raise InputDataError("no adapter to measure.", remedy="Name one or more adapter folders.")
    for folder, weights in ((base, "model*.safetensors"), *((adapter, "adapter_model.safetensors") for adapter in adapters)):
        _require_safe(folder, weights)
    named = [str(folder.resolve()) for folder in adapters]
    cold: list[float] = []
    for _ in range(rounds if processes is None else processes):
        began = time.perf_counter()
        _probe(base, 0, named[:1])
        cold.append(time.perf_counter() - began)
    found = {"cold process": cold, **_probe(base, rounds, named)}
    return [LoadTimes(kind, tuple(found[kind])) for kind in KINDS if found.get(kind)]


def cold_penalty(loads: Sequence[LoadTimes], kind: str = "cold adapter, warm base") -> float:
    """Median seconds that a user waits longer than for a warm adapter.

    Raises:
        InputDataError: `kind` or "warm" was not measured.
    """
    by_kind = {load.what: load.median for load in loads}
    if not {kind, "warm"} <= by_kind.keys():
        raise InputDataError(f"no measurement of {kind!r}.", remedy=f"Measured: {', '.join(by_kind) or 'nothing'}.")
    return max(0.0, by_kind[kind] - by_kind["warm"])


def _probe(base: Path, rounds: int, adapters: list[str]) -> dict[str, list[float]]:
    # -P: what lies in the working folder is no part of the program.
    command = [sys.executable, "-P", "-m", "ftplatform.serving.load_probe", str(base.resolve()), str(rounds), *adapters]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as late:
        raise InputDataError(f"{base.name}: loading took more than {_TIMEOUT:.0f} s.", remedy="Measure a smaller model.") from late
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise InputDataError(f"{Path(adapters[0]).name}: the adapters do not load ({last}).", remedy="Name adapters of this base.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _require_safe(folder: Path, weights: str) -> None:
    if not folder.is_dir() or not any(folder.glob(weights)):
        raise InputDataError(f"{folder}: holds no {weights}.", remedy="Name the folder of a model or adapter in safetensors.")
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLED)
    if pickled:
        raise UnsafeModel(f"{folder}: {pickled[0]} may run code when it is loaded.", remedy="Keep the safetensors file only.")
