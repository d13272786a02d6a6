"""Answers without content, and what rubrics give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ftplatform.rubrics.criteria import Criterion, Rule
from ftplatform.rubrics.null_floor import null_model_floor
from ftplatform.rubrics.null_models import NullModel, null_answers
from ftplatform.verdict import Decision
from ftplatform_tests.real_data import read_csv


def ones(k: int, n: int) -> np.ndarray:
    return np.r_[np.ones(k), np.zeros(n - k)]


def test_the_constant_output_that_leads_a_public_leaderboard_is_rejected(shared_data: Path):
    file = "src__alpaca_eval__leaderboards__data_AlpacaEval_2__weighted_alpaca_eval_gpt4_turbo_leaderboard.csv.gz"
    rows = {row[""]: row for row in read_csv(shared_data / "alpaca_eval" / file)}
    won, n = int(rows["NullModel"]["n_wins"]), int(rows["NullModel"]["n_total"])
    assert (won, n) == (676, 805)
    # The baseline of the leaderboard against itself: a tie on every item.
    verdict = null_model_floor({"constant": ones(won, n)}, np.full(n, 0.5), baseline="gpt4_1106_preview against itself")
    assert verdict.decision is Decision.FAIL
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0.8
    # Naive: a leaderboard that asks only who is first would have kept the rubric and crowned the constant.
    best = max(rows, key=lambda name: float(rows[name]["length_controlled_winrate"]))
    assert best == "NullModel"


def test_adv_a_constant_answer_that_scores_eighty_rejects_the_rubric_though_base_scores_more():
    verdict = null_model_floor({"constant": ones(160, 200), "echo": np.zeros(200)}, np.ones(200))
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["null_model"] == "constant"
    assert np.ones(200).mean() > 0.8, "the naive question, whether the model beats the constant, is answered yes"


def test_close_to_real_answers_fails_below_the_ceiling_too():
    rng = np.random.default_rng(0)
    verdict = null_model_floor({"keyword-stuffed": ones(50, 300)}, rng.permutation(ones(70, 300)))
    assert verdict.decision is Decision.FAIL
    assert "below real answers" in verdict.summary


def test_a_rubric_that_needs_content_passes():
    nulls = {"constant": np.zeros(200), "echo": ones(10, 200)}
    verdict = null_model_floor(nulls, ones(150, 200))
    assert verdict.decision is Decision.PASS
    assert verdict.ci_high is not None
    assert verdict.ci_high < 0.3


def test_what_is_not_shown_is_not_a_pass():
    assert null_model_floor({"echo": ones(58, 200)}, np.ones(200)).decision is Decision.INSUFFICIENT_EVIDENCE, "29 % may be 35 %"
    assert null_model_floor({"echo": np.zeros(200)}, None).decision is Decision.INSUFFICIENT_EVIDENCE
    assert null_model_floor({"echo": np.zeros(29)}, np.ones(29)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert null_model_floor({}, None).decision is Decision.INSUFFICIENT_EVIDENCE
    assert null_model_floor({"echo": []}, []).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_null_model_above_the_ceiling_fails_without_real_answers():
    assert null_model_floor({"constant": ones(180, 200)}, None).decision is Decision.FAIL


def test_thirty_times_nothing_is_no_proof_of_nothing():
    """A t interval of thirty zeros has no width; the exact bound says up to a tenth."""
    verdict = null_model_floor({"echo": np.zeros(30)}, np.ones(30))
    assert verdict.ci_high is not None
    assert 0.05 < verdict.ci_high < 0.12


def test_rephrased_items_are_one_item():
    families = [i // 20 for i in range(200)]
    verdict = null_model_floor({"echo": np.zeros(200)}, np.ones(200), clusters=families)
    assert verdict.ci_high is not None
    assert verdict.ci_high > 0.2, "ten families bear no more than ten items"


def test_the_null_models_are_what_they_say():
    criteria = [
        Criterion("cites", "Cites a source.", Rule("contains", "according to")),
        Criterion("calm", "Does not shout.", Rule("contains", "unbelievable", negate=True)),
    ]
    prompts = ["where is my parcel", "how do I pay"]
    answers = {model: null_answers(model, criteria, prompts) for model in NullModel}
    assert answers[NullModel.ECHO] == prompts
    assert all(len(set(answers[model])) == 1 for model in NullModel if model is not NullModel.ECHO)
    stuffed = answers[NullModel.KEYWORDS][0]
    assert "Cites a source." in stuffed
    assert "according to" in stuffed
    assert "unbelievable" not in stuffed
    assert len(answers[NullModel.OVER_LONG][0].split()) > 600
    assert null_answers(NullModel.CONSTANT, criteria, []) == []


@pytest.mark.parametrize("bad", [[0.5, 1.2], [float("nan"), 0.0]])
def test_scores_outside_the_scale_are_refused(bad):
    with pytest.raises(ValueError, match=r"outside|finite"):
        null_model_floor({"echo": bad}, [0.0, 0.0])
    with pytest.raises(ValueError, match="different numbers"):
        null_model_floor({"echo": [0.0]}, [0.0, 0.0])
