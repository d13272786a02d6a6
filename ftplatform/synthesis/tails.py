"""The tails of real inputs that a teacher's first idea of a user leaves out: several requests at once, typos, very short, very long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from ftplatform.statistics.intervals import clustered_mean, wilson
from ftplatform.synthesis.samples import Sample
from ftplatform.synthesis.surface_features import repeated_words, words_of
from ftplatform.synthesis.words import COMMON_WORDS

#: What each tail is, in the order of the columns of `tail_flags`.
TAILS: dict[str, str] = {
    "multi_intent": "adds a second request to the first (also, and, plus, btw)",
    "typo": "holds a word one slip away from a known one",
    "short": "at most as long as the shortest 5 % of real inputs",
    "long": "at least as long as the longest 5 % of real inputs",
}
#: A tail is lost if the candidate surely has less than this part of it.
KEPT = 0.5

#: A request begins with a question word, an auxiliary with its subject, or a wish.
REQUEST = (
    r"(?:(?:can|could|would|will|do|does|did|is|are|was|were|am|has|have|should|may)\s+(?:i|u|you|we|my|the|it|this|that|there|your|they)"
    r"|(?:i|we)(?:'d|\s+would)?\s+(?:need|want|like|wanna|have\s+to)|how|what|wh?ats|where|wheres|why|when|which|who)\b"
)
# A second one is added to the first; two questions in a row alone are mostly the same request asked twice.
_ADDED = rf"(?i)\S.{{8,}}?(?:\b(?:also|and|plus|btw|by the way|another thing|n)\b|&)[\s,.]*(?:also\s+)?{REQUEST}"
# Word endings; a word that only differs from a known one by its ending is no typo.
_ENDINGS = ("s", "es", "d", "ed", "ing", "er", "ers", "ly", "y", "r", "n", "t")
_LEAST_LETTERS = 4


@dataclass(frozen=True, slots=True)
class Tail:
    """Share of user turns in one tail on both sides, one-sided bounds, and whether the candidate has lost it."""

    tail: str
    meaning: str
    reference: float
    candidate: float
    reference_low: float
    candidate_high: float
    lost: bool

    def to_record(self) -> dict[str, Any]:
        """A flat mapping."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def tail_flags(texts: pl.Series, typos: Collection[str], lengths: tuple[float, float]) -> pl.DataFrame:
    """Whether each text lies in each tail: booleans, shape (n, 4), columns as in `TAILS`.

    Args:
        typos: misspelled words, from `misspelled`.
        lengths: words of the shortest and longest 5 % of real inputs.
    """
    words = words_of(texts)
    count = words.list.len()
    frame = pl.DataFrame({"text": texts, "words": words, "count": count})
    return frame.select(
        multi_intent=pl.col("text").str.contains(_ADDED),
        typo=pl.col("words").list.eval(pl.element().is_in(pl.Series(sorted(typos), dtype=pl.String).implode())).list.any(),
        short=pl.col("count") <= lengths[0],
        long=pl.col("count") >= lengths[1],
    )


def misspelled(*samples: pl.Series) -> frozenset[str]:
    """Words that are neither everyday English nor repeated in the samples, and one slip away from a word that is.

    A slip is a letter too many, too few, wrong, or two letters exchanged, but not the first one, where slips are rare (E. J.
    Yannakoudakis and D. Fawthrop, Inf. Process. Manag. 19 (1983) 87); found by comparing each word with one letter left out (W.
    Garbe's symmetric deletes). An estimate for comparing two samples, not a spelling check: rare words near a common one count too.
    """
    known = COMMON_WORDS | repeated_words(*samples)
    distinct = pl.concat([words_of(sample) for sample in samples]).explode(empty_as_null=False).unique().drop_nulls()
    letters = distinct.filter(distinct.str.contains(rf"^[a-z]{{{_LEAST_LETTERS},20}}$")).to_list()
    index = {form for word in known if len(word) >= _LEAST_LETTERS for form in _deletes(word)}
    return frozenset(word for word in letters if word not in known and not _inflected(word, known) and _deletes(word) & index)


def compare_tails(candidate: Sample, reference: Sample, *, confidence: float) -> list[Tail]:
    """The four tails on both sides; the bounds hold together at `confidence` (Bonferroni)."""
    typos = misspelled(candidate.texts, reference.texts)
    count = words_of(reference.texts).list.len()
    lengths = float(count.quantile(0.05, "lower") or 0), float(count.quantile(0.95, "higher") or 0)
    ours, theirs = (tail_flags(sample.texts, typos, lengths) for sample in (candidate, reference))
    level = 1 - (1 - confidence) / (2 * len(TAILS))
    tails = []
    for name, meaning in TAILS.items():
        high, low = _upper(ours[name], candidate.units, level), _lower(theirs[name], reference.units, level)
        rates = float(theirs[name].mean() or 0), float(ours[name].mean() or 0)  # pyright: ignore[reportArgumentType]
        tails.append(Tail(name, meaning, *rates, low, high, lost=high < KEPT * low))
    return tails


def _upper(flags: pl.Series, units: pl.Series, confidence: float) -> float:
    clustered = clustered_mean(flags.cast(pl.Float64), units.to_list(), confidence, alternative="upper").high
    # Without a single case the clusters show no spread; the binomial bound still knows the sample's size.
    return min(1.0, max(clustered, wilson(int(flags.sum()), len(flags), confidence, alternative="upper").high))


def _lower(flags: pl.Series, units: pl.Series, confidence: float) -> float:
    clustered = clustered_mean(flags.cast(pl.Float64), units.to_list(), confidence, alternative="lower").low
    return max(0.0, min(clustered, wilson(int(flags.sum()), len(flags), confidence, alternative="lower").low))


def _deletes(word: str) -> set[str]:
    return {word, *(word[:i] + word[i + 1 :] for i in range(1, len(word)))}


def _inflected(word: str, known: frozenset[str]) -> bool:
    """Whether the word is a known one with an ending, or a known one is the word with an ending (e dropped or y changed included)."""
    stems = [word.removesuffix(end) for end in _ENDINGS if word.endswith(end)]
    forms = [f"{stem}{tail}" for stem in (*stems, word) for tail in ("", "e", "y", *_ENDINGS)]
    forms += [f"{stem[:-1]}y" for stem in stems if stem.endswith("i")]
    forms += [stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2]]
    return any(form in known for form in forms)
