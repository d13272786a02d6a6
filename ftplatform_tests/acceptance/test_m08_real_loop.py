"""M8 on a real loop: the bundled model of a million parameters learns a thumbs-like proxy, and is caught while the proxy still rises.

Four loops of best-of-4 with tuning on the winners, from one model that was tuned on transcripts; about three CPU minutes.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.rewards.divergence import reward_task_divergence
from ftplatform.rewards.ledger import per_checkpoint
from ftplatform.rewards.loop import LoopResult, LoopSettings, RewardFunction, best_of_n_loop
from ftplatform.rewards.noninferiority import anchored_noninferiority
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards import small_loop

pytestmark = pytest.mark.slow

#: The notes' own loops were caught in rounds 1, 6 and 4.
ROUNDS = 6


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_loop.tuned(tmp_path_factory.mktemp("tuned"), seed=0)


def diverges(ledger: pa.Table) -> str | None:
    verdict = reward_task_divergence(ledger)
    return verdict.summary if verdict.decision is Decision.FAIL else None


def run(tuned: Path, folder: Path, seed: int, rounds: int, reward: RewardFunction) -> LoopResult[Path]:
    return best_of_n_loop(
        tuned,
        small_loop.prompts(seed),
        small_loop.exam(),
        reward,
        LoopSettings(rounds=rounds, n=4, seed=100 * seed),
        small_loop.actions(folder, tuned),
        governor=diverges,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_alarm_fires_while_the_proxy_still_rises(tuned: Path, tmp_path: Path, seed: int) -> None:
    done = run(tuned, tmp_path, seed, ROUNDS, small_loop.thumbs)
    course = per_checkpoint(done.ledger).to_pylist()
    rewards, outcomes = [row["reward"] for row in course], [row["outcome"] for row in course]
    assert done.stopped is not None, f"never caught: rewards {rewards}, outcomes {outcomes}"
    assert len(course) - 1 <= ROUNDS
    assert rewards[-1] > rewards[-2], "the proxy still rises"
    assert rewards[-1] > rewards[0] + 0.1
    assert outcomes[-1] < outcomes[0]
    assert course[0]["kl"] == 0
    assert course[-1]["kl"] > 0.5, "the policy has moved"


def test_a_loop_whose_reward_holds_the_anchor_is_not_held(tuned: Path, tmp_path: Path) -> None:
    """As many rounds as the others took to be caught."""
    done = run(tuned, tmp_path, 0, 3, small_loop.anchored)
    course = per_checkpoint(done.ledger).to_pylist()
    assert len(course) == 4
    assert diverges(done.ledger) is None
    assert anchored_noninferiority(done.ledger).decision is not Decision.FAIL
    assert course[-1]["kl"] > 0.5, "it did train"
    # The gamed loops lost 7 to 11 points of the exam in as many rounds.
    assert course[-1]["outcome"] > course[0]["outcome"] - 0.04
