"""What every benchmark does the same way: whole processes in turn, the operating system's own accounting, ratios with spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any


def run_once(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """CPU seconds (user and system), wall seconds and peak memory (MiB) of one process."""
    started = time.perf_counter()
    process = subprocess.Popen(arguments, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with status {status}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - started,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def alternate(contenders: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Measurements of each contender; one warm-up each, then A B A B ..., so that a drifting machine hits all alike."""
    for arguments, environment in contenders.values():
        run_once(arguments, environment)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (arguments, environment) in contenders.items():
            measured[name].append(run_once(arguments, environment))
    return measured


def report(
    name: str, measured: Mapping[str, list[dict[str, float]]], ours: str, packages: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Print a table, then one JSON line. Ratios are peer over ours, pair by pair: above 1 we are faster."""
    summary = {
        contender: {
            f"{figure}_{kind}": round(function([run[figure] for run in runs]), 3)
            for figure in ("cpu_s", "wall_s", "peak_mib")
            for kind, function in (("median", statistics.median), ("min", min))
        }
        for contender, runs in measured.items()
    }
    ratios = {
        f"{peer} / {ours}": _spread([p["cpu_s"] / o["cpu_s"] for p, o in zip(runs, measured[ours], strict=True)])
        for peer, runs in measured.items()
        if peer != ours
    }
    for contender, figures in summary.items():
        cpu, wall, peak = (figures[f"{figure}_median"] for figure in ("cpu_s", "wall_s", "peak_mib"))
        print(f"{contender:32} cpu {cpu:7.2f} s   wall {wall:7.2f} s   {peak:6.0f} MiB")
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {package: version(package) for package in packages}
    line = {"benchmark": name, "machine": machine, "versions": versions, **facts, "contenders": summary, "ratios": ratios}
    print(json.dumps(line), file=sys.stdout)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}
