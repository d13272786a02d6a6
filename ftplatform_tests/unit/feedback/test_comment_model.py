"""The comment model: the shipped weights are what fitting gives, what it adds to the lexicon, and broken files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ftplatform.errors import InputDataError
from ftplatform.feedback import comment_fitting, comment_model
from ftplatform.feedback.comment_model import BORDER, FILE, CommentModel, shipped
from ftplatform.feedback.correction_check import NEEDED
from ftplatform.feedback.correction_signals import correction_signals
from ftplatform.feedback.meta_language import is_meta, normalized
from ftplatform_tests.refitting import assert_same_fit
from ftplatform_tests.unit.feedback.comments import COMMENTS, HELD_OUT
from ftplatform_tests.unit.feedback.fresh_comments import FRESH
from ftplatform_tests.unit.feedback.replacements import coffee


def clean(texts: tuple[str, ...] | list[str]) -> pl.Series:
    return pl.DataFrame({"text": list(texts)}).select(normalized(pl.col("text"))).to_series()


def test_fitting_again_gives_the_shipped_file() -> None:
    fitted = comment_fitting.fit()
    assert_same_fit(fitted.to_json(), shipped().to_json())
    # A manner of commenting that it has not read is found by itself less often than not: it stands beside the lexicon, not for it.
    assert fitted.facts["group_left_out"]["recall"] > 0.2


def test_held_out_comments_are_not_in_the_training_texts() -> None:
    trained = set(clean(comment_fitting.training_texts().texts))
    assert not trained & set(clean([*HELD_OUT, *FRESH]))
    assert len(set(FRESH)) == len(FRESH) >= 80


def test_it_finds_comments_that_no_cue_of_the_lexicon_betrays() -> None:
    """Of 86 comments written afterwards the lexicon alone sees 21."""
    texts = clean(FRESH)
    lexicon = pl.select(is_meta(pl.lit(texts))).to_series()
    both = lexicon | pl.Series(shipped().probabilities(texts) >= BORDER)
    assert lexicon.sum() < 0.3 * len(FRESH)
    assert both.sum() >= 0.47 * len(FRESH)


def test_answers_are_none() -> None:
    said = clean(["You can return it within 14 days.", "Does everything look right?", "Paris", "Your parcel left on Monday."])
    assert (shipped().probabilities(said) < BORDER).all()


def test_real_replies_without_an_old_answer(shared_data: Path) -> None:
    """6,700 replies of people; like their wording, 36 training answers were written after a first look (1.2 % then)."""
    replies = coffee(shared_data)
    assert replies.height > 6_000
    assert int((correction_signals(replies.to_arrow())["signals"] >= NEEDED).sum()) <= 0.005 * replies.height


def test_no_text_at_all_and_empty_ones() -> None:
    assert shipped().probabilities(pl.Series([], dtype=pl.String)).shape == (0,)
    assert shipped().probabilities(clean(["", COMMENTS[0]])).shape == (2,)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"weights": {"w:a": "x"}, "bias": 0, "facts": {}}'])
def test_a_broken_file_is_named(data: bytes) -> None:
    with pytest.raises(InputDataError, match=r"weights\.json.*Fit them again"):
        CommentModel.load(data, source="weights.json")


def test_a_text_before_the_first_section_is_named() -> None:
    with pytest.raises(InputDataError, match="line 1: a text before"):
        comment_fitting.training_texts("Hello.")
    assert FILE.endswith(".json")


def test_texts_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of all texts at once took 20 GB for a million of them; the probabilities are the same."""
    texts = clean([*HELD_OUT, *FRESH])
    whole = shipped().probabilities(texts)
    seen: list[int] = []

    def counted(batch: pl.Series) -> pl.DataFrame:
        seen.append(len(batch))
        return comment_model_features(batch)

    comment_model_features = comment_model.features
    monkeypatch.setattr(comment_model, "features", counted)
    monkeypatch.setattr(comment_model, "BATCH_TEXTS", 32)
    assert shipped().probabilities(texts) == pytest.approx(whole)
    assert max(seen) == 32
    assert sum(seen) == len(texts)
