"""Paired comparison by slice: known differences are found, too little data says so, and the naive rules are shown erring."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.errors import EvaluationError, InputDataError
from ftplatform.migration.comparison import Change, compare, measure, paired_scores
from ftplatform.migration.sensitivity import OWN, better_rates, rate_grid, rate_plot, rate_sensitivity


def answers(
    scores: np.ndarray, slices: list[str] | None = None, *, kind: str = "task", families: list[str] | None = None
) -> pa.Table:
    n = len(scores)
    return pa.table(
        {
            "eval_set": ["exam"] * n,
            "kind": [kind] * n,
            "item_id": [f"i{i:04}" for i in range(n)],
            "condition": ["plain"] * n,
            "sample": pa.nulls(n, pa.int32()),
            "slices": pa.array([[name] for name in slices or ["all"] * n], pa.list_(pa.string())),
            "group": pa.array(families or [None] * n, pa.string()),
            "tuned_score": pa.array(scores, pa.float64()),
        }
    )


def test_each_slice_gets_its_own_decision_and_the_failing_one_comes_first() -> None:
    """ADV: the mean says that nothing happened; one slice fell and another rose."""
    rng = np.random.default_rng(1)
    slices = ["fell"] * 100 + ["rose"] * 100 + ["stayed"] * 800 + ["tiny"] * 3
    old = (rng.random(1003) < 0.7).astype(float)
    new = old.copy()
    new[:100][np.flatnonzero(old[:100])[:30]] = 0.0
    new[100:200][np.flatnonzero(old[100:200] == 0)[:25]] = 1.0
    assert abs(float(new.mean() - old.mean())) < 0.03, "what a single mean would call the same"
    parts = {part.part: part for part in compare(paired_scores(answers(old, slices), [answers(new, slices)]))}
    assert list(parts) == ["overall", "fell", "tiny", "stayed", "rose"]
    assert [part.change for part in parts.values()] == [
        Change.SAME, Change.WORSE, Change.INSUFFICIENT_EVIDENCE, Change.SAME, Change.BETTER,
    ]  # fmt: skip
    assert (parts["fell"].gain, parts["fell"].worse, parts["fell"].better) == (pytest.approx(-0.3), 30, 0)


def test_not_significant_is_not_the_same() -> None:
    """ADV: nine of sixty items lost against four gained has p > .05, and the loss may be far beyond the margin."""
    old, new = np.ones(60), np.ones(60)
    old[:4], new[4:13] = 0.0, 0.0
    part = compare(paired_scores(answers(old), [answers(new)]))[0]
    assert part.p > 0.05, "the naive rule would call this no change"
    assert part.low < -0.1
    assert part.change is Change.INSUFFICIENT_EVIDENCE


def test_many_slices_do_not_make_a_loss() -> None:
    """ADV: of sixty slices without any change several have p < .05 by themselves; Holm keeps the family's error rate."""
    naive = wrong = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        slices = [f"s{i % 60}" for i in range(2400)]
        old, new = ((rng.random(2400) < 0.5).astype(float) for _ in range(2))
        parts = compare(paired_scores(answers(old, slices), [answers(new, slices)]))[1:]
        naive += any(part.p < 0.05 and part.gain < 0 for part in parts)
        wrong += any(part.change is Change.WORSE for part in parts)
    assert naive >= 5
    assert wrong <= 1


def test_wordings_of_one_item_are_not_items() -> None:
    """ADV: forty wordings of four items, all of one item lost: McNemar on wordings is sure, the families are not."""
    families = [f"f{i // 10}" for i in range(40)]
    old, new = np.ones(40), np.ones(40)
    new[:10] = 0.0
    naive = measure("naive", old, new, [str(i) for i in range(40)])
    part = compare(paired_scores(answers(old, families=families), [answers(new, families=families)]))[0]
    assert naive.p < 0.01
    assert (part.families, part.change) == (4, Change.INSUFFICIENT_EVIDENCE)


def test_graded_scores_without_any_spread_keep_a_width() -> None:
    part = measure("x", np.full(40, 0.5), np.full(40, 0.5), [str(i) for i in range(40)])
    assert part.low < -0.05 < 0.05 < part.high


def test_replicates_are_averaged_and_items_must_be_asked_of_both() -> None:
    old, ones, zeros = (answers(np.full(4, value)) for value in (0.0, 1.0, 0.0))
    assert paired_scores(old, [ones, zeros])["new_score"].to_pylist() == [0.5] * 4
    assert compare(paired_scores(answers(np.ones(4), kind="refusal_probes"), [answers(np.ones(4), kind="refusal_probes")])) == []
    with pytest.raises(EvaluationError, match="paired"):
        paired_scores(old, [answers(np.ones(3))])
    with pytest.raises(EvaluationError, match="paired"):
        paired_scores(answers(np.ones(3)), [ones])


def test_a_better_rate_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(2)
    own = (rng.random(300) < 0.5).astype(float)
    better, noise = own.copy(), own.copy()
    better[np.flatnonzero(own == 0)[:60]] = 1.0
    noise[np.flatnonzero(own == 0)[:3]] = 1.0
    by_rate = {OWN: answers(own), 2.0: answers(better), 4.0: answers(noise)}
    outcomes = rate_sensitivity(by_rate, 0.001, dict.fromkeys(by_rate, 1.0))
    assert [(o.multiple, o.learning_rate) for o in outcomes] == [(1.0, 0.001), (2.0, 0.002), (4.0, 0.004)]
    assert [o.multiple for o in better_rates(outcomes)] == [2.0]
    assert "multiple of the recipe" in rate_plot(outcomes)
    assert rate_grid([2, 0.5]) == [0.5, 1.0, 2.0]
    for wrong in ([0.0], [-1.0], [float("nan")], [float("inf")], range(1, 20)):
        with pytest.raises(InputDataError):
            rate_grid(wrong)
