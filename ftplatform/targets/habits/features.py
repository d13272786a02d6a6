"""What the classifier sees of a sentence: words, pairs of words, runs of up to three word classes. All by column, no loop.

A feature is present or not. Runs of classes skip words without a class, so "a little something will soon land in your wallet" gives
``c:CREDIT WILL ARRIVE`` whatever stands between; runs of classes and words together (``m:``) keep what does. Negations, conditions,
quotes and the like reach far: each also forms a pair with every class after it (``g:NOT>CREDIT``). How a sentence begins says who acts
(``b:``), and the first letters of a word join what its stem keeps apart (``x:``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.targets.habits.lexicon import CLAIMED, DONE, PHRASES, STEMS, THINGS, WORDS, stem

#: Characters of a sentence that are read.
READ = 600
#: Letters of a prefix.
PREFIX = 4

#: Classes that change what comes after them, however far.
_GUARDS = ("NOT", "IF", "SAID", "POLICY", "PAY", "LOOK", "CAN", "I", "WILL", "THIRD")

_PLAIN = {"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "\u00a0": " "}
# Contractions, as (pattern, replacement), applied in this order to lower-case text.
_WRITTEN_OUT = (
    (r"\b(ca)n['’]?t\b", "cannot"),
    (r"\bwon't\b", "will not"),
    (r"\b(\w+)n't\b", "${1} not"),
    (r"\b(\w+)'ll\b", "${1} will"),
    (r"\b(\w+)'ve\b", "${1} have"),
    (r"\b(\w+)'re\b", "${1} are"),
    (r"\b(\w+)'m\b", "${1} am"),
    (r"\b(\w+)'d\b", "${1} would"),
    (r"\b(it|that|there|here|what|who|he|she|everything|one)'s\b", "${1} is"),
    (r"'s\b", ""),
    (r"[$€£¥]\s?\d[\d.,]*\d|[$€£¥]\s?\d|\b\d[\d.,]*\s?(?:dollars?|usd|euros?|eur|pounds?|gbp|bucks|quid|€|\$|£)", " amount_ "),
    (r"\b\d+(?:[.,]\d{2})\b", " amount_ "),
    (r"\b\d[\d.,]*\s?(?:%|percent\b)", " percent "),
    (r"\d+(?:st|nd|rd|th)?", " number_ "),
)
_TOKEN = r"[a-z_]+|[?\"]"


def normalize(text: pl.Expr) -> pl.Expr:
    """Lower case, plain quotes, contractions written out, sums of money and numbers replaced by ``amount_`` and ``number_``."""
    text = text.str.slice(0, READ).str.replace_many(list(_PLAIN), list(_PLAIN.values())).str.to_lowercase()
    for pattern, written in _WRITTEN_OUT:
        text = text.str.replace_all(pattern, written)
    return text


@dataclass(frozen=True)
class Features:
    """Attributes:
    table: `sentence` (UInt32, position) and `feature` (String), each pair once.
    can_claim: whether the sentence holds what a claim needs at least; shape (n,).
    """

    table: pl.DataFrame
    can_claim: NDArray[np.bool_]


def features(texts: pl.Series) -> Features:
    """Features of n sentences."""
    tokens = _tokens(texts)
    words = _runs(tokens.select("sentence", item="stem"), "w", 2)
    classed = tokens.filter(pl.col("class").is_not_null()).select("sentence", item="class")
    mixed = _runs(tokens.select("sentence", item=pl.coalesce("class", "stem")), "m", 3)
    prefixes = tokens.filter(pl.col("stem").str.len_chars() > PREFIX)
    starts = prefixes.select("sentence", feature=pl.lit("x:") + pl.col("stem").str.slice(0, PREFIX))
    parts = [words, _runs(classed, "c", 3), mixed, _guarded(classed), _opening(tokens), starts]
    table = pl.concat(parts).unique(maintain_order=True)

    def holds(names: frozenset[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(texts), dtype=bool)
        found[classed.filter(pl.col("item").is_in(names))["sentence"].to_numpy()] = True
        return found

    return Features(table, holds(CLAIMED) | (holds(THINGS) & holds(DONE)))


def _tokens(texts: pl.Series) -> pl.DataFrame:
    """`sentence`, `token`, `stem`, `class` (null without one) in reading order; a phrase is one token.

    The stem is taken once for each different word of the batch.
    """
    # Each token is padded on its own, so that two phrases in a row do not compete for the space between them.
    spaced = texts.to_frame("text").select(
        normalize(pl.col("text")).str.extract_all(_TOKEN).list.eval(" " + pl.element() + " ").list.join("").alias("text")
    )
    written = sorted(PHRASES, key=len, reverse=True)
    found = [f" {phrase.replace(' ', '  ')} " for phrase in written]
    joined = [f" {phrase.replace(' ', '~')} " for phrase in written]
    frame = spaced.select(
        sentence=pl.int_range(pl.len(), dtype=pl.UInt32),
        token=pl.col("text").str.replace_many(found, joined, leftmost=True).str.extract_all(r"[^ ]+"),
    ).explode("token", empty_as_null=False)
    classes = {**WORDS, **{phrase.replace(" ", "~"): name for phrase, name in PHRASES.items()}}
    met = frame.select("token").unique().with_columns(stem=pl.col("token").map_elements(stem, return_dtype=pl.String))
    met = met.with_columns(
        pl.coalesce(
            pl.col("token").replace_strict(classes, default=None, return_dtype=pl.String),
            pl.col("stem").replace_strict(STEMS, default=None, return_dtype=pl.String),
        ).alias("class")
    )
    return frame.join(met, on="token", how="left", maintain_order="left")


def _runs(items: pl.DataFrame, prefix: str, longest: int) -> pl.DataFrame:
    """Runs of 1 to `longest` neighbors in a sentence, as ``prefix:a b c``."""
    parts = [items.select("sentence", feature=pl.lit(f"{prefix}:") + pl.col("item"))]
    run = pl.col("item")
    for ahead in range(1, longest):
        run = run + " " + pl.col("item").shift(-ahead)
        same = pl.col("sentence").shift(-ahead) == pl.col("sentence")
        parts.append(items.select("sentence", feature=pl.when(same).then(pl.lit(f"{prefix}:") + run)).drop_nulls())
    return pl.concat(parts)


def _guarded(classed: pl.DataFrame) -> pl.DataFrame:
    """Each guard with every class after its first appearance in the sentence."""
    placed = classed.with_row_index("place")
    guards = placed.filter(pl.col("item").is_in(_GUARDS)).unique(["sentence", "item"], keep="first", maintain_order=True)
    pairs = guards.join(placed, on="sentence", suffix="_after").filter(pl.col("place_after") > pl.col("place"))
    return pairs.select("sentence", feature=pl.lit("g:") + pl.col("item") + ">" + pl.col("item_after"))


def _opening(tokens: pl.DataFrame) -> pl.DataFrame:
    """The first word, the first two, and the class of the first."""
    first = tokens.group_by("sentence", maintain_order=True).agg(pl.col("stem").head(2), pl.col("class").first())
    opened = pl.col("stem")
    return pl.concat(
        [
            first.select("sentence", feature=pl.lit("b:") + opened.list.first()),
            first.filter(opened.list.len() > 1).select("sentence", feature=pl.lit("b:") + opened.list.join(" ")),
            first.drop_nulls("class").select("sentence", feature=pl.lit("b:") + pl.col("class")),
        ]
    )
