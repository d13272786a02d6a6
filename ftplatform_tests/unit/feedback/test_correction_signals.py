"""The four signals: what each sees, where it abstains, and the model's tier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.feedback.correction_check import correction_is_target
from ftplatform.feedback.correction_signals import MIN_SCORED, correction_signals
from ftplatform.feedback.meta_language import cues, is_meta, meta_cues, normalized
from ftplatform_tests.unit.feedback.comments import COMMENTS, DEVELOPMENT

ANSWER = "You can send the router back within thirty days if it is unopened and you still have the receipt at hand."


def signals(correction: str, answer: str | None = ANSWER, prompt: str = "can i return the router") -> set[str]:
    row = correction_signals(pa.table({"prompt": [prompt], "answer": pa.array([answer], pa.string()), "correction": [correction]}))
    return {name for name, fired in row.row(0, named=True).items() if fired is True}


@pytest.mark.parametrize(
    ("correction", "fired"),
    [
        ("You can return the router within 14 days if it is unopened and you have the receipt.", set()),
        ("Yes.", {"length"}),
        ("The weather was lovely and our garden needed rain, so nobody complained about clouds.", {"overlap"}),
        ("too wordy", {"meta_language", "overlap", "length"}),
        ("Toll-free calls cost nothing abroad.", {"overlap"}),
    ],
)
def test_each_signal(correction: str, fired: set[str]) -> None:
    assert signals(correction) == fired


def test_without_an_old_answer_the_length_abstains() -> None:
    assert "length" not in signals("Yes.", None)
    assert signals("this answer sounds robotic", None) == {"meta_language", "overlap"}


def test_the_lexicon_finds_what_it_was_written_for() -> None:
    frame = pl.DataFrame({"text": [*COMMENTS, *DEVELOPMENT]})
    missed = frame.filter(~is_meta(normalized(pl.col("text"))))["text"].to_list()
    assert missed == []


def test_long_answers_are_no_comments_because_they_mention_things() -> None:
    letter = " ".join(["You should keep the receipt. It says when the warranty ends, and the customer line can confirm it."] * 12)
    assert "meta_language" not in signals(letter)


def test_cues_are_quoted_and_every_pattern_compiles() -> None:
    assert meta_cues("Fine, but I HATE how it’s phrased")[0].split(": ")[1]
    assert meta_cues("Your parcel left on Monday.") == []
    for cue in cues():
        assert pl.select(pl.lit("").str.contains(cue.pattern)).item() in (True, False)
        assert "{" not in cue.pattern.replace("{0,2}", "").replace("{0,3}", "").replace("{0,6}", ""), "a group was not filled in"


class Likely:
    """A stand-in for a base model: how likely a text is, is given beforehand."""

    def __init__(self, unlikely: set[str]) -> None:
        self.unlikely, self.asked = unlikely, 0

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        self.asked += len(texts)
        return np.array([-9.0 if text in self.unlikely else -2.0 - 0.001 * (i % 50) for i, text in enumerate(texts)])


def corrections(texts: list[str]) -> pa.Table:
    n = len(texts)
    return pa.table(
        {
            "event_id": [f"e{i}" for i in range(n)],
            "prompt": ["can i return the router"] * n,
            "answer": [ANSWER] * n,
            "correction": texts,
            "reviewed": [False] * n,
        }
    )


def test_a_model_finds_a_comment_that_no_word_betrays() -> None:
    good = [f"You can return the router within {i} days if it is unopened and you have the receipt." for i in range(100)]
    odd = "Toll-free calls cost nothing abroad and pigeons carry letters over mountains."
    model = Likely({odd})
    without, with_model = (
        correction_is_target(corrections([*good, odd])),
        correction_is_target(corrections([*good, odd]), log_probability=model),
    )
    assert (without.tier, with_model.tier) == ("rules", "rules and base model")
    assert without.passed
    assert with_model.details["suspects"] == 1
    assert with_model.evidence[0]["signals"] == "overlap, log_probability"
    assert model.asked == 2 * 101


def test_many_comments_do_not_make_themselves_the_norm() -> None:
    """ADV: the lowest 5 % of all rows would be 5 of the 40 comments; the quantile of undoubted rows finds them all."""
    good = [f"You can return the router within {i} days if it is unopened and you have the receipt." for i in range(60)]
    bad = [f"Pigeons carry letters over mountain number {i} before winter." for i in range(40)]
    table, model = corrections([*good, *bad]), Likely(set(bad))
    low = correction_signals(table, log_probability=model)["log_probability"].to_numpy()
    assert low[60:].all()
    assert low[:60].mean() <= 0.06
    gain = model(["", ""] * 50, [*good, *bad]) - model(["", ""] * 50, [ANSWER] * 100)
    naive = gain < np.quantile(gain, 0.05)
    assert naive[60:].sum() < 10


def test_too_few_rows_have_no_quantile_and_a_broken_model_is_an_error() -> None:
    few = corrections(["You can return the router within 9 days if it is unopened."] * (MIN_SCORED - 1))
    assert not correction_signals(few, log_probability=Likely(set()))["log_probability"].any()
    many = corrections(["You can return the router within 9 days if it is unopened."] * MIN_SCORED)
    with pytest.raises(ValueError, match="shape"):
        correction_signals(many, log_probability=lambda _prompts, _texts: np.zeros(3))
