"""Scoring task answers against references, a column at a time.

Normalization removes what people vary freely (case, punctuation, articles, spacing, Unicode forms) and keeps what changes a value:
signs, decimal points, times, currency and percent. SQuAD's normalization (Rajpurkar et al. 2016) strips all punctuation, so that
"42.10" and "4,210" become the same answer.

Regular expressions are those of Rust's `regex`: linear time whatever the pattern, hence without look-around and back-references.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import orjson
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
    ROUGE_L = "rouge_l"
    """Harmonic mean of precision and recall of the longest common subsequence of words (Lin 2004, sentence level, no stemming)."""
    NUMERIC_MATCH = "numeric_match"
    """1 if the last number of the answer equals the last number of the reference; 0 for an answer without a number."""
    REGEX = "regex"
    """1 if the reference, a regular expression, matches somewhere in the answer as it is (`(?i)` ignores case)."""
    JSON_VALID = "json_valid"
    """1 if the answer is one JSON value, a Markdown fence around it allowed. Needs no reference."""

    @property
    def needs_reference(self) -> bool:
        """Whether an item without a reference cannot be scored."""
        return self is not Metric.JSON_VALID


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
        ValueError: on unequal lengths, a null text, an unknown metric, or a reference the metric cannot use (see `unusable`).
    """
    metric = Metric(metric)
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers and {len(references)} references; give one for each item")
    frame = pl.DataFrame({"answer": _texts(answers), "reference": _texts(references)})
    if frame.null_count().sum_horizontal().item():
        raise ValueError("answers and references must not be null; leave unanswered items out or give an empty text")
    if problem := unusable(frame["reference"].to_list(), metric):
        raise ValueError(f"reference {problem[0]}: {problem[1]}")
    return _SCORERS[metric](frame).cast(pl.Float64).to_arrow().cast(pa.float64())


def unusable(references: Sequence[str], metric: Metric) -> tuple[int, str] | None:
    """The first reference that `metric` cannot score against, as (position, reason); None if there is none."""
    column = pl.Series(references, dtype=pl.String)
    if metric is Metric.NUMERIC_MATCH:
        missing = pl.select(_last_number(pl.lit(column)).is_null()).to_series().arg_true()
        return (int(missing[0]), "it holds no number") if len(missing) else None
    if metric is Metric.REGEX:
        empty = pl.DataFrame({"pattern": column})
        compiled = empty.select(pl.lit("").str.contains(pl.col("pattern"), strict=False)).to_series()
        broken = compiled.is_null().arg_true()
        return (int(broken[0]), "it is no regular expression of the supported kind") if len(broken) else None
    return None


def _normal(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(normalized(pl.col("answer")), normalized(pl.col("reference")))


def _exact_match(frame: pl.DataFrame) -> pl.Series:
    return _normal(frame).select(pl.col("answer") == pl.col("reference")).to_series()


def _contains(frame: pl.DataFrame) -> pl.Series:
    padded = pl.concat_str(pl.lit(" "), "answer", pl.lit(" ")).str.contains(
        pl.concat_str(pl.lit(" "), "reference", pl.lit(" ")), literal=True
    )
    empty = pl.col("reference") == ""
    return _normal(frame).select(pl.when(empty).then(pl.col("answer") == "").otherwise(padded)).to_series()


def _regex(frame: pl.DataFrame) -> pl.Series:
    return frame.select(pl.col("answer").str.contains(pl.col("reference"))).to_series()


def _json_valid(frame: pl.DataFrame) -> pl.Series:
    return frame["answer"].map_elements(is_json, return_dtype=pl.Boolean)


def is_json(text: str) -> bool:
    """Whether a text is one JSON value, a Markdown fence around it allowed."""
    try:
        orjson.loads(unfenced(text))
    except orjson.JSONDecodeError:
        return False
    return True


def unfenced(text: str) -> str:
    """A text without the Markdown fence that chat models like to put around JSON."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```") and len(bare) >= 6:
        bare = bare[3:-3].removeprefix("json").strip()
    return bare


def _last_number(text: pl.Expr) -> pl.Expr:
    # Normalized first, so that 1,234.50 and a typographic minus are read as numbers and the dash of 3-5 is not a sign.
    return normalized(text).str.extract_all(r"-?[0-9]+(?:\.[0-9]+)?").list.last().cast(pl.Float64)


def _numeric_match(frame: pl.DataFrame) -> pl.Series:
    numbers = frame.select(_last_number(pl.col("answer")), _last_number(pl.col("reference")))
    near = (pl.col("answer") - pl.col("reference")).abs() <= 1e-9 * pl.max_horizontal(pl.lit(1.0), pl.col("reference").abs())
    return numbers.select(near.fill_null(False)).to_series()


def _rouge_l(frame: pl.DataFrame) -> pl.Series:
    words = _normal(frame).select(pl.col("answer", "reference").str.extract_all(r"\S+"))
    return pl.Series([_lcs_f1(a, b) for a, b in words.iter_rows()], dtype=pl.Float64)


def _lcs_f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    # Bit-parallel (Hyyro 2004): one addition of integers of len(reference) bits for each word of the answer.
    places: dict[str, int] = {}
    for i, word in enumerate(reference):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(reference)) - 1
    row = full
    for word in answer:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return 2 * (len(reference) - row.bit_count()) / (len(answer) + len(reference))


def _texts(values: pa.ChunkedArray | pa.Array | list[str]) -> pl.Series:
    return pl.Series(values, dtype=pl.String) if isinstance(values, list) else pl.Series(pl.from_arrow(values)).cast(pl.String)


def _token_f1(frame: pl.DataFrame) -> pl.Series:
    numbered = _normal(frame).with_row_index("row").with_columns(pl.col("answer", "reference").str.split(" "))

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
    return totals.select(pl.when(size == 0).then(1.0).otherwise(2 * pl.col("shared") / size)).to_series()


_SCORERS: dict[Metric, Callable[[pl.DataFrame], pl.Series]] = {
    Metric.EXACT_MATCH: _exact_match,
    Metric.CONTAINS: _contains,
    Metric.TOKEN_F1: _token_f1,
    Metric.ROUGE_L: _rouge_l,
    Metric.NUMERIC_MATCH: _numeric_match,
    Metric.REGEX: _regex,
    Metric.JSON_VALID: _json_valid,
}
