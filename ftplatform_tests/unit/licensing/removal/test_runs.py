"""Longest common runs against the textbook dynamic program."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.licensing.removal.runs import longest_common_runs

texts = st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), min_size=1, max_size=5)


def brute(a: list[str], b: list[str]) -> int:
    best, row = 0, [0] * (len(b) + 1)
    for x in a:
        row = [0] + [row[j] + 1 if x == y else 0 for j, y in enumerate(b)]
        best = max(best, *row)
    return best


@settings(max_examples=200)
@given(texts, texts)
def test_equals_the_dynamic_program(outputs: list[str], references: list[str]) -> None:
    length, which = longest_common_runs(pl.Series(outputs, dtype=pl.String), pl.Series(references, dtype=pl.String))
    for k, output in enumerate(outputs):
        runs = [brute(output.split(), reference.split()) for reference in references]
        assert length[k] == max(runs)
        assert (runs[which[k]] == length[k]) if length[k] else which[k] == -1


def test_runs_do_not_cross_from_one_text_into_the_next() -> None:
    length, _ = longest_common_runs(pl.Series(["a b", "c d"]), pl.Series(["x a b", "a b c d"]))
    assert length.tolist() == [2, 2]
    length, _ = longest_common_runs(pl.Series(["a b c d"]), pl.Series(["a b", "c d"]))
    assert length.tolist() == [2]


def test_repetition_is_not_slow() -> None:
    """One word over and over is the worst case of naive suffix sorting and of pairwise comparison (9e8 steps here)."""
    long = " ".join(["and"] * 30_000)
    start = time.process_time()
    length, _ = longest_common_runs(pl.Series([long + " end"]), pl.Series([long]))
    assert length.tolist() == [30_000]
    assert time.process_time() - start < 10


def test_299_outputs_against_as_many_long_texts() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    vocabulary = np.array([f"w{k}" for k in range(3000)])
    references = [" ".join(generator.choice(vocabulary, 400)) for _ in range(299)]
    outputs = [" ".join(generator.choice(vocabulary, 80)) for _ in range(299)]
    outputs[17] = " ".join(outputs[17].split()[:20] + references[250].split()[100:145] + ["x"])
    length, which = longest_common_runs(pl.Series(outputs), pl.Series(references))
    assert (length[17], which[17]) == (45, 250)
    assert np.delete(length, 17).max() < 10
