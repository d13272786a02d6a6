"""A small model beside the lexicon: does a text talk about an answer, or is it one?

A logistic regression over words, what words do (`comment_words.yaml`) and how the text is built: to whom it speaks, how it begins and
ends, how long it is, which cues of the lexicon it shows. The weights ship as JSON, one number for each feature by its name;
`comment_fitting` makes them again. English only.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

from ftplatform.errors import InputDataError
from ftplatform.feedback.meta_language import cues

FILE = "comment_model.json"
#: Probability from which a text is taken for a comment. High: a true target that is taken for a comment costs a person's time.
BORDER = 0.75
#: Texts looked at at once: each has a hundred features and more, and a million texts of them would take twenty gigabytes.
BATCH_TEXTS = 8_192
#: Words of a text that are read; comments are short.
READ = 60

_TOKEN = r"[\p{L}\p{N}][\p{L}\p{N}'-]*|[?!]"
_LENGTHS = (1, 3, 6, 12, 25)


@functools.cache
def _classes() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Class of each whole word, and of words by how they begin."""
    whole: dict[str, str] = {}
    beginnings: list[tuple[str, str]] = []
    for name, entries in yaml.safe_load((files("ftplatform.feedback") / "comment_words.yaml").read_text(encoding="utf-8")).items():
        for entry in entries:
            if entry.endswith("$"):
                whole.setdefault(entry[:-1], name)
            else:
                beginnings.append((entry, name))
    return whole, beginnings


def _class(word: str) -> str | None:
    whole, beginnings = _classes()
    return whole.get(word) or next((name for start, name in beginnings if word.startswith(start)), None)


def features(texts: pl.Series) -> pl.DataFrame:
    """`text` (UInt32, position) and `feature` (String), each pair once.

    Args:
        texts: `meta_language.normalized`.
    """
    frame = pl.DataFrame({"clean": texts}).with_row_index("text")
    token = pl.col("clean").str.extract_all(_TOKEN).list.head(READ).alias("word")
    words = frame.select("text", token).explode("word", empty_as_null=False)
    met = words.select("word").unique().with_columns(role=pl.col("word").map_elements(_class, return_dtype=pl.String))
    words = words.join(met, on="word", how="left", maintain_order="left")
    roles = words.filter(pl.col("role").is_not_null()).select("text", item="role")
    spoken = words.select("text", item="word")
    mixed = words.select("text", item=pl.coalesce("role", "word"))
    first = mixed.group_by("text", maintain_order=True).agg(pl.col("item").head(2))
    parts = [
        _runs(spoken, "w", 2),
        _runs(roles, "c", 3),
        _runs(mixed, "m", 2),
        first.select("text", feature=pl.lit("b:") + pl.col("item").list.first()),
        first.select("text", feature=pl.lit("b:") + pl.col("item").list.join(" ")),
        *_built(frame),
    ]
    return pl.concat(parts).unique(maintain_order=True)


def _runs(items: pl.DataFrame, prefix: str, longest: int) -> pl.DataFrame:
    """Runs of 1 to `longest` neighbors in a text, as ``prefix:a b``."""
    run, parts = pl.col("item"), [items.select("text", feature=pl.lit(f"{prefix}:") + pl.col("item"))]
    for ahead in range(1, longest):
        run = run + " " + pl.col("item").shift(-ahead)
        same = pl.col("text").shift(-ahead) == pl.col("text")
        parts.append(items.select("text", feature=pl.when(same).then(pl.lit(f"{prefix}:") + run)).drop_nulls())
    return pl.concat(parts)


def _built(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """How a text is built, and the cues of the lexicon."""
    clean = pl.col("clean")
    length = clean.str.count_matches(r"\S+").cut(list(_LENGTHS)).cast(pl.String)
    shown = {
        "s:open end": ~clean.str.contains(r"[.!?]\W*$"),
        "s:question": clean.str.contains(r"\?\W*$"),
        "s:nobody addressed": ~clean.str.contains(r"\byou|\bplease\b|\bthank"),
        "s:number": clean.str.contains(r"\d"),
        "s:quotes": clean.str.contains(r"[\"“”]|(?:^|\s)'"),
        "s:several sentences": clean.str.contains(r"[.!?] \S"),
    }
    shown |= {f"l:{cue.name}": clean.str.contains(cue.pattern) for cue in cues()}
    return [
        frame.select("text", feature=pl.lit("s:length ") + length),
        *(frame.filter(condition).select("text", feature=pl.lit(name)) for name, condition in shown.items()),
    ]


@dataclass(frozen=True)
class CommentModel:
    """Fitted weights.

    Attributes:
        weights: frame `feature` (String), `weight` (Float64).
        bias: intercept.
        facts: how it was fitted and how well it does, for people.
    """

    weights: pl.DataFrame
    bias: float
    facts: Mapping[str, Any]

    def probabilities(self, texts: pl.Series) -> NDArray[np.float64]:
        """Probability that each text is a comment, shape (n,).

        Args:
            texts: `meta_language.normalized`.
        """
        scores = np.full(len(texts), self.bias)
        for start in range(0, len(texts), BATCH_TEXTS):
            found = features(texts.slice(start, BATCH_TEXTS)).join(self.weights, on="feature", how="inner")
            summed = found.group_by("text").agg(pl.col("weight").sum())
            scores[start + summed["text"].to_numpy()] += summed["weight"].to_numpy()
        return 0.5 * (1 + np.tanh(0.5 * scores))

    def to_json(self) -> bytes:
        """The file, with a feature on each line."""
        lines = [f"{json.dumps(name)}: {weight:g}" for name, weight in self.weights.sort("feature").iter_rows()]
        head = json.dumps({"facts": dict(self.facts), "bias": self.bias}, indent=1)[:-2]
        return (head + ',\n "weights": {\n' + ",\n".join(lines) + "\n}}\n").encode()

    @classmethod
    def load(cls, data: bytes, *, source: str) -> CommentModel:
        """Reads what `to_json` wrote.

        Raises:
            InputDataError: if `data` is something else.
        """
        try:
            document = json.loads(data)
            weights = pl.DataFrame(
                {"feature": list(document["weights"]), "weight": list(document["weights"].values())},
                schema={"feature": pl.String, "weight": pl.Float64},
            )
            return cls(weights, float(document["bias"]), document["facts"])
        except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
            reason = str(error).partition("\n")[0]
            raise InputDataError(
                f"{source} does not hold the weights of the comment model: {reason}.",
                remedy="Fit them again: python -m ftplatform.feedback.comment_fitting.",
            ) from None


@functools.cache
def shipped() -> CommentModel:
    """The weights of this package."""
    return CommentModel.load((files("ftplatform.feedback") / FILE).read_bytes(), source=FILE)
