"""Near-deduplication of a text column: `python -m benchmarks.dedup [--rows 1000000] [--rounds 3] [--peers-python PATH]`.

Contenders, each a process of its own that loads the column before its clock starts: ours with numba and with NumPy alone on one thread
each, and with numba on all cores ("threads"; 25 x 5 bands, every pair verified, medoids), rensa's `RMinHashDeduplicator`, Daft's
`minhash` and datasketch's `MinHash.generator` with xxHash, the last two with bands and components in NumPy (16 x 8, not verified). Daft
gets a column whose words are already cut and in lower case. datasketch runs on `--slow-rows` rows, where it is compared with ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather

from benchmarks.dedup_contender import THRESHOLD
from benchmarks.dedup_corpus import Sources, corpus, sources
from benchmarks.dedup_truth import quality, true_pairs
from benchmarks.harness import report

_CONTENDER = Path(__file__).with_name("dedup_contender.py")
_OURS = ("numba", "numpy", "threads")
_SLOW = "datasketch"


class Bench:
    """Corpora in a folder, their true pairs, and runs of contenders on them."""

    def __init__(self, folder: Path, texts: Sources, peers_python: str) -> None:
        self.folder, self.texts, self.peers_python = folder, texts, peers_python
        self.truth: dict[int, tuple[Any, Any]] = {}
        self.quality: dict[str, dict[str, float]] = {}

    def file(self, rows: int) -> Path:
        """Arrow file of the corpus of so many rows, made when first asked for."""
        file = self.folder / f"{rows}.arrow"
        if not file.exists():
            table = corpus(self.texts, rows)
            self.truth[rows] = true_pairs(table, THRESHOLD)
            pa.feather.write_feather(table, str(file), compression="uncompressed")
        return file

    def run(self, contender: str, rows: int) -> dict[str, float]:
        """CPU seconds, wall seconds and peak MiB above the loaded column of one run; its quality is noted under its name."""
        removed = self.folder / "removed.npy"
        python = sys.executable if contender in _OURS else self.peers_python
        # Ours is imported from this checkout: -m puts its root, the working folder, on the path.
        script = ["-m", "benchmarks.dedup_contender"] if contender in _OURS else [str(_CONTENDER)]
        command = [python, *script, contender, str(self.file(rows)), str(removed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_CONTENDER.parent.parent)
        if done.returncode:
            raise SystemExit(f"{contender} ended with status {done.returncode}: {done.stderr[-2000:]}")
        self.quality[f"{contender} {rows}"] = quality(np.load(removed), *self.truth[rows])
        return json.loads(done.stdout.splitlines()[-1])

    def alternate(self, contenders: Sequence[str], rows: int, rounds: int) -> dict[str, list[dict[str, float]]]:
        """A B A B ..., so that a drifting machine hits all alike."""
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                measured[name].append(self.run(name, rows))
        return measured


def exponent(seconds: dict[int, float]) -> float:
    """Slope of log seconds over log rows: 1 where cost grows as the rows."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def versions(python: str) -> dict[str, str]:
    """Versions of the peers as their interpreter tells them."""
    code = "import json, importlib.metadata as m; print(json.dumps({p: m.version(p) for p in ('rensa', 'daft', 'datasketch', 'xxhash')}))"
    return json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slow-rows", type=int, default=100_000, help="rows for datasketch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument(
        "--peers-python", default=None, help="interpreter that has rensa, daft and datasketch; without it, only ours"
    )
    parser.add_argument("--only", nargs="*", default=None, help="contenders to run: numba numpy threads rensa daft datasketch")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    peers = ("rensa", "daft", _SLOW) if options.peers_python else ()
    wanted = [name for name in (*_OURS, *peers) if options.only is None or name in options.only or name == "numba"]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), sources(options.data), options.peers_python or sys.executable)
        fast = [name for name in wanted if name != _SLOW]
        measured = bench.alternate(fast, options.rows, options.rounds)
        medians = {options.rows: statistics.median(run["cpu_s"] for run in measured["numba"])}
        for rows in sorted({10_000, 100_000} - {options.rows}):
            if rows < options.rows:
                medians[rows] = statistics.median(run["cpu_s"] for run in bench.alternate(["numba"], rows, options.rounds)["numba"])
        slow_ratios = []
        slow_rows = min(options.slow_rows, options.rows)
        if _SLOW in wanted:
            slow = bench.alternate(["numba", _SLOW], slow_rows, options.rounds)
            slow_ratios = [round(a["cpu_s"] / b["cpu_s"], 2) for a, b in zip(slow[_SLOW], slow["numba"], strict=True)]
    facts: dict[str, Any] = {
        "rows": options.rows,
        "quality": bench.quality,
        "cpu_s_by_rows": {str(rows): round(seconds, 3) for rows, seconds in sorted(medians.items())},
        "exponent": round(exponent(medians), 3) if len(medians) > 1 else None,
        f"{_SLOW} / numba at {slow_rows} rows": slow_ratios,
        "peers": versions(options.peers_python) if options.peers_python else {},
    }
    for name, figures in bench.quality.items():
        print(f"{name:32} recall {figures['recall']:.4f}   precision {figures['precision']:.4f}   lost {figures['lost']}")
    print(f"scaling exponent {facts['exponent']} over {facts['cpu_s_by_rows']}")
    print(f"{_SLOW} / numba at {slow_rows} rows: {slow_ratios}")
    report("dedup", measured, "numba", ("ftplatform", "numpy", "polars", "pyarrow"), facts)


if __name__ == "__main__":
    main()
