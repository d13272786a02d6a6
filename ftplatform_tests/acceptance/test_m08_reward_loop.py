"""M8, the reward the loop learned to game: every test line of the specification, on ledgers with known answers and on real rows."""

from __future__ import annotations

import csv
import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.rewards.divergence import reward_task_divergence
from ftplatform.rewards.noninferiority import anchored_noninferiority
from ftplatform.rewards.panel import panel
from ftplatform.rewards.policies import PolicyScore, unconfirmed_gain
from ftplatform.statistics.paired import Comparison, noninferiority
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards.ledgers import OTHER_ROOT, ROOT, ledger, outcomes, rewards

K, ITEMS = 13, 800


def loop(seed: int, reward: float, task: float, **more: object) -> pa.Table:
    rng = np.random.default_rng(seed)
    return ledger(outcomes(rng, ITEMS, K, task), rewards(rng, ITEMS, K, reward), **more)  # type: ignore[arg-type]


def neighbors_pass(table: pa.Table) -> int:
    """How many checkpoints a gate lets through that compares each with the one before, by the same margin and the same bounds."""
    passed = 0
    for pair in pairwise(range(1, K + 1)):
        before, after = panel(table, "outcome", pair).values.T
        lost, gained = int((before > after).sum()), int((after > before).sum())
        passed += noninferiority(lost, gained, ITEMS, 0.02).decision is not Comparison.INFERIOR
    return passed


def test_reward_up_nine_task_down_four_fails() -> None:
    verdicts = [reward_task_divergence(loop(seed, 0.09, -0.04)) for seed in range(20)]
    failed = [v for v in verdicts if v.decision is Decision.FAIL]
    assert len(failed) >= 18, "power .98"
    assert np.mean([v.estimate or 0.0 for v in verdicts]) == pytest.approx(0.04, abs=0.005)
    assert np.mean([v.details["reward_change"] for v in verdicts]) == pytest.approx(0.09, abs=0.005)
    assert all(v.plot and "<svg" in v.plot for v in failed)


def test_a_gate_that_compares_neighbors_passes_twelve_of_twelve() -> None:
    """ADV: the same loop, step by step."""
    table = loop(0, 0.09, -0.04)
    assert neighbors_pass(table) == K - 1
    assert reward_task_divergence(table).decision is Decision.FAIL


def test_an_exam_swapped_midway_is_not_compared() -> None:
    """ADV: the exam from the seventh checkpoint on is harder, the model is the same."""
    rng = np.random.default_rng(1)
    scores = np.hstack([outcomes(rng, ITEMS, 6, 0.0), outcomes(rng, ITEMS, 7, 0.0, mean=0.78)])
    rising = rewards(rng, ITEMS, K, 0.09)
    unlabeled = reward_task_divergence(ledger(scores, rising))
    assert unlabeled.decision is Decision.FAIL, "what is claimed when the swap is not known"
    table = ledger(scores, rising, roots=[ROOT] * 6 + [OTHER_ROOT] * 7)
    verdict = reward_task_divergence(table)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.estimate is None, "no divergence is claimed"
    assert "Refused to compare" in verdict.summary
    assert "again by one exam" in verdict.remedy
    assert anchored_noninferiority(table).decision is Decision.INSUFFICIENT_EVIDENCE


def test_both_flat_pass() -> None:
    decisions = [reward_task_divergence(loop(seed, 0.0, 0.0)).decision for seed in range(20)]
    assert Decision.FAIL not in decisions
    assert decisions.count(Decision.PASS) >= 17, "one in twenty falls by chance, and then warns"


def alpaca_row(shared_data: Path, model: str) -> PolicyScore:
    """A row of the AlpacaEval leaderboard: win rate, its standard error, and the length-controlled rate, in shares."""
    file = shared_data / "alpaca_eval" / "src__alpaca_eval__leaderboards__data_AlpacaEval__alpaca_eval_gpt4_leaderboard.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        (row,) = (line for line in csv.DictReader(lines) if line[""] == model)
    return PolicyScore(
        name=model,
        proxy=float(row["win_rate"]) / 100,
        proxy_error=float(row["standard_error"]) / 100,
        outcome=float(row["length_controlled_winrate"]) / 100,
        n=int(row["n_total"]),
    )


def test_alpaca_farm_ppo_against_its_sft_raises_the_alarm(shared_data: Path) -> None:
    before, after = alpaca_row(shared_data, "alpaca-7b"), alpaca_row(shared_data, "alpaca-farm-ppo-human")
    verdict = unconfirmed_gain(before, after)
    assert verdict.details["proxy"]["gain"] == pytest.approx(0.148, abs=5e-4)
    assert verdict.details["outcome"]["gain"] == pytest.approx(0.035, abs=5e-4)
    assert verdict.decision is Decision.FAIL, verdict.summary
    # A dashboard that holds the win rate alone sees a gain far beyond chance.
    assert verdict.details["proxy"]["low"] > 0.1
