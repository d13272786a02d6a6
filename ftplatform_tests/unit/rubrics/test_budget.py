"""How often a vault may choose, and what may be told of each attempt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ftplatform.rubrics.budget import eval_budget
from ftplatform.rubrics.ladder import Ladder
from ftplatform.store.access_log import AccessKind, AccessRecord
from ftplatform.verdict import Decision

START = datetime(2026, 10, 1, tzinfo=UTC)
ITEMS = [f"{i:064x}" for i in range(50)]


def record(kind: AccessKind, day: float, items: list[str] | None = None) -> AccessRecord:
    return AccessRecord(
        id=f"{day}",
        eval_set="vault",
        kind=kind,
        by="kim@example.com",
        at=START + timedelta(days=day),
        purpose="choose a checkpoint",
        items=tuple(items or ()),
        snapshot=None,
        adapter="ab" * 32,
        after=(),
        token=str(day),
    )


def ledger(selections: int, refreshed: list[str] = ITEMS) -> list[AccessRecord]:
    chosen = [record(AccessKind.DECISION, 1 + i / 10) for i in range(selections)]
    return [record(AccessKind.REFRESH, 0, refreshed), *chosen]


@pytest.mark.parametrize(
    ("selections", "decision"),
    [(0, Decision.PASS), (10, Decision.PASS), (11, Decision.WARN), (20, Decision.WARN), (21, Decision.FAIL)],
)
def test_the_budget_warns_and_twice_the_budget_fails(selections, decision):
    verdict = eval_budget(ITEMS, ledger(selections))
    assert verdict.decision is decision
    assert verdict.estimate == selections
    assert len(verdict.evidence) == min(selections, 20)


def test_the_project_may_set_another_budget():
    assert eval_budget(ITEMS, ledger(11), budget=30).decision is Decision.PASS
    with pytest.raises(ValueError, match="at least 1"):
        eval_budget(ITEMS, ledger(1), budget=0)


def test_a_refresh_of_every_item_starts_the_count_again_and_one_of_some_items_does_not():
    new = [f"{i:064x}" for i in range(100, 150)]
    spent = [*ledger(25), record(AccessKind.REFRESH, 9, new)]
    assert eval_budget(new, spent).estimate == 0
    mixed = [*ITEMS[:1], *new]
    assert eval_budget(mixed, spent).decision is Decision.FAIL, "one old item has been chosen on 25 times"
    # Naming old items again makes them no younger.
    assert eval_budget(ITEMS, [*ledger(25), record(AccessKind.REFRESH, 9, ITEMS)]).estimate == 25


def test_without_items_or_a_beginning_nothing_is_decided():
    assert eval_budget([], ledger(3)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert eval_budget(ITEMS, []).decision is Decision.INSUFFICIENT_EVIDENCE
    assert eval_budget(ITEMS, ledger(3, ITEMS[:-1])).decision is Decision.INSUFFICIENT_EVIDENCE


# ---- the Ladder ------------------------------------------------------------------------------------------------------------


def attack(told, truth: np.ndarray, rounds: int, seed: int) -> np.ndarray:
    """Answers by majority of random answers, each turned round if it was told to be worse than chance (Blum and Hardt 2015, section 4).

    `told` is what the leaderboard says of each. No answer knows anything about the truth.
    """
    rng = np.random.default_rng(seed)
    votes = np.zeros(len(truth))
    last = 0.0
    for _ in range(rounds):
        guess = rng.integers(0, 2, len(truth))
        said = told((guess == truth).astype(float))
        # On a leaderboard that repeats the last score, only a step says anything.
        if said != last:
            votes += np.sign(said - 0.5) * (2 * guess - 1)
        last = said
    return (votes > 0).astype(int)


def test_adv_a_plain_leaderboard_is_climbed_without_a_better_model_and_the_ladder_is_not():
    climbed, laddered, fresh = [], [], []
    for seed in range(5):
        truth, unseen = np.random.default_rng(100 + seed).integers(0, 2, (2, 1000))
        plain = attack(lambda right: float(right.mean()), truth, 400, seed)
        climbed.append((plain == truth).mean())
        fresh.append((plain == unseen).mean())
        ladder = Ladder([f"q{i}" for i in range(1000)])
        stepped = attack(lambda right, ladder=ladder: ladder.report(right).reported, truth, 400, seed)
        laddered.append(ladder.report((stepped == truth).astype(float)).reported)
    assert np.mean(climbed) > 0.65, "the naive leaderboard shows a model nine standard errors above chance"
    assert abs(np.mean(fresh) - 0.5) < 0.03, "that knows nothing"
    assert np.mean(laddered) < 0.56


def test_a_better_model_is_reported_and_noise_is_not():
    rng = np.random.default_rng(0)
    ladder = Ladder([f"q{i}" for i in range(500)])
    first = rng.binomial(1, 0.6, 500).astype(float)
    step = ladder.report(first)
    assert (step.reported, step.improved) == (first.mean(), True)
    other = first.copy()
    other[:10] = 1 - other[:10]
    repeated = ladder.report(other)
    assert not repeated.improved or other.mean() - first.mean() > repeated.margin
    better = np.maximum(first, rng.binomial(1, 0.4, 500))
    assert ladder.report(better).reported == better.mean()
    worse = ladder.report(first)
    assert (worse.reported, worse.improved) == (better.mean(), False)
    with pytest.raises(ValueError, match="499 scores"):
        ladder.report(first[:-1])
