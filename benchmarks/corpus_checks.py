"""Throughput and memory of the checks that read a whole corpus: `python -m benchmarks.corpus_checks DATA [--rows 100000] [--check NAME]`.

DATA is the folder of real data (`shared/data`). Rows are support dialogues of two turns each side, texts of SGD, Taskmaster-4 and
STAR drawn at random, a number in every answer, one answer in fifty with a misspelling. Each check runs in a process of its own on the
same Parquet file; reported are its CPU and wall seconds, its peak memory and rows per second.

To measure another check, add a function from the file to its verdict to `CHECKS`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import run_once
from ftplatform.rows.schema import ROW_SCHEMA, row_id
from ftplatform.store.tables import write_table
from ftplatform.verdict import Verdict

_BATCH = 8192
_AUTHORS = 50
_SLIPS = (("available", "availble"), ("address", "adress"), ("restaurant", "restaraunt"), ("confirm", "confrim"))


def stream(file: Path) -> Callable[[], Iterator[pa.RecordBatch]]:
    """The rows of a Parquet file in batches, from the beginning each time."""
    return lambda: pq.ParquetFile(file).iter_batches(batch_size=16_384)


def _target_variant_share(file: Path) -> Verdict:
    from ftplatform.targets.variants.lexicon import Lexicon
    from ftplatform.targets.variants.share import target_variant_share

    return target_variant_share(stream(file), Lexicon())


def _prior_inversion_reading(file: Path) -> Verdict:
    """Choosing and reading what a base model would be asked; asking it costs the same for a corpus of any size."""
    from ftplatform.targets.variants.lexicon import Lexicon
    from ftplatform.targets.variants.prior import prior_inversion

    return prior_inversion(stream(file), Lexicon(), lambda pairs: np.zeros(len(pairs)))


def _user_turn_untouched(file: Path) -> Verdict:
    from ftplatform.targets.variants.untouched import user_turn_untouched

    return user_turn_untouched(stream(file), stream(file))


#: Checks by name: a function from the Parquet file of rows to the verdict.
CHECKS: dict[str, Callable[[Path], Verdict]] = {
    "target_variant_share": _target_variant_share,
    "prior_inversion_reading": _prior_inversion_reading,
    "user_turn_untouched": _user_turn_untouched,
}


def texts(data: Path) -> tuple[list[str], list[str]]:
    """What users and what assistants said."""
    users: list[str] = []
    answers: list[str] = []
    with gzip.open(data / "sgd_sample" / "train_001_034.jsonl.gz") as lines:
        for line in lines:
            for dialogue in orjson.loads(line)["json"]:
                for turn in dialogue["turns"]:
                    (users if turn["speaker"] == "USER" else answers).append(turn["utterance"])
    for file in sorted((data / "taskmaster4").glob("data__*.json.gz")):
        for dialogue in orjson.loads(gzip.decompress(file.read_bytes())):
            for turn in dialogue["utterances"]:
                (answers if turn["speaker"].lower().startswith("a") else users).append(turn["text"])
    with gzip.open(data / "star" / "star_open.jsonl.gz") as lines:
        for line in lines:
            for event in orjson.loads(line)["Events"]:
                if event.get("Action") in ("utter", "pick_suggestion"):
                    (users if event["Agent"] == "User" else answers).append(event["Text"])
    return [t for t in users if t.strip()], [t for t in answers if t.strip()]


def corpus(data: Path, rows: int, seed: int = 0) -> Iterator[pa.RecordBatch]:
    """`rows` rows of `ROW_SCHEMA`."""
    rng = random.Random(seed)
    users, answers = texts(data)
    empty = {"parents": [], "slices": [], "surface": "curation", "created_at": None, "first_seen_at": None, "meta": "{}"}
    made: list[dict[str, Any]] = []
    for number in range(rows):
        messages = []
        for _ in range(2):
            answer = f"{rng.choice(answers)} {rng.choice(answers)} Reference {rng.randrange(10**6)}."
            if rng.random() < 0.02:
                for right, wrong in _SLIPS:
                    answer = answer.replace(right, wrong)
            messages += [
                {"role": "user", "content": rng.choice(users), "trainable": False},
                {"role": "assistant", "content": answer, "trainable": True},
            ]
        author = f"agent-{rng.randrange(_AUTHORS)}"
        identity = {"row_id": row_id(messages), "source": "bench", "origins": ["bench"], "author": author, "group": f"g{number}"}
        made.append({**empty, **identity, "messages": messages})
        if len(made) == _BATCH or number == rows - 1:
            yield pa.RecordBatch.from_pylist(made, schema=ROW_SCHEMA)
            made = []


def main() -> None:
    """Measure every check, or with `--check NAME --file FILE` run one: what a measured process does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--check", choices=sorted(CHECKS))
    parser.add_argument("--file", type=Path, help="rows made before; alone with --check it is the measured process itself")
    options = parser.parse_args()
    if options.file is not None:
        verdict = CHECKS[options.check](options.file)
        print(verdict.summary, file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="ftplatform-corpus-checks-") as folder:
        file = Path(folder) / "rows.parquet"
        write_table(file, corpus(options.data, options.rows), ROW_SCHEMA, "benchmark rows")
        for name in [options.check] if options.check else CHECKS:
            arguments = [sys.executable, "-m", "benchmarks.corpus_checks", str(options.data), "--check", name, "--file", str(file)]
            measured = run_once(arguments, {})
            figures = {key: round(value, 2) for key, value in measured.items()}
            rate = round(options.rows / measured["wall_s"])
            machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
            facts = {"rows": options.rows, "file_mib": round(file.stat().st_size / 2**20, 1), "rows_per_s": rate}
            print(json.dumps({"benchmark": "corpus_checks", "check": name, **facts, **figures, "machine": machine}))


if __name__ == "__main__":
    main()
