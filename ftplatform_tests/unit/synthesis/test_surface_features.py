"""The twelve surface features, one by one."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from ftplatform.synthesis.surface_features import FEATURES, repeated_words, surface_features


def features(text: str) -> dict[str, float]:
    return surface_features(pl.Series([text])).row(0, named=True)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("where is it", "log_words", math.log(4)),
        ("don't know", "log_words", math.log(3)),
        ("abc defg", "characters_per_word", 3.5),
        ("a reimbursement", "characters_per_word", 4.0),
        ("HELP me", "capital_share", 4 / 6),
        ("  Where is it", "initial_capital", 1.0),
        ("¿Dónde está?", "initial_capital", 1.0),
        ("where is it", "initial_capital", 0.0),
        ("where is it?!", "end_punctuation", 1.0),
        ("where is it", "end_punctuation", 0.0),
        ("hi, there! ok?", "punctuation_per_word", 1.0),
        ("where is my refnud", "unknown_word_rate", 0.25),
        ("can you kindly help", "politeness", 1.0),
        ("can you help", "politeness", 0.0),
        ("it broke and also leaks", "connectors", math.log(3)),
        ("wheres my stuff", "shorthand", 1.0),
        ("Where is my stuff", "shorthand", 0.0),
        ("One two. Three four.", "words_per_sentence", math.log(3)),
        ("why?", "question_mark", 1.0),
    ],
)
def test_feature(text: str, name: str, value: float) -> None:
    assert features(text)[name] == pytest.approx(value)


def test_columns_and_finiteness() -> None:
    odd = pl.Series(["", " ", "👍", "?!", "1234", "ÄÖÜ", "a" * 10_000, "\u202e\u200b", "नमस्ते दुनिया"])
    frame = surface_features(odd)
    assert frame.columns == list(FEATURES)
    assert len(FEATURES) == 12
    assert np.isfinite(frame.to_numpy()).all()


def test_words_of_the_topic_are_not_unknown() -> None:
    texts = pl.Series(["my chargeback", "your chargeback", "a chargeback and a xzqy", "the chargebakc"])
    known = repeated_words(texts)
    assert "chargeback" in known
    assert surface_features(texts, known)["unknown_word_rate"].to_list() == pytest.approx([0, 0, 0.2, 0.5])


def test_empty_series() -> None:
    assert surface_features(pl.Series([], dtype=pl.String)).shape == (0, 12)
