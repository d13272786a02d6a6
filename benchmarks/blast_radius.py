"""How fast "which live models saw source X?" is answered: `python -m benchmarks.blast_radius [--scale 1] [--queries 60]`.

At scale 1: 100 k versions in six layers (sources, synthetic sets, splits, adapters with chains of continued ones, evaluations, endpoints),
500 k edges, 1 M entries of sources in versions; on SQLite and on Postgres. Measured is the whole answer: every affected version with its
influence, shares and order, the cost of retraining, and the first hundred with their paths; by an index that was asked before, and by one
opened for the question ("new process", without the start of Python). The peer is the obvious program, a breadth-first search in Python
over adjacency lists; it gives the set of versions only. Then rows: one source out of 20 M in sidecars.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import os
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.licensing.blast_radius.index import GraphIndex
from ftplatform.licensing.blast_radius.sidecar import rows_of_source, write_sidecar

_LAYERS = ("raw", "synthetic", "splits", "adapters", "eval_results", "endpoints")
_SHARES = (0.10, 0.10, 0.20, 0.25, 0.25, 0.10)
#: (child layer, parent layer, parents of each child, role)
_LINKS = (
    (1, 0, 4, "prompt_seed"),
    (2, 0, 4, "rows"),
    (2, 1, 2, "rows"),
    (3, 2, 3, "rows"),
    (4, 3, 3, "measured"),
    (4, 2, 2, "evaluates"),
    (5, 3, 6, "serves"),
    (5, 4, 4, "evaluates"),
)
#: Lines of adapters, each continued from day to day.
_LINES = 200
_SIDECARS = 4


def graph(scale: float) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Versions, edges and sources; a version's parents are recent, its sources are those of its rows."""
    rng = np.random.default_rng(0)
    sizes = [int(100_000 * scale * share) for share in _SHARES]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parents, children, roles = [], [], []

    def add(parent: np.ndarray, child: np.ndarray, role: str) -> None:
        parents.append(parent)
        children.append(child)
        roles.append(np.full(len(parent), role))

    for child, parent, count, role in _LINKS:
        each = np.repeat(np.arange(sizes[child]), count)
        recent = max(1, sizes[parent] // 50)
        chosen = each * sizes[parent] // sizes[child] - rng.integers(0, recent, len(each))
        add(starts[parent] + np.maximum(chosen, 0), starts[child] + each, role)
    for layer, role, share in ((3, "continued_adapter", 0.7), (2, "selection", 1.0)):
        later = np.arange(_LINES, sizes[layer])
        later = later[rng.random(len(later)) < share]
        add(starts[layer] + later - _LINES, starts[layer] + later, role)
    edges = pl.DataFrame(
        {"parent": np.concatenate(parents), "child": np.concatenate(children), "role": np.concatenate(roles)}
    ).unique()

    sources = max(10, sizes[0] // 5)
    held = pl.DataFrame(
        {"source": np.arange(sizes[0]) % sources, "version": np.arange(sizes[0])}, {"source": pl.Int64, "version": pl.Int64}
    )
    for layer in (1, 2, 3):
        below = edges.filter(
            pl.col("child").is_between(int(starts[layer]), int(starts[layer + 1]) - 1),
            pl.col("role").is_in(["rows", "prompt_seed"]),
        )
        new = below.join(held, left_on="parent", right_on="version").select("source", version="child").unique()
        held = pl.concat([held, new])

    number = pl.Series("number", np.arange(starts[-1]))
    layer = np.repeat(np.arange(len(_LAYERS)), sizes)
    position = np.arange(starts[-1]) - starts[layer]
    names = pl.DataFrame({"number": number}).select(pl.col("number").hash(1).cast(pl.String).str.zfill(64).alias("name"))["name"]
    versions = pl.DataFrame(
        {
            "snapshot": names,
            "asset": [f"{_LAYERS[k]}/a{p % _LINES}" for k, p in zip(layer.tolist(), position.tolist(), strict=True)],
            "created_at": [
                f"2026-{1 + 11 * p // sizes[k]:02d}-01T00:00:00Z" for k, p in zip(layer.tolist(), position.tolist(), strict=True)
            ],
            "live": (layer == 5) & (position >= sizes[5] - 100),
            "provenance_complete": layer < 4,
            "n_rows": rng.integers(1_000, 100_000, len(layer)),
            "tokens": rng.integers(1_000_000, 100_000_000, len(layer)),
            "gpu_seconds": np.where(layer == 3, rng.integers(100, 10_000, len(layer)), 0).astype(float),
        }
    ).with_columns(pl.when(pl.col("gpu_seconds") > 0).then("gpu_seconds"))
    named = {"parent": names[edges["parent"]], "child": names[edges["child"]]}
    sources_frame = held.select(
        ("raw/source-" + pl.col("source").cast(pl.String)).alias("source"),
        names[held["version"]].alias("version"),
        pl.lit(100).alias("n_rows"),
        pl.lit(10).alias("derived_rows"),
        pl.lit(50_000).alias("tokens"),
    )
    return versions, edges.with_columns(**named), sources_frame


class AdjacencyLists:
    """The peer."""

    def __init__(self, edges: pl.DataFrame, sources: pl.DataFrame) -> None:
        self.children: dict[str, list[str]] = {}
        for parent, child in edges.select("parent", "child").iter_rows():
            self.children.setdefault(parent, []).append(child)
        self.holders: dict[str, list[str]] = {}
        for source, holder in sources.select("source", "version").iter_rows():
            self.holders.setdefault(source, []).append(holder)

    def reached(self, source: str) -> set[str]:
        seen = set(self.holders[source])
        queue = deque(seen)
        while queue:
            for child in self.children.get(queue.popleft(), ()):
                if child not in seen:
                    seen.add(child)
                    queue.append(child)
        return seen


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def spread(values: Sequence[float]) -> dict[str, float]:
    return {name: round(float(np.quantile(values, at)), 4) for name, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


@contextlib.contextmanager
def postgres(url: str | None) -> Iterator[str]:
    if url:
        yield url
        return
    from ftplatform_tests.postgres import postgres as server

    with server("lineage") as started:
        yield started


def queries(options: argparse.Namespace, folder: Path, url: str) -> dict[str, Any]:
    versions, edges, sources = graph(options.scale)
    print(f"{versions.height:,} versions, {edges.height:,} edges, {sources.height:,} sources in versions")
    names = sources["source"].unique().sort().sample(options.queries, seed=1, with_replacement=True).to_list()
    locations = {"SQLite": str(folder / "lineage.db"), "Postgres": url}
    figures: dict[str, Any] = {}
    for name, location in locations.items():
        index = GraphIndex(location)
        load = seconds(lambda index=index: index.load(versions, edges, sources, replace=True))
        first = seconds(lambda index=index: index.blast_radius(names[0]).to_record())
        figures[name] = {"load_s": round(load, 2), "first_s": round(first, 3)}
        again = seconds(lambda index=index: index.load(versions.head(100), edges.head(500)))
        figures[f"{name}, new process"] = {"load_100_more_s": round(again, 2)}
        index.close()
    warm = {name: GraphIndex(location) for name, location in locations.items()}
    built = time.perf_counter()
    peer = AdjacencyLists(edges, sources)
    figures["adjacency lists"] = {"load_s": round(time.perf_counter() - built, 2)}
    # The peer's millions of lists are its own affair; without this the collector walks them while the others are measured.
    gc.freeze()

    def fresh(location: str, source: str) -> None:
        index = GraphIndex(location)
        index.blast_radius(source).to_record()
        index.close()

    contenders: dict[str, Callable[[str], Any]] = {"adjacency lists": peer.reached}
    for name, location in locations.items():
        contenders[f"{name}, new process"] = functools.partial(fresh, location)
        contenders[name] = lambda source, index=warm[name]: index.blast_radius(source).to_record()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    sizes = []
    for source in names:
        for name, ask in contenders.items():
            times[name].append(seconds(lambda ask=ask, source=source: ask(source)))
        expected = peer.reached(source)
        sizes.append(len(expected))
        for name, index in warm.items():
            if set(index.blast_radius(source).versions["snapshot"]) != expected:
                raise SystemExit(f"{name} and the peer disagree about {source}")
    figures["affected"] = spread(sizes)
    for name, measured in times.items():
        figures[name] |= spread(measured)
        print(f"{name:24} " + "   ".join(f"{key} {value:8.3f}" for key, value in figures[name].items()))
    figures["ratios"] = {
        f"adjacency lists / {name}": round(float(np.median(np.array(times["adjacency lists"]) / np.array(times[name]))), 3)
        for name in contenders
        if name != "adjacency lists"
    }
    served = versions.filter("live")["snapshot"].to_list()[:20]
    for name, index in warm.items():
        reverse = spread([seconds(lambda index=index, endpoint=endpoint: index.sources_of(endpoint)) for endpoint in served])
        figures[name]["sources_of"] = reverse
        print(f"{name}: sources of a live endpoint {reverse}")
        index.close()
    return figures


def rows(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    count = options.rows // _SIDECARS
    weights = 1 / np.arange(1, 1_001) ** 1.3
    names = pa.array([f"raw/source-{k:04d}" for k in range(1_000)])
    digits = np.array([f"{byte:02x}".encode() for byte in range(256)]).view(np.uint16)
    paths, held, written = [folder / f"{k}.parquet" for k in range(_SIDECARS)], np.zeros(1_000, dtype=np.int64), 0.0
    for path in paths:
        which = rng.choice(1_000, count, p=weights / weights.sum())
        held += np.bincount(which, minlength=1_000)
        text = digits[np.frombuffer(rng.bytes(32 * count), np.uint8)]
        offsets = pa.py_buffer(np.arange(0, 64 * count + 1, 64, dtype=np.int64))
        ids = pa.Array.from_buffers(pa.large_string(), count, [None, offsets, pa.py_buffer(text)])
        origins = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), names.take(pa.array(which)))
        parents = pa.ListArray.from_arrays(np.zeros(count + 1, dtype=np.int32), pa.array([], pa.string()))
        table = pa.table({"row_id": ids, "origins": origins, "parents": parents})
        written += seconds(lambda path=path, table=table: write_sidecar(table, path))
    figures: dict[str, Any] = {
        "rows": count * _SIDECARS,
        "sidecars": _SIDECARS,
        "megabytes": round(sum(path.stat().st_size for path in paths) / 1e6),
        "write_s": round(written, 1),
        "look_ups": [],
    }
    for k in (999, 100, 10, 1, 0):
        source = names[k].as_py()
        took = [seconds(lambda source=source: rows_of_source(paths, source)) for _ in range(5)]
        found = rows_of_source(paths, source).height
        if found != held[k]:
            raise SystemExit(f"{found} rows of {source} were found, {held[k]} were written")
        figures["look_ups"].append({"rows": found, "median_s": round(float(np.median(took)), 4), "max_s": round(max(took), 4)})
        print(f"{found:>10,} rows of one source out of {count * _SIDECARS:,}: {np.median(took):.3f} s")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--rows", type=int, default=None, help="in sidecars; 20 M times the scale unless given")
    parser.add_argument("--postgres", help="postgresql+psycopg2://... of an empty database; a server is started unless given")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    options.rows = options.rows if options.rows is not None else int(20_000_000 * options.scale)
    with tempfile.TemporaryDirectory() as folder:
        with postgres(options.postgres) as url:
            figures = {"queries": queries(options, Path(folder), url)}
        figures["sidecars"] = rows(options, Path(folder))
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    versions = {package: version(package) for package in ("polars", "pyarrow", "numpy", "sqlalchemy", "psycopg2-binary")}
    print(json.dumps({"benchmark": "blast_radius", "scale": options.scale, "machine": machine, "versions": versions, **figures}))


if __name__ == "__main__":
    main()
