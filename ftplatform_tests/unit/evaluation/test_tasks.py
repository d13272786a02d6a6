"""Scores of answers against references."""

from __future__ import annotations

import re
import string
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.evaluation.tasks import Metric, score, unusable


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


def longest_common_subsequence(a: list[str], b: list[str]) -> int:
    """The textbook recurrence."""
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if x == y else max(lengths[i][j + 1], lengths[i + 1][j])
    return lengths[-1][-1]


WORDS = st.lists(st.sampled_from(["red", "green", "blue", "white"]), max_size=12)


@given(WORDS, WORDS)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(answer: list[str], reference: list[str]) -> None:
    size = len(answer) + len(reference)
    expected = 2 * longest_common_subsequence(answer, reference) / size if size else 1.0
    assert one(" ".join(answer), " ".join(reference), Metric.ROUGE_L) == pytest.approx(expected)


def test_rouge_l_sees_the_order_of_words() -> None:
    assert one("police killed gunman", "gunman killed police", Metric.TOKEN_F1) == 1.0
    assert one("police killed gunman", "gunman killed police", Metric.ROUGE_L) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("3 boxes at 4 each make 12.", "12", 1.0),
        ("It is $1,234.50.", "#### 1234.5", 1.0),
        ("The answer is −7", "-7", 1.0),
        ("7", "-7", 0.0),
        ("between 3-5", "5", 1.0),
        ("twelve", "12", 0.0),
        ("12 apples, so 13", "12", 0.0),
        ("1.0", "1", 1.0),
    ],
)
def test_numeric_match_reads_the_last_number(answer: str, reference: str, expected: float) -> None:
    assert one(answer, reference, Metric.NUMERIC_MATCH) == expected


def test_regex_is_searched_in_the_answer_as_it_is() -> None:
    assert one("Ticket ABC-123 is open", r"\b[A-Z]{3}-\d+\b", Metric.REGEX) == 1.0
    assert one("ticket abc-123", r"\b[A-Z]{3}-\d+\b", Metric.REGEX) == 0.0
    assert one("ticket abc-123", r"(?i)\b[A-Z]{3}-\d+\b", Metric.REGEX) == 1.0
    assert score(["a", "b"], ["a", "a"], "regex").to_pylist() == [1.0, 0.0]


def test_a_hostile_pattern_takes_no_time() -> None:
    """ADV: `(a+)+$` on 30 letters takes a backtracking engine longer than anybody waits."""
    began = time.perf_counter()
    assert one("a" * 5_000 + "!", "(a+)+$", Metric.REGEX) == 0.0
    assert time.perf_counter() - began < 5
    began = time.perf_counter()
    re.search("(a+)+$", "a" * 21 + "!")
    naive_doubles = time.perf_counter() - began
    began = time.perf_counter()
    re.search("(a+)+$", "a" * 23 + "!")
    assert time.perf_counter() - began > 1.5 * naive_doubles, "two letters more, several times the time"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"a": 1}', 1.0),
        ('```json\n{"a": 1}\n```', 1.0),
        ("[1, 2", 0.0),
        ('Sure! {"a": 1}', 0.0),
        ("", 0.0),
        ("{'a': 1}", 0.0),
        ("NaN", 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_json_valid(answer: str, expected: float) -> None:
    assert one(answer, "", Metric.JSON_VALID) == expected


def test_references_are_checked_beforehand() -> None:
    assert unusable(["5", "none"], Metric.NUMERIC_MATCH) == (1, "it holds no number")
    place, reason = unusable(["ok", "a("], Metric.REGEX) or (None, "")
    assert (place, "regular expression" in reason) == (1, True)
    assert unusable(["a(?=b)"], Metric.REGEX), "look-around is not supported"
    assert unusable(["a(", "none"], Metric.EXACT_MATCH) is None
    with pytest.raises(ValueError, match="reference 0: it holds no number"):
        score(["5"], ["five"], "numeric_match")


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
