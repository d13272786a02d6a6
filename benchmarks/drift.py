"""What a permutation of the kernel two-sample test costs: `python -m benchmarks.drift [--rows 4000] [--alibi PYTHON] [--data FOLDER]`.

Contenders: `mmd_two_sample` (all permutations as one product), the usual program (the kernel matrix once, its rows and columns rearranged
for each permutation), and alibi-detect's MMDDrift on torch, run by the interpreter of an environment of its own (`--alibi`; its pins do not
go with ours). Inputs are drawn numbers of 384 features, one thread each; reported is CPU time without imports, per permutation. Quality:
banking77 split in two, and the same with a tenth of clinc150, as TF-IDF topics (200 dimensions).

`--realism 1000000` measures the checks of synthetic inputs (M9) instead: that many rows of real banking77 questions, joined by pairs, in
a Parquet file, are streamed against 2,000 real ones by each check in a process of its own, with its peak memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftplatform.statistics.mmd import mmd_two_sample
from ftplatform.statistics.two_sample import classifier_two_sample
from ftplatform.synthesis.content_mix import content_mix_match
from ftplatform.synthesis.coverage import input_tail_coverage
from ftplatform.synthesis.gaps import input_feature_gaps
from ftplatform.synthesis.reference_health import reference_health
from ftplatform.synthesis.samples import COLUMNS
from ftplatform.synthesis.surface import input_surface_match
from ftplatform_tests import real_data
from ftplatform_tests.tables import row, table

_FEATURES = 384
_OURS = "ftplatform"
_ALIBI = """
import sys, time
import numpy as np, torch
from alibi_detect.cd import MMDDrift
torch.set_num_threads(1)
n, features, permutations = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
a, b = (rng.normal(size=(n, features)).astype(np.float32) for _ in range(2))
detector = MMDDrift(a, backend="pytorch", n_permutations=permutations)
started = time.process_time()
detector.predict(b)
print(time.process_time() - started)
"""


def rearranged(a: NDArray[np.float32], b: NDArray[np.float32], permutations: int, sigma: float) -> float:
    """The p-value by one permuted copy of the kernel matrix after another."""
    pooled = np.concatenate([a, b])
    squares = np.einsum("ij,ij->i", pooled, pooled)
    kernel = np.exp(-np.maximum(squares[:, None] + squares[None] - 2 * pooled @ pooled.T, 0) / (2 * sigma**2))
    np.fill_diagonal(kernel, 0)
    n, m = len(a), len(b)

    def statistic(k: NDArray[np.float32]) -> float:
        return float(k[:n, :n].sum() / (n * (n - 1)) + k[n:, n:].sum() / (m * (m - 1)) - 2 * k[:n, n:].mean())

    rng = np.random.default_rng(0)
    observed = statistic(kernel)
    larger = 0
    for _ in range(permutations):
        order = rng.permutation(n + m)
        larger += statistic(kernel[order][:, order]) >= observed
    return (1 + larger) / (1 + permutations)


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds per permutation of each contender, in turn; each includes its share of computing the kernel."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(options.rows, _FEATURES)).astype(np.float32) for _ in range(2))
    permutations = {_OURS: options.permutations, "rearranged kernel": options.peer_permutations}
    if options.alibi:
        permutations["alibi-detect"] = options.peer_permutations
    seconds: dict[str, list[float]] = {name: [] for name in permutations}
    for _ in range(options.rounds):
        for name, count in permutations.items():
            if name == "alibi-detect":
                command = [options.alibi, "-W", "ignore", "-c", _ALIBI, *map(str, (options.rows, _FEATURES, count))]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                spent = float(done.stdout.split()[-1])
            else:
                started = time.process_time()
                if name == _OURS:
                    mmd_two_sample(a, b, permutations=count)
                else:
                    rearranged(a, b, count, 27.0)
                spent = time.process_time() - started
            seconds[name].append(spent / count)
    figures: dict[str, Any] = {
        name: {
            "permutations": permutations[name],
            "cpu_s_per_permutation_median": round(statistics.median(spent), 6),
            "cpu_s_per_permutation_min": round(min(spent), 6),
        }
        for name, spent in seconds.items()
    }
    ratios = {
        f"{name} / {_OURS}": round(statistics.median(p / o for p, o in zip(spent, seconds[_OURS], strict=True)), 1)
        for name, spent in seconds.items()
        if name != _OURS
    }
    return {"rows_a_side": options.rows, "contenders": figures, "ratios": ratios}


def quality(data: Path) -> dict[str, Any]:
    """p-values and a classifier's AUC on a split of one source, and on the same with a tenth from another."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    n, tenth = 3000, 300
    rng = np.random.default_rng(0)
    texts: list[str] = []
    for rows, count in ((real_data.banking77(data, "train"), 2 * n), (real_data.clinc150(data, "train"), tenth)):
        said = [messages[0]["content"] for messages in rows["messages"].to_pylist()]
        texts += [said[i] for i in rng.choice(len(said), count, replace=False)]
    topics = TruncatedSVD(200, random_state=0).fit_transform(TfidfVectorizer(sublinear_tf=True).fit_transform(texts))
    topics /= np.linalg.norm(topics, axis=1, keepdims=True) + 1e-9
    one, two, foreign = topics[:n], topics[n : 2 * n], topics[2 * n :]
    found = {}
    for name, other in (("split of one source", two), ("a tenth from another", np.concatenate([two[:-tenth], foreign]))):
        auc = classifier_two_sample(one[:, :20], other[:, :20], permutations=20, resamples=20).auc
        found[name] = {"mmd_p": mmd_two_sample(one, other).p_value, "classifier_auc": round(auc, 3)}
    return found


_REALISM = {
    "input_surface_match": input_surface_match,
    "input_feature_gaps": input_feature_gaps,
    "input_tail_coverage": input_tail_coverage,
    "content_mix_match": content_mix_match,
}
_BATCH = 1 << 14


def write_rows(data: Path, rows: int, file: Path) -> None:
    """`rows` rows of two real questions each, two rows to a conversation: a batch of distinct ones, repeated by other customers."""
    said = [messages[0]["content"] for messages in real_data.banking77(data, "train")["messages"].to_pylist()]
    pairs = np.random.default_rng(0).integers(len(said), size=(min(_BATCH, rows), 2)).tolist()
    now = datetime.datetime.now(datetime.UTC)
    batch = table(row(("user", f"{said[a]} {said[b]}"), created_at=now) for a, b in pairs)
    place = batch.schema.get_field_index("group")
    with pq.ParquetWriter(file, batch.schema) as writer:
        for start in range(0, rows, _BATCH):
            part = batch.slice(0, min(_BATCH, rows - start))
            customers = pa.array(np.arange(start, start + len(part)) // 2).cast(pa.string())
            writer.write_table(part.set_column(place, batch.schema.field(place), customers))


def one_check(name: str, file: Path, data: Path) -> dict[str, Any]:
    """Seconds and peak memory of one check in this process."""

    def stream() -> Iterator[pa.RecordBatch]:
        return pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=list(COLUMNS))

    reference = real_data.banking77(data, "test").slice(0, 2000)
    started = time.perf_counter()
    if name == "reference_health":
        verdict = reference_health(stream(), now=datetime.datetime.now(datetime.UTC))
    else:
        verdict = _REALISM[name](stream(), reference)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mib": round(peak), "decision": str(verdict.decision), "estimate": verdict.estimate}


def realism(options: argparse.Namespace) -> dict[str, Any]:
    """Each check on the same file, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        write_rows(options.data, options.realism, file)
        found: dict[str, Any] = {}
        for name in (*_REALISM, "reference_health"):
            command = [sys.executable, "-m", "benchmarks.drift", "--one", name, str(file), "--data", str(options.data)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
            print(f"{name:22} {found[name]['seconds']:8.1f} s {found[name]['peak_mib']:8} MiB  {found[name]['decision']}")
    return {"rows": options.realism, "checks": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000, help="on each side")
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--peer-permutations", type=int, default=100, help="fewer would charge the peers too much of the kernel")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alibi", help="python of an environment with alibi-detect; left out unless given")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument(
        "--realism", type=int, metavar="ROWS", help="measure the checks of synthetic inputs on that many rows instead"
    )
    parser.add_argument("--one", nargs=2, metavar=("CHECK", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_check(options.one[0], Path(options.one[1]), options.data)))
        return
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    if options.realism:
        figures = realism(options)
        versions = {package: version(package) for package in ("polars", "pyarrow", "scikit-learn")}
        print(json.dumps({"benchmark": "realism", "machine": machine, "versions": versions, **figures}))
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        figures = {**cost(options), "quality": quality(options.data)}
    for name, spent in figures["contenders"].items():
        print(f"{name:20} {1e3 * spent['cpu_s_per_permutation_median']:10.3f} ms of CPU per permutation")
    for name, ratio in figures["ratios"].items():
        print(f"{name}: {ratio}")
    print(f"quality: {figures['quality']}")
    versions = {package: version(package) for package in ("numpy", "scipy", "scikit-learn")}
    print(json.dumps({"benchmark": "drift", "machine": machine, "versions": versions, **figures}))


if __name__ == "__main__":
    main()
