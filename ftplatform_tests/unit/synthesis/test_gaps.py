"""Effect sizes of the surface features and the check on them."""

from __future__ import annotations

import math
import random

import numpy as np
import polars as pl
import pytest

from ftplatform.statistics.intervals import clustered_mean
from ftplatform.synthesis.gaps import LARGEST_D, feature_gaps, input_feature_gaps
from ftplatform.verdict import Decision
from ftplatform_tests.tables import asked, table
from ftplatform_tests.unit.synthesis.toy import clean, real, sample


def units(n: int, size: int = 1) -> pl.Series:
    return pl.Series([f"u{i // size}" for i in range(n)])


def test_cohens_d_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 400), rng.normal(0, 1, 300)
    gaps = feature_gaps(pl.DataFrame({"x": a}), pl.DataFrame({"x": b}), units(400), units(300), confidence=0.95)
    pooled = math.sqrt((399 * a.var(ddof=1) + 299 * b.var(ddof=1)) / 698)
    d = (a.mean() - b.mean()) / pooled
    row = gaps.row(0, named=True)
    assert row["d"] == pytest.approx(d)
    # Hedges and Olkin's variance, whose first term is that of two independent means.
    half = 1.959964 * math.sqrt(1 / 400 + 1 / 300 + d * d / (2 * 700))
    assert row["d_high"] - row["d"] == pytest.approx(half, rel=0.03)


def test_turns_of_a_conversation_are_no_independent_observations() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=40), 10)
    frame, other = pl.DataFrame({"x": values}), pl.DataFrame({"x": rng.normal(size=400)})
    naive = feature_gaps(frame, other, units(400), units(400), confidence=0.95).row(0, named=True)
    honest = feature_gaps(frame, other, units(400, 10), units(400), confidence=0.95).row(0, named=True)
    assert honest["d_high"] - honest["d_low"] > 1.9 * (naive["d_high"] - naive["d_low"])
    mean = clustered_mean(values, units(400, 10).to_list())
    assert mean.high - mean.low > 0


def test_constants() -> None:
    same, one = pl.DataFrame({"x": [1.0] * 20}), pl.DataFrame({"x": [0.0] * 20})
    assert feature_gaps(same, same, units(20), units(20), confidence=0.99)["d"][0] == 0
    assert feature_gaps(same, one, units(20), units(20), confidence=0.99)["d"][0] == LARGEST_D


def test_clean_text_fails_sorted_with_examples_of_both_sides() -> None:
    verdict = input_feature_gaps(sample(1, 600, clean), sample(2, 600))
    assert verdict.decision is Decision.FAIL
    sizes = [abs(float(e["d"] or 0)) for e in verdict.evidence]
    assert sizes == sorted(sizes, reverse=True)
    assert verdict.estimate == pytest.approx(sizes[1], abs=1e-3)
    first = verdict.evidence[0]
    assert first["candidate_example"] != first["reference_example"]
    low, d, high = (float(first[name] or 0) for name in ("d_low", "d", "d_high"))
    assert low < d < high
    assert verdict.plot is not None


def test_alike_passes() -> None:
    verdict = input_feature_gaps(sample(3, 900), sample(4, 900))
    assert verdict.decision is Decision.PASS, verdict.summary


def test_one_large_gap_warns() -> None:
    rng = random.Random(5)
    texts = [real(rng, "refund") for _ in range(700)]
    # A form that ends every message with a full stop is one feature.
    stopped = [text.rstrip("?. ") + "." for text in texts]
    verdict = input_feature_gaps(asked(stopped), asked([real(rng, "refund") for _ in range(700)]))
    assert verdict.decision is Decision.WARN
    assert "end_punctuation" in verdict.summary


def test_a_gap_that_is_not_sure_does_not_fail() -> None:
    """ADV: the point estimate of a small sample goes over the limit by chance; its lower bound does not."""
    rng = random.Random(0)

    def mixed(rng: random.Random, topic: str) -> str:
        return (clean if rng.random() < 0.47 else real)(rng, topic)

    verdict = input_feature_gaps(sample(rng.randrange(99), 220, mixed), sample(7, 220), n_required=200)
    assert verdict.estimate is not None
    assert verdict.estimate > 0.8
    assert verdict.decision is not Decision.FAIL
    assert verdict.decision is not Decision.PASS


def test_too_few_abstain() -> None:
    for candidate in (table([]), sample(8, 50, clean)):
        assert input_feature_gaps(candidate, sample(9, 500)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert input_feature_gaps(sample(8, 300, clean), sample(9, 500)).decision is Decision.WARN
