"""The loop itself, on a policy that is a number: what it draws, keeps, records, and when it stops."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from ftplatform.rewards.loop import Actions, Exam, LoopSettings, best_of_n_loop, winners

EXAM = Exam(
    prompts={"x": "one?", "y": "two?"},
    outcome=lambda items, answers: [float(i in a) for i, a in zip(items, answers, strict=True)],
    judge="letter",
)


def actions(log: list[tuple[str, str]]) -> Actions[int]:
    """The policy is how many sorries it says; training makes it say as many as the winners do."""

    def sample(policy: int, prompts: Sequence[str], n: int, seed: int) -> list[list[str]]:
        return [["sorry " * (policy + k) + f"s{seed}" for k in range(n)] for _ in prompts]

    def train(policy: int, pairs: Sequence[tuple[str, str]], seed: int) -> int:
        log.extend(pairs)
        return pairs[0][1].count("sorry")

    return Actions(
        sample=sample, train=train, answer=lambda p, prompts: ["x " + "sorry " * p for _ in prompts], kl=lambda p: p / 10
    )


def sorries(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    return [float(answer.count("sorry")) for answer in answers]


def test_it_learns_the_reward_and_writes_a_ledger() -> None:
    log: list[tuple[str, str]] = []
    done = best_of_n_loop(0, ["a?", "b?"], EXAM, sorries, LoopSettings(rounds=3, n=4, seed=7), actions(log), heads=[sorries] * 4)
    assert done.policies == [0, 3, 6, 9]
    assert done.stopped is None
    assert log[:2] == [("a?", "sorry sorry sorry s7"), ("b?", "sorry sorry sorry s7")]
    rows = done.ledger.to_pylist()
    assert [(r["checkpoint"], r["item"]) for r in rows] == [(c, i) for c in range(4) for i in "xy"]
    assert [r["reward"] for r in rows[::2]] == [0, 3, 6, 9]
    assert [r["kl"] for r in rows[::2]] == pytest.approx([0, 0.3, 0.6, 0.9])
    assert [r["apologies"] for r in rows[::2]] == [0, 3, 6, 9]
    assert [r["outcome"] for r in rows[:2]] == [1.0, 0.0]
    assert {r["eval_root"] for r in rows} == {EXAM.root}
    assert rows[2]["heads"] == [3.0] * 4


def test_the_governor_stops_it_before_the_next_round() -> None:
    def governor(ledger: pa.Table) -> str | None:
        return "enough" if max(ledger["checkpoint"].to_pylist()) == 1 else None

    log: list[tuple[str, str]] = []
    done = best_of_n_loop(0, ["a?"], EXAM, sorries, LoopSettings(rounds=5), actions(log), governor=governor)
    assert (done.stopped, len(done.policies), len(log)) == ("enough", 2, 1)
    assert set(done.ledger["checkpoint"].to_pylist()) == {0, 1}


def test_the_exam_is_never_trained_on() -> None:
    with pytest.raises(ValueError, match="'two\\?' for one"):
        best_of_n_loop(0, ["a?", "two?"], EXAM, sorries, LoopSettings(rounds=1), actions([]))


def test_winners_are_the_first_of_the_best_and_never_empty() -> None:
    assert winners(["p", "q", "r"], [["a", "sorry", "sorry b"], ["", ""], ["", "z"]], sorries) == [("p", "sorry"), ("r", "z")]
