"""Alpha and kappa against published worked examples, and the coverage of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ftplatform.statistics.reliability import cohen_kappa, krippendorff_alpha, krippendorff_interval, label_counts

#: Krippendorff (2011), examples A and C: rows are observers, "." is no value.
TWO_OBSERVERS = ("0100000010", "1110010000")
FOUR_OBSERVERS = (
    "123321412...",
    "123322412 5.3".replace(" ", ""),
    ".33323422 51.".replace(" ", ""),
    "123324412 51.".replace(" ", ""),
)


def counts(observers: tuple[str, ...]) -> np.ndarray:
    said = [(unit, value) for row in observers for unit, value in enumerate(row) if value != "."]
    return label_counts([unit for unit, _ in said], [value for _, value in said])


@pytest.mark.parametrize(("observers", "alpha"), [(TWO_OBSERVERS, 0.095), (FOUR_OBSERVERS, 0.743)])
def test_krippendorff_s_own_examples(observers: tuple[str, ...], alpha: float) -> None:
    assert krippendorff_alpha(counts(observers)) == pytest.approx(alpha, abs=5e-4)


def test_fleiss_s_example_of_kappa() -> None:
    # Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, table 18.1: two raters, three diagnoses, kappa .68.
    assert cohen_kappa([[75, 1, 4], [5, 4, 1], [0, 0, 10]]).estimate == pytest.approx(0.676, abs=5e-4)


@pytest.mark.parametrize(("n", "half"), [(100, 0.157), (200, 0.111), (400, 0.078)])
def test_half_width_of_kappa(n: int, half: float) -> None:
    # kappa .6 at chance agreement .5: the textbook's 1.96 sqrt(.8 x .2 / n) / .5.
    interval = cohen_kappa([[0.4 * n, 0.1 * n], [0.1 * n, 0.4 * n]])
    assert interval.estimate == pytest.approx(0.6)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, abs=5e-4)


def test_one_class_is_agreement_by_chance() -> None:
    """ADV: 95 % raw agreement where 95 % is one class."""
    table = np.array([[2, 0]] * 190 + [[1, 1]] * 10)
    raw = float((table == 2).any(axis=1).mean())
    assert raw == 0.95
    interval = krippendorff_interval(table)
    assert interval.estimate < 0
    assert interval.high < 0.4
    assert cohen_kappa([[190, 5], [5, 0]]).estimate < 0


def test_no_variation_is_no_evidence() -> None:
    assert math.isnan(krippendorff_alpha([[2], [2]]))
    assert math.isnan(cohen_kappa([[5, 0], [0, 0]]).estimate)
    with pytest.raises(ValueError, match="not defined"):
        krippendorff_interval([[2, 0], [2, 0]])


def test_perfect_and_systematic_disagreement() -> None:
    assert krippendorff_alpha([[2, 0], [0, 2]]) == 1.0
    assert krippendorff_alpha([[1, 1]] * 10) < 0


def test_single_annotations_do_not_count() -> None:
    assert krippendorff_alpha([[2, 0], [0, 2], [1, 0], [0, 1]]) == 1.0


@pytest.mark.parametrize("bad", [[1, 2], [[-1, 2]], [[0.5, 1.5]]])
def test_bad_counts(bad: object) -> None:
    with pytest.raises(ValueError, match="counts"):
        krippendorff_alpha(bad)  # type: ignore[arg-type]


def test_bad_tables() -> None:
    for bad in ([[1, 2]], [[0, 0], [0, 0]], [[-1, 2], [3, 4]]):
        with pytest.raises(ValueError, match="kappa"):
            cohen_kappa(bad)
    with pytest.raises(ValueError, match="label"):
        label_counts(["a"], [])


def test_the_interval_covers_and_is_reproducible() -> None:
    """Two annotators who each copy the truth with probability q: alpha is q squared when all labels are equally likely."""
    rng = np.random.default_rng(7)
    q, covered, trials = 0.85, 0, 120
    table = np.empty((0, 0), dtype=np.int64)
    for trial in range(trials):
        truth = rng.integers(0, 4, 200)
        given = [np.where(rng.random(200) < q, truth, rng.integers(0, 4, 200)) for _ in range(2)]
        table = label_counts([*range(200)] * 2, [*given[0].tolist(), *given[1].tolist()])
        interval = krippendorff_interval(table, 0.9, replicates=400, seed=trial)
        covered += interval.low <= q * q <= interval.high
    assert 0.82 <= covered / trials <= 0.97
    assert krippendorff_interval(table, seed=1) == krippendorff_interval(table, seed=1)
