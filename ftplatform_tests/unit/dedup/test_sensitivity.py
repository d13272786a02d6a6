"""Survivors over five thresholds: cliffs are named, small slices are not judged by one row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.dedup.clusters import SimilarPairs
from ftplatform.dedup.sensitivity import kept_from_pairs, threshold_sensitivity
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table


def corpus() -> pa.Table:
    rows = [row(f"question {i}", "reply") for i in range(1_000)]
    rows += [row(f"hostile {i}", "reply", slices=["hostile"]) for i in range(40)]
    return table(rows + [row(f"tiny {i}", "reply", slices=["tiny"]) for i in range(3)])


def falling(threshold: float) -> np.ndarray:
    """One row in a hundred goes at each step; from .75 down, half of the hostile ones and two of the tiny slice."""
    kept = np.ones(1_043, bool)
    kept[: round((1 - threshold) * 200)] = False
    if threshold < 0.78:
        kept[1_000:1_020] = False
        kept[1_040:1_042] = False
    return kept


def test_a_cliff_in_a_slice_is_named_where_all_rows_fall_gently() -> None:
    asked: list[float] = []

    def kept_at(threshold: float) -> np.ndarray:
        asked.append(threshold)
        return falling(threshold)

    verdict = threshold_sensitivity(corpus(), kept_at)
    assert asked == [0.7, 0.75, 0.8, 0.85, 0.9]
    assert verdict.decision is Decision.WARN
    assert verdict.estimate == pytest.approx(0.5)
    assert [(e["slice"], e["low"], e["high"]) for e in verdict.evidence] == [("hostile", 0.75, 0.8)]
    assert verdict.plot is not None
    # The curve of all rows, which is what one usually plots, shows nothing: 3 % over the step.
    total = {s["threshold"]: s["survivors"] for s in verdict.details["survivors"] if s["slice"] == "(all rows)"}
    assert 1 - total[0.75] / total[0.8] < 0.04
    # The slice of three lost two and is shown, not judged.
    assert verdict.details["slices_too_small_to_judge"] > 0
    assert not any(e["slice"] == "tiny" for e in verdict.evidence)


def test_a_gentle_slope_passes_and_thresholds_stay_in_range() -> None:
    asked: list[float] = []

    def kept_at(threshold: float) -> np.ndarray:
        asked.append(threshold)
        kept = np.ones(1_043, bool)
        kept[: round((1 - threshold) * 200)] = False
        return kept

    verdict = threshold_sensitivity(corpus(), kept_at, threshold=0.95)
    assert asked == [0.85, 0.9, 0.95, 1.0]
    assert verdict.decision is Decision.PASS


def test_copies_count_once_and_few_rows_are_no_evidence() -> None:
    rows = corpus()
    twice = pa.concat_tables([rows, rows])
    # Of every copy the second goes: nothing is lost.
    verdict = threshold_sensitivity(twice, lambda _: np.arange(2_086) < 1_043)
    assert verdict.decision is Decision.PASS
    assert (verdict.n, verdict.estimate) == (1_043, 0.0)
    few = threshold_sensitivity(rows.slice(0, 10), lambda _: np.ones(10, bool))
    assert few.decision is Decision.INSUFFICIENT_EVIDENCE
    with pytest.raises(InputDataError, match="shape"):
        threshold_sensitivity(rows, lambda _: np.ones(3, bool))


def test_pairs_found_once_serve_every_threshold() -> None:
    # A chain a - b - c - d of falling similarity, e alone.
    pairs = SimilarPairs(np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([0.9, 0.8, 0.7]))
    kept_at = kept_from_pairs(5, pairs)
    assert [int(kept_at(t).sum()) for t in (0.95, 0.85, 0.75, 0.65)] == [5, 4, 3, 3]
    kept = kept_at(0.75)
    assert kept[3]
    assert kept[4]
    assert kept[1]  # b is closest to both of its neighbors
