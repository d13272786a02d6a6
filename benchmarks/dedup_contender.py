"""One contender of `benchmarks.dedup` in a process of its own: load the texts, then measure, then write which rows it would remove.

`python dedup_contender.py CONTENDER CORPUS REMOVED`: CORPUS is an Arrow file with the column `text`, REMOVED a .npy file to write (bool).
Prints one JSON line. It stands alone, because the peers live in another interpreter, which need not know ftplatform. What a
contender takes as its input (Python strings, words in lower case) is made before the clock starts; a first call on a few rows loads code.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather

THRESHOLD = 0.7
NUM_PERM = 128
BANDS = 16
_WORD = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """Word 3-grams (repeats change no sketch); a shorter text is one of them. The fastest of several ways that were tried."""
    words = _WORD.findall(text.lower())
    if len(words) < 3:
        return [" ".join(words)] if words else []
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def ftplatform(texts: pa.ChunkedArray, workers: int | None = 1) -> np.ndarray:
    from ftplatform.kernels.clusters import near_duplicate_clusters

    return near_duplicate_clusters(texts, THRESHOLD, workers=workers).representative != np.arange(len(texts))


def rensa(texts: list[str]) -> np.ndarray:
    from rensa import RMinHashDeduplicator  # pyright: ignore[reportMissingImports]

    deduplicator = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=NUM_PERM, use_lsh=True, num_bands=BANDS)
    added: list[bool] = []
    for start in range(0, len(texts), 10_000):
        added += deduplicator.add_pairs([(str(start + i), shingles(t)) for i, t in enumerate(texts[start : start + 10_000])])
    return ~np.array(added)


def daft(texts: pa.ChunkedArray) -> np.ndarray:
    import daft  # pyright: ignore[reportMissingImports]
    from daft.functions import minhash  # pyright: ignore[reportMissingImports]

    frame = daft.from_arrow(pa.table({"text": texts}))
    column = frame.select(minhash(frame["text"], num_hashes=NUM_PERM, ngram_size=3)).to_arrow().column(0)
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, NUM_PERM) for chunk in column.chunks]
    return _banded(np.concatenate(parts))


def datasketch(texts: list[str]) -> np.ndarray:
    from datasketch import MinHash
    from xxhash import xxh32_intdigest

    words = ([shingle.encode() for shingle in shingles(text)] for text in texts)
    sketches = MinHash.generator(words, num_perm=NUM_PERM, hashfunc=xxh32_intdigest, scheme="affine32")
    return _banded(np.stack([sketch.hashvalues for sketch in sketches]).astype(np.uint32))


def _banded(signatures: np.ndarray) -> np.ndarray:
    """All but the first row of each connected component of rows that share a band, as their documentation suggests: not verified."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(signatures)
    left, right = [], []
    for band in np.split(signatures, BANDS, axis=1):
        keys = np.zeros(n, np.uint64)
        for k in range(band.shape[1]):
            keys = (keys ^ band[:, k]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(32)
        order = np.argsort(keys)
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        left.append(order[same])
        right.append(order[same + 1])
    ends = np.concatenate(left), np.concatenate(right)
    _, labels = connected_components(coo_array((np.ones(len(ends[0]), bool), ends), shape=(n, n)), directed=False)
    removed = np.ones(n, bool)
    removed[np.unique(labels, return_index=True)[1]] = False
    return removed


def _as_strings(texts: pa.ChunkedArray) -> list[str]:
    return texts.to_pylist()


def _as_words(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    # Daft cuts at single spaces and leaves the rest to its user.
    return pa.chunked_array([pa.array([" ".join(_WORD.findall(text.lower())) for text in texts.to_pylist()], pa.large_string())])


CONTENDERS: dict[str, tuple[Callable[[Any], np.ndarray], Callable[[pa.ChunkedArray], Any]]] = {
    "numba": (ftplatform, lambda texts: texts),
    "numpy": (ftplatform, lambda texts: texts),
    "threads": (partial(ftplatform, workers=None), lambda texts: texts),
    "rensa": (rensa, _as_strings),
    "daft": (daft, _as_words),
    "datasketch": (datasketch, _as_strings),
}


def _memory(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    contender, corpus, removed = sys.argv[1:4]
    os.environ["FTPLATFORM_KERNELS"] = "numpy" if contender == "numpy" else "numba"
    function, prepare = CONTENDERS[contender]
    texts = pyarrow.feather.read_table(corpus, memory_map=False)["text"]
    given = prepare(texts)
    function(prepare(texts.slice(0, 2000)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before, cpu, wall = _memory("VmRSS"), time.process_time(), time.perf_counter()
    flags = function(given)
    measured = {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_mib": _memory("VmHWM") - before,
    }
    np.save(removed, flags)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
