"""Task regression by slice on score tables with known answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.paired_loss import paired_loss
from ftplatform.evaluation.regression import task_regression
from ftplatform.statistics.paired import paired_difference, paired_mean_difference
from ftplatform.verdict import Decision
from ftplatform_tests.unit.evaluation.label_tables import scores


def binary(n: int, both: int, lost: int, gained: int) -> list[tuple[float, float]]:
    return [(1, 1)] * both + [(1, 0)] * lost + [(0, 1)] * gained + [(0, 0)] * (n - both - lost - gained)


def test_an_improvement_passes() -> None:
    verdict = task_regression(scores({"plan": binary(60, 10, 1, 40), "item": binary(60, 12, 0, 45)}))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == pytest.approx(-84 / 120)
    assert verdict.n == 120
    assert verdict.plot is not None


def test_equal_mean_with_a_worse_hardest_slice_fails() -> None:
    """ADV: the mean is the same to the last digit; the hardest slice lost six points."""
    table = scores({"easy": binary(600, 500, 0, 24), "hard": binary(400, 150, 24, 0)})
    before = np.mean(table["base_score"].to_numpy())
    after = np.mean(table["tuned_score"].to_numpy())
    assert before == after  # what a check of the mean sees
    verdict = task_regression(table)
    assert verdict.decision is Decision.FAIL
    assert verdict.details["regressed"] == ["hard"]
    assert verdict.statistic.endswith("slice hard")
    assert verdict.estimate == pytest.approx(0.06)
    assert all(row["slices"] == "hard" for row in verdict.evidence)


def test_noise_in_one_of_many_slices_does_not_fail() -> None:
    """ADV: among 20 slices one has 5 lost and none gained, p = .031 by itself, which a test per slice would call a regression."""
    slices = {f"s{i:02}": binary(40, 35, 5 if i == 7 else 0, 3 if i != 7 else 0) for i in range(20)}
    verdict = task_regression(scores(slices))
    assert verdict.decision is Decision.PASS
    assert verdict.details["regressed"] == []


def test_small_slices_are_listed_as_insufficient() -> None:
    verdict = task_regression(scores({"big": binary(900, 500, 3, 60), "tiny": binary(4, 3, 1, 0)}))
    assert verdict.decision is Decision.PASS
    assert [row["slice"] for row in verdict.details["insufficient_slices"]] == ["tiny"]
    assert "too small" in verdict.summary


def test_undecided_overall_is_insufficient_and_says_how_many() -> None:
    verdict = task_regression(scores({"all": binary(60, 40, 6, 5)}))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.n_required > 60


def test_few_or_no_items_never_pass() -> None:
    assert task_regression(scores({"all": binary(20, 0, 0, 20)})).decision is Decision.INSUFFICIENT_EVIDENCE
    empty = task_regression(scores({"all": binary(2, 2, 0, 0)}).slice(0, 0))
    assert empty.decision is Decision.INSUFFICIENT_EVIDENCE
    assert empty.n == 0


def test_turns_of_one_conversation_are_one_observation() -> None:
    """ADV: 40 losses in two conversations of 20 turns each; unclustered p = 1e-12, clustered undecided."""
    pairs = binary(400, 300, 40, 0)
    flat = task_regression(scores({"all": pairs}))
    # The lost items come right after the 300 kept ones: two groups of twenty.
    groups = [f"c{i // 20}" for i in range(400)]
    clustered = task_regression(scores({"all": pairs}, {"all": groups}))
    assert flat.decision is Decision.FAIL
    assert clustered.decision is Decision.INSUFFICIENT_EVIDENCE
    assert clustered.ci_high is not None
    assert flat.ci_high is not None
    assert clustered.ci_high > flat.ci_high


def test_a_significant_loss_shown_to_be_within_the_margin_passes() -> None:
    verdict = task_regression(scores({"all": binary(20_000, 15_000, 100, 20)}))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == pytest.approx(0.004)


def test_graded_scores_use_the_t_bound() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.7, 300)
    tuned = np.clip(base + rng.normal(0.05, 0.05, 300), 0, 1)
    verdict = task_regression(scores({"all": list(zip(base, tuned, strict=True))}))
    assert verdict.decision is Decision.PASS
    assert verdict.ci_high == pytest.approx(paired_mean_difference(base, tuned, alternative="upper").high)
    worse = task_regression(scores({"all": list(zip(tuned, base, strict=True))}))
    assert worse.decision is Decision.FAIL


def test_several_eval_sets_are_slices_too() -> None:
    table = scores({"x": binary(300, 200, 40, 0)})
    other = scores({"y": binary(900, 200, 0, 200)})
    tables = [t.append_column("eval_set", pa.array([name] * t.num_rows)) for name, t in (("old", table), ("new", other))]
    verdict = task_regression(pa.concat_tables(tables))
    assert verdict.decision is Decision.FAIL
    assert verdict.details["regressed"] == ["old", "old: x"]


def test_wrong_tables_are_named() -> None:
    table = scores({"all": binary(40, 40, 0, 0)})
    with pytest.raises(ValueError, match="lacks slices"):
        task_regression(table.drop_columns(["slices"]))
    index = table.schema.get_field_index("tuned_score")
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        task_regression(table.set_column(index, "tuned_score", pa.array([2.0] * 40)))
    with pytest.raises(EvaluationError, match="all-3 has no tuned_score"):
        task_regression(table.set_column(index, "tuned_score", pa.array([1.0] * 3 + [None] + [1.0] * 36)))


def test_evidence_is_masked() -> None:
    verdict = task_regression(scores({"all": binary(300, 100, 80, 0)}))
    assert len(verdict.evidence) == 20
    assert all("jane.doe" not in str(row["prompt"]) for row in verdict.evidence)


def test_paired_loss_takes_the_more_cautious_bound() -> None:
    """Nothing changed: the t bound has no width, Tango's does. All in one family: no error can be estimated."""
    same = np.ones(50)
    part = paired_loss("x", same, same, [f"g{i // 5}" for i in range(50)], margin=0.05, confidence=0.95, alpha=0.05)
    assert part.high == pytest.approx(paired_difference(0, 0, 50, alternative="upper").high)
    assert (part.clusters, part.p_harm) == (10, 1.0)
    alone = paired_loss("x", same, np.zeros(50), ["g"] * 50, margin=0.05, confidence=0.95, alpha=0.05)
    assert (alone.low, alone.high, alone.p_harm) == (-1.0, 1.0, 1.0)
