"""Which near-duplicates must not be merged because their final answers differ: "approve" and "deny" for the same request."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.dedup.tokens import Tokens, tokenize
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.kernels.similarity import jaccard

#: Answers shorter than this are compared word for word: in "No." or "approved" every word is the answer.
MIN_WORDS = 8

#: One of these more or less turns an answer around. "t" is what is left of "n't".
_POLARITY = frozenset(
    [
        *("no", "not", "never", "none", "nor", "neither", "without", "cannot", "t", "cant", "dont", "wont", "isnt"),
        *(
            "yes",
            "only",
            "unless",
            "except",
            "able",
            "unable",
            "possible",
            "impossible",
            "valid",
            "invalid",
            "eligible",
            "ineligible",
        ),
        *("approve", "approves", "approved", "approval", "accept", "accepted", "allow", "allowed", "grant", "granted"),
        *("deny", "denies", "denied", "denial", "decline", "declined", "reject", "rejected", "refuse", "refused", "disallowed"),
        *("include", "included", "exclude", "excluded", "refundable", "nonrefundable", "success", "successful", "unsuccessful"),
        *("eligible", "ineligible"),
        *(
            "eligible",
            "ineligible",
            "failed",
            "increase",
            "increased",
            "decrease",
            "decreased",
            "enable",
            "enabled",
            "disable",
            "disabled",
        ),
    ]
)
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Targets:
    """What is compared of every row's inputs and final answer; hashes are 64-bit, all have shape (n,)."""

    inputs: NDArray[np.uint64]
    input_numbers: NDArray[np.uint64]
    answers: NDArray[np.uint64]
    answer_skeletons: NDArray[np.uint64]
    answer_numbers: NDArray[np.uint64]
    answer_polarity: NDArray[np.uint64]
    answer_words: NDArray[np.int64]
    answer_texts: pl.Series

    def take(self, index: NDArray[np.int64]) -> Targets:
        """The same of the rows at these positions."""
        return Targets(
            self.inputs[index],
            self.input_numbers[index],
            self.answers[index],
            self.answer_skeletons[index],
            self.answer_numbers[index],
            self.answer_polarity[index],
            self.answer_words[index],
            self.answer_texts.gather(index),
        )


def targets(inputs: pl.Series, answers: pl.Series) -> Targets:
    """Precomputed parts of `compatible` for texts of inputs and final answers."""
    asked, answered = tokenize(inputs), tokenize(answers)
    return Targets(
        inputs=asked.sequence_hashes(),
        input_numbers=asked.bag_hashes(_has_digit(asked)),
        answers=answered.sequence_hashes(),
        answer_skeletons=answered.sequence_hashes(_skeleton_hashes(answered)),
        answer_numbers=answered.bag_hashes(_has_digit(answered)),
        answer_polarity=answered.bag_hashes(np.array([word in _POLARITY for word in answered.vocabulary], bool)),
        answer_words=answered.counts,
        answer_texts=answers,
    )


def compatible(of: Targets, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Whether one row of each near-duplicate pair may stand for the other. Shape (pairs,).

    Yes if the final answers are the same words. If the inputs are the same words and the answers are not: no, always. Otherwise
    (inputs alike but not the same) yes if the answers differ only in numbers and so do the inputs (order numbers), or if both
    answers have at least `MIN_WORDS` words, are near-duplicates themselves at `threshold`, agree in negations and verdict words,
    and differ in numbers only where the inputs do.
    """
    same_answer = of.answers[left] == of.answers[right]
    same_inputs = of.inputs[left] == of.inputs[right]
    other_numbers = of.input_numbers[left] != of.input_numbers[right]
    numbers_agree = (of.answer_numbers[left] == of.answer_numbers[right]) | other_numbers
    filled_in = other_numbers & (of.answer_skeletons[left] == of.answer_skeletons[right])
    long = np.minimum(of.answer_words[left], of.answer_words[right]) >= MIN_WORDS
    reworded = long & (of.answer_polarity[left] == of.answer_polarity[right]) & numbers_agree
    merged = same_answer | (~same_inputs & filled_in)
    doubtful = np.flatnonzero(~merged & ~same_inputs & reworded)
    merged[doubtful] = _similarity(of, left[doubtful], right[doubtful]) >= threshold
    return merged


def _similarity(of: Targets, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    # Shingles only of the few rows in question.
    rows, position = np.unique(np.concatenate([left, right]), return_inverse=True)
    sets = shingle_sets(of.answer_texts.gather(rows))
    return jaccard(sets, position[: len(left)], sets, position[len(left) :])


def _has_digit(words: Tokens) -> NDArray[np.bool_]:
    return np.array([_DIGITS.search(word) is not None for word in words.vocabulary], bool)


def _skeleton_hashes(words: Tokens) -> NDArray[np.uint64]:
    hashes = words.vocabulary_hashes.copy()
    hashes[_has_digit(words)] = 0
    return hashes
