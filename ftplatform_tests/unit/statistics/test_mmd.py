"""The kernel two-sample test against its definition, its null, and a mixture that a classifier does not notice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ftplatform.statistics import mmd as mmd_module
from ftplatform.statistics.mmd import mmd_two_sample
from ftplatform.statistics.two_sample import classifier_two_sample
from ftplatform_tests import real_data


def samples(n_a: int, n_b: int, seed: int, shift: float = 0.0, features: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_a, features)), rng.normal(size=(n_b, features)) + shift


def by_definition(a: np.ndarray, b: np.ndarray, sigma: float) -> float:
    """Equation 3 of Gretton et al. 2012, term by term."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / (2 * sigma**2)))

    m, n = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_b = sum(kernel(b[i], b[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    between = sum(kernel(x, y) for x in a for y in b) / (m * n)
    return within_a + within_b - 2 * between


@pytest.mark.parametrize(
    ("n_a", "n_b", "shift", "sigma"), [(12, 12, 0.0, 1.0), (9, 17, 0.5, 2.5), (2, 2, 0.0, 1.0), (20, 5, 3.0, 0.3)]
)
def test_statistic_equals_the_double_loop(n_a: int, n_b: int, shift: float, sigma: float) -> None:
    a, b = samples(n_a, n_b, 1, shift)
    found = mmd_two_sample(a, b, permutations=20, bandwidth=sigma)
    assert found.statistic == pytest.approx(by_definition(a, b, sigma), abs=2e-6)
    assert (found.n_a, found.n_b, found.bandwidth) == (n_a, n_b, sigma)


def test_permutations_are_what_recomputing_each_would_give() -> None:
    a, b = samples(10, 14, 2, 0.4)
    found = mmd_two_sample(a, b, permutations=40, bandwidth=1.5, seed=3)
    pooled = np.concatenate([a, b])
    labels = np.concatenate(
        list(mmd_module._labels(10, 24, 40, np.random.default_rng(np.random.SeedSequence(3).spawn(2)[1]))), axis=1
    )
    assert labels.shape == (24, 41)
    assert labels.sum(axis=0).tolist() == [10] * 41
    null = [by_definition(pooled[column > 0], pooled[column == 0], 1.5) for column in labels.T]
    assert found.null_mean == pytest.approx(np.mean(null[1:]), abs=1e-6)
    assert found.null_sd == pytest.approx(np.std(null[1:], ddof=1), abs=1e-6)
    assert found.p_value == (1 + sum(value >= null[0] for value in null[1:])) / 41


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = samples(60, 45, 4, 0.2)
    whole = mmd_two_sample(a, b, permutations=50, seed=1)
    monkeypatch.setattr(mmd_module, "_BLOCK_ELEMENTS", 700)
    monkeypatch.setattr(mmd_module, "_LABEL_ELEMENTS", 900)
    parts = mmd_two_sample(a, b, permutations=50, seed=1)
    assert parts.p_value == whole.p_value
    assert dataclasses.astuple(parts) == pytest.approx(dataclasses.astuple(whole), abs=1e-6)


def test_bandwidth_is_the_median_distance() -> None:
    a, b = samples(30, 31, 5)
    pooled = np.concatenate([a, b])
    distances = np.linalg.norm(pooled[:, None] - pooled[None], axis=2)[np.triu_indices(61, 1)]
    assert mmd_two_sample(a, b, permutations=20).bandwidth == pytest.approx(np.median(distances), rel=1e-5)
    # More than half of the rows are one point: the median distance is 0 and says nothing.
    a[:] = b[:20] = 0.0
    assert mmd_two_sample(a, b, permutations=20).bandwidth > 0


def test_p_values_are_uniform_when_nothing_differs() -> None:
    values = [mmd_two_sample(*samples(25, 35, seed), permutations=99, seed=seed).p_value for seed in range(200)]
    # Binomial(200, .1) lies in 8..34 with probability .9999.
    assert 8 <= sum(value <= 0.1 for value in values) <= 34
    assert 0.43 < np.mean(values) < 0.57


def test_far_from_the_origin_and_at_any_scale() -> None:
    a, b = samples(80, 80, 6, 0.5)
    near = mmd_two_sample(a, b, permutations=60)
    far = mmd_two_sample(a * 1e-3 + 1e4, b * 1e-3 + 1e4, permutations=60)
    assert far.statistic == pytest.approx(near.statistic, rel=1e-3)
    assert far.p_value == near.p_value == 1 / 61


def test_rows_that_are_all_the_same_differ_in_nothing() -> None:
    found = mmd_two_sample(np.ones((20, 3)), np.ones((30, 3)), permutations=30)
    assert found.p_value == 1.0
    assert found.statistic == pytest.approx(0, abs=1e-9)


def test_equal_seeds_give_equal_results() -> None:
    a, b = samples(40, 40, 7, 0.1)
    first = mmd_two_sample(a, b, permutations=50, seed=5)
    assert first == mmd_two_sample(a.copy(), b.copy(), permutations=50, seed=5)
    assert first != mmd_two_sample(a, b, permutations=50, seed=6)
    assert {type(value) for value in dataclasses.astuple(first)} == {float, int}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features_a": np.zeros((1, 3))}, "features_a has 1 rows"),
        ({"features_b": np.zeros((20, 2))}, "3 features on one side and 2 on the other"),
        ({"features_a": np.zeros(20)}, "rows x features"),
        ({"features_b": np.full((20, 3), np.inf)}, r"features_b\[0, 0\]"),
        ({"permutations": 5}, "permutations is 5"),
        ({"bandwidth": 0.0}, "bandwidth is 0.0"),
        ({"bandwidth": float("nan")}, "bandwidth is nan"),
    ],
)
def test_unusable_input_is_refused(change: dict, message: str) -> None:
    arguments = {"features_a": np.zeros((20, 3)), "features_b": np.zeros((20, 3)), **change}
    with pytest.raises(ValueError, match=message):
        mmd_two_sample(arguments.pop("features_a"), arguments.pop("features_b"), **arguments)


def test_a_tenth_from_elsewhere_is_found_where_a_classifier_sees_nothing(shared_data: Path) -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    def said(rows) -> list[str]:
        return [messages[0]["content"] for messages in rows["messages"].to_pylist()]

    n, tenth = 3000, 300
    rng = np.random.default_rng(0)
    customers = said(real_data.banking77(shared_data, "train"))
    others = said(real_data.clinc150(shared_data, "train"))
    texts = [customers[i] for i in rng.choice(len(customers), 2 * n, replace=False)]
    texts += [others[i] for i in rng.choice(len(others), tenth, replace=False)]
    topics = TruncatedSVD(200, random_state=0).fit_transform(TfidfVectorizer(sublinear_tf=True).fit_transform(texts))
    topics /= np.linalg.norm(topics, axis=1, keepdims=True) + 1e-9
    one, two, foreign = topics[:n], topics[n : 2 * n], topics[2 * n :]
    mixed = np.concatenate([two[:-tenth], foreign])
    assert mmd_two_sample(one, two, permutations=300).p_value > 0.05
    assert mmd_two_sample(one, mixed, permutations=300).p_value <= 0.01
    # A classifier's AUC over the same features hardly leaves one half.
    assert abs(classifier_two_sample(one[:, :20], mixed[:, :20], permutations=20, resamples=20).auc - 0.5) < 0.05
