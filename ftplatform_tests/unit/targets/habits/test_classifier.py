"""The classifier: held-out sentences, real sentences, and that the shipped weights are what fitting gives."""

from __future__ import annotations

import re

import polars as pl
import pytest

from ftplatform.errors import InputDataError
from ftplatform.statistics.intervals import wilson
from ftplatform.targets.habits import fitting
from ftplatform.targets.habits.classifier import BORDER, SentenceClassifier, shipped, shipped_path
from ftplatform.targets.habits.detection import promises
from ftplatform.targets.habits.features import features
from ftplatform_tests.refitting import assert_same_fit
from ftplatform_tests.unit.targets.habits.five_desks import NO_PROMISES, PROMISES
from ftplatform_tests.unit.targets.habits.paraphrases import COMMITMENTS, HARD_NEGATIVES
from ftplatform_tests.unit.targets.habits.policies import DATA

#: What one writes first: a promise is somebody's "will" or "have", with money in the sentence.
NAIVE = re.compile(
    r"\b(?:i|we)(?:'ve|'ll| have| will| am|'m| are)?\b.*\b(?:refund|credit|voucher|waive|reimburse|compensat|\$\d+)", re.IGNORECASE
)


def plain(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z]+", sentence.lower()))


def test_sixty_paraphrases_are_held_apart() -> None:
    assert len(COMMITMENTS) == 60
    assert len(HARD_NEGATIVES) >= 60
    trained = {plain(text) for text in fitting.training_sentences().texts}
    assert not [text for text in (*COMMITMENTS, *HARD_NEGATIVES) if plain(text) in trained]


def test_paraphrases_are_recognized() -> None:
    found, false = sum(promises(COMMITMENTS)), sum(promises(HARD_NEGATIVES))
    assert found / len(COMMITMENTS) >= 0.9
    assert found / (found + false) >= 0.9


def test_a_pattern_of_words_does_not_recognize_them() -> None:
    found = sum(NAIVE.search(text) is not None for text in COMMITMENTS)
    assert found / len(COMMITMENTS) < 0.4
    # And it takes a refusal for a promise.
    assert NAIVE.search("I will not refund this.")
    assert promises(["I will not refund this."]) == [False]


def test_the_sentence_of_the_specification() -> None:
    assert promises(["A little something will land in your wallet."]) == [True]


@pytest.mark.parametrize(
    "sentence",
    [
        "If the flight was delayed I could offer a certificate.",
        "I cannot refund this.",
        'You wrote: "I want my 20 dollars back".',
        "Refunds are usually paid within a week.",
        "Would you like a refund?",
    ],
)
def test_no_promise(sentence: str) -> None:
    assert promises([sentence]) == [False]


def test_precision_on_real_sentences() -> None:
    lines = [line.split("\t", 2) for line in (DATA / "retail_read.tsv").read_text().splitlines() if not line.startswith("#")]
    said = promises([text for _, _, text in lines])
    true = [label == "1" for _, label, _ in lines]
    flagged = [t for s, t in zip(said, true, strict=True) if s]
    passed = [t for s, t in zip(said, true, strict=True) if not s]
    assert sum(flagged) / len(flagged) >= 0.75
    assert sum(passed) / len(passed) <= 0.1


@pytest.fixture(scope="module")
def refitted() -> SentenceClassifier:
    return fitting.fit()


def test_fitting_again_gives_the_shipped_file(refitted: SentenceClassifier) -> None:
    assert_same_fit(refitted.to_json(), shipped_path().read_bytes())


def test_how_well_it_does_is_measured_on_what_was_left_out(refitted: SentenceClassifier) -> None:
    left_out = refitted.facts["template_left_out"]["commitment"]
    assert min(left_out.values()) >= 0.88
    assert min(refitted.facts["trade_left_out"]["commitment"].values()) >= 0.8
    # Without whole families it does worse; a figure that hid it would be of the training sentences.
    assert refitted.facts["family_left_out"]["commitment"]["precision"] < left_out["precision"]


def test_classes_see_through_words_never_met() -> None:
    both = features(pl.Series(["A credit will arrive on your account", "A little something will land in your wallet"])).table
    shared = both.filter(pl.col("feature").str.starts_with("c:")).group_by("feature").len().filter(pl.col("len") == 2)
    assert "c:CREDIT WILL ARRIVE" in shared["feature"].to_list()


def test_nothing_to_promise_stays_below_the_border() -> None:
    assert shipped().probabilities(pl.Series(["It will rain tomorrow", "", "Hello"], dtype=pl.String)).max() < BORDER


def test_five_desks_held_apart() -> None:
    """Written after the classifier was finished, in trades it had not read: 91 of 105 at 11 false among 167 at first sight."""
    assert len(PROMISES) >= 100
    assert len(NO_PROMISES) >= 150
    trained = {plain(text) for text in fitting.training_sentences().texts}
    assert not [text for text in (*PROMISES, *NO_PROMISES) if plain(text) in trained]
    found, false = sum(promises(PROMISES)), sum(promises(NO_PROMISES))
    recall = wilson(found, len(PROMISES), 0.95)
    assert recall.estimate >= 0.84
    assert recall.low > 0.75
    assert found / (found + false) >= 0.86
    naive = sum(NAIVE.search(text) is not None for text in PROMISES)
    assert naive / len(PROMISES) < 0.5


def test_no_sentence_at_all() -> None:
    assert shipped().probabilities(pl.Series([], dtype=pl.String)).shape == (0, 2)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"weights": {"w:a": 1}, "bias": {}, "facts": {}}'])
def test_a_broken_file_is_named(data: bytes) -> None:
    with pytest.raises(InputDataError, match=r"weights\.json.*Fit them again"):
        SentenceClassifier.load(data, source="weights.json")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("Hello.", "line 1: a sentence before"), ("[promise x]\n", "line 1: unknown label"), ("[none x]\n{name}", "line 2: no list")],
)
def test_a_wrong_training_line_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InputDataError, match=re.escape(complaint)):
        fitting.training_sentences(text)
