"""Scoring task answers against references, a column at a time.

Normalization removes what people vary freely (case, punctuation, articles, spacing, Unicode forms) and keeps what changes a value:
signs, decimal points, times, currency and percent. SQuAD's normalization (Rajpurkar et al. 2016) strips all punctuation, so that
"42.10" and "4,210" become the same answer.
"""

from __future__ import annotations

from enum import StrEnum

import polars as pl
import pyarrow as pa


class Metric(StrEnum):
    """How an answer is scored; each is in [0, 1]."""

    EXACT_MATCH = "exact_match"
    """1 if the normalized texts are equal."""
    CONTAINS = "contains"
    """1 if the normalized reference occurs in the normalized answer on word boundaries."""
    TOKEN_F1 = "token_f1"
    """Harmonic mean of word precision and recall, counting repeated words."""


# Private-use characters that carry the meaningful marks through the removal of punctuation.
_POINT, _COLON, _MINUS, _KEPT_SYMBOLS = "\ue000", "\ue001", "\ue002", r"[\p{Sc}%]"


def normalized(text: pl.Expr) -> pl.Expr:
    """Polars expression of the normal form: tokens separated by one space."""
    return (
        text.str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all("[’']", "")
        .str.replace_all(r"(\d),(\d{3})\b", "${1}${2}")
        .str.replace_all(r"(\d),(\d{3})\b", "${1}${2}")
        .str.replace_all(r"(\d)\.(\d)", "${1}" + _POINT + "${2}")
        .str.replace_all(r"(\d)\.(\d)", "${1}" + _POINT + "${2}")
        .str.replace_all(r"(\d):(\d)", "${1}" + _COLON + "${2}")
        .str.replace_all(r"(\d):(\d)", "${1}" + _COLON + "${2}")
        .str.replace_all(r"(^|\s)[-−](\p{Sc})(\d)", "${1}${2}-${3}")
        .str.replace_all(r"(^|\s|\p{Sc})[-−](\d)", "${1}" + _MINUS + "${2}")
        .str.replace_all("(" + _KEPT_SYMBOLS + ")", " ${1} ")
        .str.replace_all(r"[^\p{L}\p{M}\p{N}\p{Sc}%\s" + _POINT + _COLON + _MINUS + "]", " ")
        .str.replace_all(_POINT, ".", literal=True)
        .str.replace_all(_COLON, ":", literal=True)
        .str.replace_all(_MINUS, "-", literal=True)
        .str.replace_all(r"\b(?:a|an|the)\b", " ")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )


def score(
    answers: pa.ChunkedArray | pa.Array | list[str], references: pa.ChunkedArray | pa.Array | list[str], metric: Metric | str
) -> pa.Array:
    """Scores of `answers` against `references`, one float64 in [0, 1] each.

    Args:
        answers, references: n texts, none null.
        metric: see `Metric`.

    Returns:
        float64 array of length n. A reference that normalizes to nothing is matched only by an answer that does.

    Raises:
        ValueError: on unequal lengths, a null text or an unknown metric.
    """
    metric = Metric(metric)
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers and {len(references)} references; give one for each item")
    frame = pl.DataFrame({"answer": _texts(answers), "reference": _texts(references)})
    if frame.null_count().sum_horizontal().item():
        raise ValueError("answers and references must not be null; leave unanswered items out or give an empty text")
    frame = frame.select(normalized(pl.col("answer")), normalized(pl.col("reference")))
    if metric is Metric.EXACT_MATCH:
        scores = frame.select((pl.col("answer") == pl.col("reference")).cast(pl.Float64).alias("score"))
    elif metric is Metric.CONTAINS:
        padded = pl.concat_str(pl.lit(" "), "answer", pl.lit(" ")).str.contains(
            pl.concat_str(pl.lit(" "), "reference", pl.lit(" ")), literal=True
        )
        empty = pl.col("reference") == ""
        scores = frame.select(pl.when(empty).then(pl.col("answer") == "").otherwise(padded).cast(pl.Float64).alias("score"))
    else:
        scores = _token_f1(frame)
    return scores["score"].to_arrow().cast(pa.float64())


def _texts(values: pa.ChunkedArray | pa.Array | list[str]) -> pl.Series:
    return pl.Series(values, dtype=pl.String) if isinstance(values, list) else pl.Series(pl.from_arrow(values)).cast(pl.String)


def _token_f1(frame: pl.DataFrame) -> pl.DataFrame:
    numbered = frame.with_row_index("row").with_columns(pl.col("answer", "reference").str.split(" "))

    def counts(column: str) -> pl.DataFrame:
        words = numbered.select("row", pl.col(column).alias("word")).explode("word").filter(pl.col("word") != "")
        return words.group_by("row", "word").agg(pl.len().alias(column))

    answer, reference = counts("answer"), counts("reference")
    shared = (
        answer.join(reference, on=["row", "word"])
        .group_by("row")
        .agg(pl.min_horizontal("answer", "reference").sum().alias("shared"))
    )
    totals = (
        numbered.select("row")
        .join(shared, on="row", how="left")
        .join(answer.group_by("row").agg(pl.col("answer").sum()), on="row", how="left")
        .join(reference.group_by("row").agg(pl.col("reference").sum()), on="row", how="left")
        .with_columns(pl.col("shared", "answer", "reference").fill_null(0))
        .sort("row")
    )
    # 2PR/(P+R) = 2 shared / (answer words + reference words); two empty texts are equal.
    size = pl.col("answer") + pl.col("reference")
    return totals.select(pl.when(size == 0).then(1.0).otherwise(2 * pl.col("shared") / size).alias("score"))
