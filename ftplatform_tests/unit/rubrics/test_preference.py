"""Which answer would you send: order, length, ties, and the public leaderboard."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ftplatform.rubrics.agreement import pairwise_rank_agreement, preference_agreement, rank_agreement
from ftplatform.rubrics.length_control import length_controlled_rate, length_term, rank_moves
from ftplatform.rubrics.preference import Duel, Pair, compare, rubric_free_preference
from ftplatform.verdict import Decision
from ftplatform_tests.real_data import read_csv


def pairs(n: int, growth: float = 1.0, seed: int = 0) -> list[Pair]:
    """Answers of varying length; the tuned one is `growth` times as long, and ends in its quality."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        length = int(rng.integers(100, 400))
        other = max(2, int(length * growth * rng.uniform(0.6, 1.6)))
        found.append(Pair(f"q{i}", f"question {i}", "b" * length, "t" * other, f"q{i}"))
    return found


def judge(quality: float, length: float = 0.0, first: float = 0.0, seed: int = 0):
    """A judge with a taste: log-odds of the tuned answer, per tanh of standardized extra length, and of the first place."""
    rng = np.random.default_rng(seed)

    def prefer(duels) -> list[float]:
        sign = np.array([1.0 if d.first.startswith("t") else -1.0 for d in duels])
        extra = length_term(np.array([float(len(d.first)) for d in duels]), np.array([float(len(d.second)) for d in duels]))
        odds = sign * quality + length * extra + first
        return (rng.uniform(size=len(duels)) < 1 / (1 + np.exp(-odds))).astype(float).tolist()

    return prefer


def test_adv_a_judge_that_likes_length_is_corrected_and_the_raw_rate_is_fooled():
    """A tuned model that is worse and mostly longer."""
    verdict = rubric_free_preference(compare(pairs(800, growth=1.4), judge(quality=-0.6, length=2.5)))
    raw = verdict.details["raw_win_rate"]
    assert raw[1] > 0.5, "the naive rate says that it is better"
    assert verdict.decision is Decision.FAIL
    assert abs(verdict.details["win_rate"][0] - 1 / (1 + math.exp(0.6))) < 0.06
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0.5
    assert verdict.details["length_effect"] > 1.5


def test_adv_a_judge_that_likes_the_first_place_is_fair_in_both_orders_and_not_in_one():
    shown = pairs(400)
    prefer = judge(quality=0.0, first=1.5)
    one_order = np.mean(prefer([Duel(p.item_id, p.prompt, p.tuned, p.base) for p in shown]))
    assert one_order > 0.7, "asked in one order, the tuned model wins by its place"
    verdict = rubric_free_preference(compare(shown, prefer))
    assert verdict.decision is not Decision.FAIL
    assert abs(verdict.details["raw_win_rate"][0] - 0.5) < 0.05
    assert verdict.details["first_place"][1] > 0.6, "and the bias is reported"
    assert verdict.details["changed_with_the_order"] > 0.3


def test_the_interval_covers_the_truth():
    inside = []
    truth = 1 / (1 + math.exp(-0.4))
    for seed in range(200):
        preferences = compare(pairs(250, growth=1.5, seed=seed), judge(0.4, length=1.0, seed=seed))
        rate = rubric_free_preference(preferences)
        low, high = rate.details["win_rate"][1:]
        inside.append(low <= truth <= high)
    # Both orders of one pair are drawn apart here, so the bound errs towards caution if at all.
    assert np.mean(inside) > 0.91


def test_adv_a_model_that_is_always_longer_is_not_decided_by_extrapolation():
    """Wins where it is much longer, draws where it is a little: at equal length there is nothing to look at."""
    shown = [Pair(f"q{i}", "?", "b" * 100, "t" * (180 if i % 2 else 120), f"q{i}") for i in range(400)]

    def prefer(duels):
        return [0.5 if max(len(d.first), len(d.second)) < 150 else float(len(d.first) > len(d.second)) for d in duels]

    verdict = rubric_free_preference(compare(shown, prefer))
    assert verdict.details["raw_win_rate"][0] == 0.75, "the naive rate passes"
    assert verdict.details["win_rate"][2] < 0.5, "and the controlled one alone would fail"
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.details["length_overlap"] == 0


@pytest.mark.parametrize(("quality", "decision"), [(1.0, Decision.PASS), (-1.0, Decision.FAIL)])
def test_a_clear_preference_is_decided(quality, decision):
    assert rubric_free_preference(compare(pairs(300), judge(quality))).decision is decision


def test_an_unclear_one_is_not():
    verdict = rubric_free_preference(compare(pairs(200, seed=3), judge(-0.1, seed=4)))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.details["win_rate"][1] < 0.45


def test_equal_answers_are_ties_that_nobody_is_asked_about():
    same = [Pair(f"q{i}", "?", "yes", "yes", f"q{i}") for i in range(250)]

    def nobody(duels):
        raise AssertionError("equal answers need no judge")

    verdict = rubric_free_preference(compare(same, nobody))
    assert (verdict.estimate, verdict.details["ties"]) == (0.5, 1.0)
    assert verdict.decision is Decision.PASS, "the same answers are not worse"


def test_a_model_that_always_wins_has_a_finite_interval():
    rate = length_controlled_rate(np.ones(200), np.full(200, 9.0), np.full(200, 9.0), range(200)).rate
    assert 0.9 < rate.low < rate.estimate < rate.high < 1


def test_unreadable_judgments_and_few_items_decide_nothing():
    shown = pairs(300)
    likes = judge(2.0)

    def mumbles(duels):
        return [None if i % 10 == 0 else value for i, value in enumerate(likes(duels))]

    assert rubric_free_preference(compare(shown, mumbles)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert rubric_free_preference(compare(shown[:199], likes)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert rubric_free_preference(compare([], likes)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_paraphrases_of_a_prompt_are_one_item():
    shown = [Pair(p.item_id, p.prompt, p.base, p.tuned, f"family-{i % 20}") for i, p in enumerate(pairs(400))]
    assert rubric_free_preference(compare(shown, judge(2.0))).decision is Decision.INSUFFICIENT_EVIDENCE


# ---- the public leaderboard ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board(shared_data: Path) -> list[dict[str, str]]:
    name = "src__alpaca_eval__leaderboards__data_AlpacaEval_2__weighted_alpaca_eval_gpt4_turbo_leaderboard.csv.gz"
    return read_csv(shared_data / "alpaca_eval" / name)


def test_rank_moves_of_alpaca_eval_are_reproduced(board):
    raw = {row[""]: float(row["win_rate"]) for row in board}
    controlled = {row[""]: float(row["length_controlled_winrate"]) for row in board}
    moves = rank_moves(raw, controlled)
    assert len(moves) == 223
    assert sum(abs(move) >= 20 for move in moves.values()) == 52
    before = sorted(raw, key=lambda name: -raw[name]).index("NullModel") + 1
    assert (before, moves["NullModel"]) == (3, 2), "the constant output is third, and first at controlled length"


def test_the_length_term_explains_what_length_control_did_to_the_leaderboard(board):
    """No judgments of single items are public here; the model is checked on what it says of averages: the log-odds at equal length
    are the raw ones less a multiple of the length term."""
    rows = [row for row in board if 0 < float(row["win_rate"]) < 100 and 0 < float(row["length_controlled_winrate"]) < 100]
    odds = {
        key: np.array([math.log(float(r[key]) / (100 - float(r[key]))) for r in rows])
        for key in ("win_rate", "length_controlled_winrate")
    }
    lengths = np.array([float(row["avg_length"]) for row in rows])
    term = length_term(lengths, np.full(len(rows), 2049.0))  # the baseline's average length
    moved = odds["win_rate"] - odds["length_controlled_winrate"]
    usual = np.array([row[""] != "NullModel" for row in rows])
    slope = np.polyfit(term[usual], moved[usual], 1)
    correlation = float(np.corrcoef(term[usual], moved[usual])[0, 1])
    assert slope[0] > 0.5
    assert correlation > 0.75


def test_judges_of_alpaca_eval_agree_with_intervals(shared_data):
    folder = shared_data / "alpaca_eval"
    files = {
        "gpt4": "docs__data_AlpacaEval__alpaca_eval_gpt4_leaderboard.csv.gz",
        "claude": "docs__data_AlpacaEval__claude_leaderboard.csv.gz",
        "chatgpt": "docs__data_AlpacaEval__chatgpt_fn_leaderboard.csv.gz",
    }
    boards = {judge: {r["name"]: float(r["win_rate"]) for r in read_csv(folder / file)} for judge, file in files.items()}
    agreements = {(one, other): (n, tau) for one, other, n, tau in pairwise_rank_agreement(boards)}
    assert agreements.keys() == {("gpt4", "claude"), ("gpt4", "chatgpt"), ("claude", "chatgpt")}
    n, tau = agreements["gpt4", "claude"]
    assert n >= 20
    assert 0.5 < tau.low <= tau.estimate <= tau.high < 1, "they agree, and not perfectly"
    few, wide = agreements["gpt4", "chatgpt"]
    assert few < n
    assert wide.high - wide.low > tau.high - tau.low


def test_rank_agreement_knows_its_ends():
    assert rank_agreement(range(12), range(12)).estimate == 1
    assert rank_agreement(range(12), [-i for i in range(12)]).estimate == -1
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40), rng.integers(0, 6, 40)
    assert rank_agreement(a, b).estimate == pytest.approx(kendalltau(a, b)[0])
    with pytest.raises(ValueError, match="at least 5"):
        rank_agreement([1, 2, 3, 4], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="orders none"):
        rank_agreement([1.0] * 9, range(9))


def test_judges_that_choose_at_random_agree_by_chance_only_and_copies_wholly():
    rng = np.random.default_rng(1)
    one = rng.choice([0.0, 1.0], 400, p=[0.1, 0.9]).tolist()
    other = rng.choice([0.0, 1.0], 400, p=[0.1, 0.9]).tolist()
    assert np.mean(np.array(one) == np.array(other)) > 0.75, "raw agreement is no measure"
    chance = preference_agreement({"a": one, "b": other})
    assert chance is not None
    assert abs(chance.estimate) < 0.15
    same = preference_agreement({"a": one, "b": [None, *one[1:]]})
    assert same is not None
    assert same.estimate == 1
    assert preference_agreement({"a": one}) is None
    assert preference_agreement({"a": [1.0, 1.0], "b": [1.0, None]}) is None
    assert preference_agreement({}) is None
