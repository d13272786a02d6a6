"""How fast and how well eval items are found in training texts: `python -m benchmarks.contamination [--rows 1000000 --items 5000]`.

Texts of dialogues, one in a hundred with an eval item in it: word for word (40 % of them), a snippet of 14 to 22 words (20 %), in upper
case without punctuation (20 %), or with every seventh word replaced (20 %). Each contender is a process of its own and measures the work
from the texts in memory to the flagged rows: index and scan. Compiling is left out, and loading the compiled code.

Contenders: 13-grams by our scan, compiled and in NumPy; a Python set of 13-grams; `Janitor` of lm-eval, if the interpreter given by
`--peers` has it. The last two scan `--sample` rows, and that time (not the index) is scaled to all rows. `near` is the whole near
comparison: it finds the edited ones, too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KINDS = {"verbatim": 0.4, "snippet": 0.2, "format": 0.2, "edited": 0.2}
_LEAKED = 0.01
_WIDTH = 13
_BATCH = 1 << 15

#: Builds the index, and scans with it: (row, item) of each find, item -1 where it is not named.
Contender = tuple[Callable[[], Any], Callable[[Any], list[tuple[int, int]]]]


def build(data: Path, folder: Path, rows: int, count: int) -> dict[str, Any]:
    """Write texts.arrow (text), items.json and leaks.json ([row, item, kind])."""
    import numpy as np
    import pyarrow as pa

    from benchmarks.dedup_corpus import _lines, sources

    random = np.random.default_rng(0)
    turns = [turn for dialogue in sources(data).dialogues for turn in dialogue]
    words = sorted({word.lower() for turn in turns[:50_000] for word in re.findall(r"[A-Za-z]{3,}", turn)})
    items = [record["question"] for record in _lines(data / "gsm8k" / "test.jsonl.gz")][:count]
    while len(items) < count:
        chosen = random.choice(words, random.integers(18, 60)).tolist()
        items.append(" ".join(chosen).capitalize() + "?")
    leaks: list[tuple[int, int, str]] = []
    size = 0
    schema = pa.schema([("text", pa.string())])
    with pa.OSFile(str(folder / "texts.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, rows, _BATCH):
            texts = []
            for row in range(start, min(rows, start + _BATCH)):
                first = int(random.integers(len(turns) - 20))
                text = " ".join(turns[first : first + int(random.integers(4, 13))])
                if random.random() < _LEAKED:
                    item, kind = int(random.integers(count)), str(random.choice(list(KINDS), p=list(KINDS.values())))
                    leaks.append((row, item, kind))
                    half = text.find(" ", len(text) // 2)
                    text = f"{text[:half]} {leak(items[item], kind, random, words)} {text[half + 1 :]}"
                texts.append(text)
                size += len(text.encode())
            writer.write(pa.record_batch([pa.array(texts)], schema))
    (folder / "items.json").write_text(json.dumps(items))
    (folder / "leaks.json").write_text(json.dumps(leaks))
    return {"rows": rows, "items": count, "bytes_per_row": round(size / rows, 1), "leaked_rows": len(leaks)}


def leak(item: str, kind: str, random: Any, words: Sequence[str]) -> str:
    """The item as it is written into a row."""
    own = item.split()
    if kind == "snippet":
        length = min(len(own), int(random.integers(14, 23)))
        first = int(random.integers(len(own) - length + 1))
        return " ".join(own[first : first + length])
    if kind == "format":
        return re.sub(r"[^\w\s]", "", item).upper()
    if kind == "edited":
        return " ".join(str(random.choice(words)) if at % 7 == 6 else word for at, word in enumerate(own))
    return item


def work(contender: str, folder: Path, rows: int, sample: int) -> dict[str, Any]:
    """Run one contender and measure it; for the processes this benchmark starts. Of the Python ones the scan is scaled to all rows."""
    items = json.loads((folder / "items.json").read_text())
    prepare = {"numba": _ours, "numpy": _ours, "near": _near, "naive set": _naive, "lm-eval Janitor": _janitor}[contender]
    scaled = rows / sample if prepare in (_naive, _janitor) else 1.0
    index, scan = prepare(folder, items, sample)
    before = time.process_time(), time.perf_counter()
    known = index()
    between = time.process_time(), time.perf_counter()
    flags = scan(known)
    after = time.process_time(), time.perf_counter()
    cpu, wall = ((m - b) + (a - m) * scaled for b, m, a in zip(before, between, after, strict=True))
    return {"cpu_s": cpu, "wall_s": wall, "peak_mib": _peak_mib(), "flags": flags}


def _peak_mib() -> float:
    """Peak resident memory of this process; getrusage would count the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _texts(folder: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.OSFile(str(folder / "texts.arrow"))).read_all()["text"]


def _ours(folder: Path, items: list[str], _: int) -> Contender:
    import numpy as np
    import pyarrow as pa

    from ftplatform.contamination.scan import NgramIndex, scan

    texts = _texts(folder)
    list(scan([pa.array(["a b"])], NgramIndex.of(pa.array(["a b"]), 2)))

    def run(index: NgramIndex) -> list[tuple[int, int]]:
        found = []
        for hits in scan(texts.chunks, index):
            hit, item, _ = hits.expand(index)
            found.append(np.unique(np.stack([hits.owners[hit], item], axis=1), axis=0))
        return [(int(row), int(item)) for row, item in np.concatenate(found)]

    return lambda: NgramIndex.of(pa.array(items), _WIDTH), run


def _near(folder: Path, items: list[str], _: int) -> Contender:
    import numpy as np
    import pyarrow as pa

    from ftplatform.contamination.near_frames import other_fillings
    from ftplatform.contamination.near_items import NearRule, Probes, probes_of
    from ftplatform.contamination.near_matching import near_hits
    from ftplatform.contamination.scan import NgramIndex, scan

    list(scan([pa.array(["a b"])], NgramIndex.of(pa.array(["a b"]), 2)))
    train, evals, rule = _rows(_texts(folder).chunks), {"items": _rows([pa.array(items)])}, NearRule()

    def run(probes: Probes) -> list[tuple[int, int]]:
        found = near_hits(train, probes, rule)
        others = other_fillings(found.hits, found.gaps, train, probes, rule)
        hits = found.hits.join(others, on=others.columns, how="anti")
        row_of = np.zeros(len(probes.texts), np.int64)
        row_of[probes.items["probe"].to_numpy()] = probes.items["row"].to_numpy()
        return [(int(row), int(row_of[probe])) for row, probe in hits.select("row", "probe").iter_rows()]

    return lambda: probes_of(train, evals, rule), run


def _rows(chunks: list[Any]) -> Any:
    """The columns the comparison reads: one user turn per text."""
    import numpy as np
    import pyarrow as pa

    from ftplatform.rows.schema import MESSAGE_TYPE

    tables = []
    for texts in chunks:
        n = len(texts)
        columns = [pa.array(["user"]).take(pa.array(np.zeros(n, np.int64))), texts, pa.array(np.zeros(n, bool))]
        messages = pa.StructArray.from_arrays(columns, fields=[MESSAGE_TYPE.field(i) for i in range(3)])
        lists = pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), messages)
        tables.append(pa.table({"row_id": pa.array(np.arange(n)).cast(pa.string()), "messages": lists}))
    return pa.concat_tables(tables)


def _naive(folder: Path, items: list[str], sample: int) -> Contender:
    texts = _texts(folder).slice(0, sample).to_pylist()

    def grams(text: str) -> list[str]:
        words = re.findall(r"\w+", text.lower())
        return [" ".join(words[at : at + _WIDTH]) for at in range(len(words) - _WIDTH + 1)]

    def run(known: set[str]) -> list[tuple[int, int]]:
        return [(row, -1) for row, text in enumerate(texts) if any(gram in known for gram in grams(text))]

    return lambda: {gram for item in items for gram in grams(item)}, run


def _janitor(folder: Path, items: list[str], sample: int) -> Contender:
    # The file alone: the package imports much that this does not need.
    import contextlib
    import io
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    package = find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("lm-eval is not installed")
    file = Path(package.submodule_search_locations[0]) / "decontamination" / "janitor.py"
    spec = spec_from_file_location("janitor", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} cannot be loaded")
    module = module_from_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        spec.loader.exec_module(module)
    texts = _texts(folder).slice(0, sample).to_pylist()

    class Flagging(module.Janitor):
        """Returns what is dirty instead of cutting it out."""

        def _split_chunks(self, dirty_string: str, dirty_parts: Any) -> list[Any]:
            return list(dirty_parts)

    def index() -> Any:
        janitor = Flagging(ngram_n=_WIDTH, delete_chars=string.punctuation)
        for item in items:
            janitor.register_contaminant_python(item)
        return janitor

    def run(janitor: Any) -> list[tuple[int, int]]:
        return [(row, -1) for row, text in enumerate(texts) if janitor.clean_python(text)]

    return index, run


def identical_flags(folder: Path, items: list[str], flagged: set[int], sample: int) -> bool:
    """Whether the flags of the first rows are those of a Python set of 13-grams on normalized text."""
    from ftplatform.rows.normalize import normalize_text

    def grams(text: str) -> set[tuple[str, ...]]:
        words = normalize_text(text).split()
        return {tuple(words[at : at + _WIDTH]) for at in range(len(words) - _WIDTH + 1)}

    known = set().union(*(grams(item) for item in items))
    expected = {row for row, text in enumerate(_texts(folder).slice(0, sample).to_pylist()) if grams(text) & known}
    return expected == {row for row in flagged if row < sample}


def recall(leaks: Sequence[Sequence[Any]], flags: Sequence[Sequence[int]], rows: int) -> dict[str, float]:
    """Share of the planted rows flagged, by kind, among the first `rows`; with the right item where items are named."""
    pairs, flagged = {tuple(flag) for flag in flags}, {flag[0] for flag in flags}
    named = any(item >= 0 for _, item in pairs)
    result = {}
    for kind in KINDS:
        planted = [(row, item) for row, item, k in leaks if k == kind and row < rows]
        if planted:
            result[kind] = round(sum((leak in pairs) if named else (leak[0] in flagged) for leak in planted) / len(planted), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--sample", type=int, default=20_000, help="rows for the Python contenders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real data with known answers")
    parser.add_argument("--peers", default=sys.executable, help="Python interpreter that has lm-eval and pyarrow")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options.data, options.rows, options.sample)))
        return
    with tempfile.TemporaryDirectory() as name:
        _compare(options, Path(name))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    from benchmarks.harness import report

    facts = build(options.data, folder, options.rows, options.items)
    sample = min(options.sample, options.rows)
    leaks, items = json.loads((folder / "leaks.json").read_text()), json.loads((folder / "items.json").read_text())
    contenders = ["numba", "numpy", "near", "naive set", "lm-eval Janitor"]
    measured: dict[str, list[dict[str, float]]] = {}
    quality: dict[str, Any] = {}
    for _ in range(options.rounds):
        for contender in list(contenders):
            peer = contender == "lm-eval Janitor"
            environment = {**os.environ, "FTPLATFORM_KERNELS": "numpy" if contender == "numpy" else "numba", "OMP_NUM_THREADS": "1"}
            arguments = ["-m", "benchmarks.contamination", "--worker", contender, "--data", str(folder)]
            arguments += ["--rows", str(options.rows), "--sample", str(sample)]
            done = subprocess.run(
                [options.peers if peer else sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, check=False
            )
            if done.returncode:
                if not peer:
                    raise SystemExit(f"{contender} failed")
                contenders.remove(contender)
                continue
            result = json.loads(done.stdout)
            flags = result.pop("flags")
            seen = sample if contender in ("naive set", "lm-eval Janitor") else options.rows
            measured.setdefault(contender, []).append(result)
            if contender not in quality:
                quality[contender] = {
                    "flagged_rows": len({row for row, _ in flags}),
                    "of": seen,
                    "recall": recall(leaks, flags, seen),
                }
                if contender in ("numba", "numpy"):
                    quality[contender]["identical_to_plain_python"] = identical_flags(
                        folder, items, {row for row, _ in flags}, sample
                    )
                print(contender, json.dumps(quality[contender]), file=sys.stderr)
    facts |= {"scaled_from_rows": sample, "quality": quality}
    report("contamination", measured, "numba", ("numba", "numpy", "pyarrow", "polars"), facts)


if __name__ == "__main__":
    main()
