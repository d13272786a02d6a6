"""Signals besides similarity: do two texts name the same numbers, were they given the same answer?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.contamination.paraphrase.texts import is_number, words

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class NumberWeights:
    """How telling each number is: minus the log of the share of texts that hold it.

    Attributes:
        weights: frame (number, weight).
        unseen: weight of a number that was in no text.
    """

    weights: pl.DataFrame
    unseen: float

    @classmethod
    def fit(cls, items: pl.Series, background: pl.Series) -> NumberWeights:
        """Learn how common numbers are from `items` and `background` together."""
        texts = len(items) + len(background)
        seen = pl.concat([_numbers(items), _numbers(background)]).group_by("number").agg(n=pl.len())
        return cls(
            seen.select("number", weight=-((1 + pl.col("n")) / (1 + texts)).log()),
            float(np.log(1 + texts)),
        )

    def agreement(self, left: pl.Series, right: pl.Series) -> pl.DataFrame:
        """Weighted Jaccard similarity of the numbers of `left[i]` and `right[i]`.

        Returns:
            Columns agreement (0 to 1; null where neither text has a number), shared (different numbers on both sides), as many
            rows as pairs. Number words count ("twice" is 2), repeats do not.
        """
        a, b = (self._weighted(texts) for texts in (left, right))
        both = a.join(b.select("owner", "number"), on=["owner", "number"])
        frame = pl.DataFrame({"owner": pl.Series(range(len(left)), dtype=pl.Int64)})
        for name, numbers in (("a", a), ("b", b), ("both", both)):
            sums = numbers.group_by("owner").agg(pl.col("weight").sum().alias(name), pl.len().alias(f"n_{name}"))
            frame = frame.join(sums, on="owner", how="left", maintain_order="left")
        filled = frame.fill_null(0)
        union = pl.col("a") + pl.col("b") - pl.col("both")
        return filled.select(
            agreement=pl.when(pl.col("n_a") + pl.col("n_b") > 0).then(
                pl.when(union > 0).then(pl.col("both") / union).otherwise(0.0)
            ),
            shared=pl.col("n_both").cast(pl.Int64),
        )

    def _weighted(self, texts: pl.Series) -> pl.DataFrame:
        joined = _numbers(texts).join(self.weights, on="number", how="left", maintain_order="left")
        return joined.with_columns(pl.col("weight").fill_null(self.unseen))


def has_numbers(texts: pl.Series) -> NDArray[np.bool_]:
    """Whether each text names a number. Shape (n,)."""
    found = np.zeros(len(texts), dtype=bool)
    found[_numbers(texts)["owner"].to_numpy()] = True
    return found


def final_answers(answers: pl.Series) -> pl.Series:
    """What an answer comes to: its last number if it has one, else its words; null where there is no answer.

    Worked solutions of one exercise differ in words and end in the same number.
    """
    return answers.map_elements(_final, return_dtype=pl.String)


def numeric_answers(finals: pl.Expr) -> pl.Expr:
    """Which of `final_answers` are numbers. Two different ones contradict each other; two different sentences need not."""
    return finals.str.contains(r"^-?\d+(?:\.\d+)?$")


def _final(answer: str) -> str:
    numbers = _NUMBER.findall(answer)
    if numbers:
        plain = numbers[-1].replace(",", "")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return " ".join(re.findall(r"\w+", answer.lower()))


def _numbers(texts: pl.Series) -> pl.DataFrame:
    """The different numbers of each text: owner, number."""
    said = words(texts)
    numeric = np.array([is_number(word) for word in said.vocabulary], dtype=bool)
    kept = numeric[said.codes] if len(said.codes) else np.zeros(0, dtype=bool)
    vocabulary = pl.Series(said.vocabulary, dtype=pl.String)
    return pl.DataFrame({"owner": said.owners[kept], "number": vocabulary[said.codes[kept]]}).unique(maintain_order=True)
