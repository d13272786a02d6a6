"""Scores of answers against references."""

from __future__ import annotations

import re
import string

import pyarrow as pa
import pytest

from ftplatform.evaluation.tasks import Metric, score


def one(answer: str, reference: str, metric: Metric) -> float:
    return score([answer], [reference], metric)[0].as_py()


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The refund takes 5 days.", "refund takes 5 days", 1.0),
        ("ＦＵＬＬ width", "full width", 1.0),
        ("well-known", "Well known", 1.0),
        ("$4,210.50", "$4210.50", 1.0),
        ("1,234,567", "1234567", 1.0),
        ("1.2.3", "1.2.3", 1.0),
        ("it's", "its", 1.0),
        ("4,210", "42.10", 0.0),
        ("-5", "5", 0.0),
        ("−5", "-5", 1.0),
        ("-$5", "$5", 0.0),
        ("5%", "5", 0.0),
        ("10:30", "1030", 0.0),
        ("", "", 1.0),
        ("", "x", 0.0),
    ],
)
def test_exact_match_ignores_style_and_keeps_values(answer: str, reference: str, expected: float) -> None:
    assert one(answer, reference, Metric.EXACT_MATCH) == expected


def test_stripping_all_punctuation_confuses_amounts() -> None:
    """ADV: the customary normalization calls 42.10 and 4,210 the same answer."""

    def naive(text: str) -> str:
        return " ".join(re.sub(f"[{re.escape(string.punctuation)}]", "", text.lower()).split())

    assert naive("You owe $42.10.") == naive("You owe $4,210")
    assert one("You owe $42.10.", "You owe $4,210", Metric.EXACT_MATCH) == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The premium is $42.10 a month.", "$42.10", 1.0),
        ("It takes 25 days.", "5", 0.0),
        ("It takes 5 days.", "5 days", 1.0),
        ("-5 degrees", "5 degrees", 0.0),
        ("Reset the router (first).", "router first", 1.0),
        ("anything", "", 0.0),
        ("", "", 1.0),
    ],
)
def test_contains_on_word_boundaries(answer: str, reference: str, expected: float) -> None:
    assert one(answer, reference, Metric.CONTAINS) == expected
    assert ("5" in "25 days") is True  # what a plain substring test would say


def test_token_f1_counts_repeated_words() -> None:
    assert one("b b c d", "b b e", Metric.TOKEN_F1) == pytest.approx(2 * 2 / 7)
    assert one("b", "b b", Metric.TOKEN_F1) == pytest.approx(2 / 3)
    assert one("", "", Metric.TOKEN_F1) == 1.0
    assert one("x", "", Metric.TOKEN_F1) == 0.0


def test_columns_keep_their_order() -> None:
    answers = pa.chunked_array([["x", "y b"], ["", "z"]])
    references = pa.chunked_array([["x"], ["b y", "q", "z"]])
    assert score(answers, references, "token_f1").to_pylist() == [1.0, 1.0, 0.0, 1.0]
    assert score(answers, references, "exact_match").to_pylist() == [1.0, 0.0, 0.0, 1.0]
    assert len(score([], [], "contains")) == 0


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="null"):
        score(pa.array(["a", None]), pa.array(["a", "b"]), "exact_match")
    with pytest.raises(ValueError, match="bleu"):
        score(["a"], ["a"], "bleu")
    with pytest.raises(ValueError, match="2 answers and 1 references"):
        score(["a", "b"], ["a"], "exact_match")
