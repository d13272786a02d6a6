"""`condition_style`: bring the surface of synthetic user turns to the measured habits of real users.

Each step closes one gap and stops at the rate of the real inputs: manners, length, first capitals, all-lower case, end punctuation,
shorthand, typing errors. Words are dropped, shortened or misspelled, never invented, and only user turns are touched: an answer that
was right stays right, and the model must not learn to write like that. What the words are about does not change, so gaps of content
(several requests at once, longer stories) remain for a better teacher or for real inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.synthesis.remedies.rows import with_user_turns
from ftplatform.synthesis.remedies.slips import misspell
from ftplatform.synthesis.samples import Rows, sample_turns
from ftplatform.synthesis.surface_features import repeated_words, surface_features, words_of
from ftplatform.synthesis.tails import REQUEST
from ftplatform.synthesis.words import COURTESY_WORDS, TOPICLESS_WORDS

STYLE_VERSION = "1"
#: Real user turns the habits are learned from.
_CAP = 5000
_SHOUTING = 0.8

# Longest first; a frame is cut only where something is left.
_FRAMES = (
    r"(?i)^\s*(?:(?:hello|good (?:morning|afternoon|evening|day)|dear (?:sir(?: or madam)?|team|support))\b[^.!?]{0,40}[.!?,]\s*)",
    r"(?i)\s*[^.!?]*\b(?:thank you|thanks in advance|many thanks|kind regards|i (?:would )?(?:really )?appreciate)\b[^.!?]*[.!?]?\s*$",
    r"(?i)^\s*(?:could|would|can) you (?:please |kindly )?(?:tell me|let me know|explain|help me (?:understand|with))\s+",
    r"(?i)^\s*i (?:would|'d) (?:like|love) to (?:know|ask|inquire about|enquire about)\s+",
    r"(?i)^\s*i (?:am|'m) writing (?:to|because)\s+",
    r"(?i)^\s*i would (?:really )?appreciate it if\s+",
    r"(?i),?\s*\b(?:please|kindly)\b,?(?:\s|$)*",
)
_SHORT = {
    "you": "u", "your": "ur", "are": "r", "please": "pls", "thanks": "thx", "because": "cuz", "account": "acct", "okay": "ok",
    "i'm": "im", "i've": "ive", "don't": "dont", "can't": "cant", "didn't": "didnt", "doesn't": "doesnt", "isn't": "isnt",
    "haven't": "havent", "won't": "wont", "what's": "whats", "where's": "wheres", "that's": "thats", "it's": "its",
}  # fmt: skip
_QUESTION = r"(?i)^\W*(?:how|what|why|when|where|who|which|can|could|do|does|is|are|will|would|did|has|have|may)\b"
_SHORT_PATTERN = r"(?i)\b(" + "|".join(sorted(_SHORT, key=len, reverse=True)) + r")\b"


@dataclass(frozen=True)
class _Habits:
    """Features and lengths of the real inputs, how often their "i" is a capital, and the words nobody counts as misspelled."""

    rates: pl.DataFrame
    words: pl.Series
    capital_i: float
    known: frozenset[str]

    def rate(self, feature: str) -> float:
        return float(self.rates[feature].mean() or 0)  # pyright: ignore[reportArgumentType]


def condition_style(candidate: pa.Table, reference: Rows, seed: int = 0) -> pa.Table:
    """`candidate` with its user turns brought to the surface habits of `reference`.

    Args:
        candidate: rows of `ROW_SCHEMA`. reference: real inputs to learn the habits from; measure the result on others.
        seed: of every choice; equal arguments give equal rows.

    Returns:
        Rows in the same order. Changed rows have an id of their own, the old row among their parents, and `styled` in their metadata.
    """
    said = turns(candidate, Role.USER)
    texts = pl.Series("text", said["content"])
    real = sample_turns(reference, _CAP, seed).texts
    if not len(texts) or not len(real):
        return candidate
    known = repeated_words(texts, real)
    capital_i = _mean(real.filter(real.str.contains(r"(?i)\bi\b")).str.contains(r"\bI\b"))
    habits = _Habits(surface_features(real, known), words_of(real).list.len(), capital_i, known)
    rng = np.random.default_rng(seed)
    for step in _STEPS:
        texts = step(texts, habits, rng)
    return with_user_turns(candidate, texts, {"styled": STYLE_VERSION, "style_seed": seed})


def _unframe(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """Courtesy goes until the share of polite turns is the real one: sentences that say nothing else, then frames around the matter."""
    polite = _feature(texts, habits, "politeness") > 0
    sentences = _sentences(texts).with_columns(words=words_of(pl.col("sentence")))
    courtesy = pl.col("words").list.set_difference(sorted(COURTESY_WORDS | TOPICLESS_WORDS)).list.len() == 0
    plain = _joined(sentences.filter(~courtesy), texts)
    for frame in _FRAMES:
        cut = plain.str.replace_all(frame, " ").str.replace_all(r"\s+", " ").str.strip_chars()
        plain = _where(cut.str.contains(r"\w+\W+\w"), cut, plain)
    return _where(_drop(polite, habits.rate("politeness"), rng), plain, texts)


def _shorten(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """Quantile matching: a turn longer than the real turn of its rank loses sentences from its end, but none that asks for something."""
    lengths = words_of(texts).list.len().to_numpy()
    rank = (np.argsort(np.lexsort((rng.random(len(lengths)), lengths)), kind="stable") + 0.5) / len(lengths)
    target = np.quantile(habits.words.to_numpy(), rank)
    sentences = _sentences(texts)
    sentences = sentences.with_columns(target=pl.Series(target).gather(sentences["row"]))
    running = pl.col("sentence").str.count_matches(r"[\p{L}\p{N}]+").cum_sum().over("row")
    asks = pl.col("sentence").str.contains(rf"(?i)\?|\b{REQUEST}")
    something_asked = asks.any().over("row")
    first = pl.int_range(pl.len()).over("row") == 0
    return _joined(sentences.filter((running <= pl.col("target")) | asks | (first & ~something_asked)), texts)


def _initial(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """First letters become small or capital until the share of capital ones is the real one."""
    capital = _feature(texts, habits, "initial_capital") > 0
    wanted = habits.rate("initial_capital")
    rest = texts.str.slice(1)
    texts = _where(_drop(capital, wanted, rng), texts.str.head(1).str.to_lowercase() + rest, texts)
    return _where(_drop(~capital, 1 - wanted, rng), texts.str.head(1).str.to_uppercase() + rest, texts)


def _capitals(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """Turns with a capital become lower case until their share is the real one; then "i" and "I" in the real proportion."""
    some = _feature(texts, habits, "capital_share") > 0
    texts = _where(_drop(some, _mean(habits.rates["capital_share"] > 0), rng), texts.str.to_lowercase(), texts)
    myself, capital = (texts.str.contains(rf"\b{letter}\b") for letter in ("i", "I"))
    wanted = habits.capital_i * float((myself | capital).sum())
    texts = _where(_pick(capital, float(capital.sum()) - wanted, rng), texts.str.replace_all(r"\bI\b", "i"), texts)
    return _where(_pick(myself & ~capital, wanted - float(capital.sum()), rng), texts.str.replace_all(r"\bi\b", "I"), texts)


def _shout(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """Some users write in capitals throughout; as many turns do, taken from those that begin with one."""
    missing = (
        _mean(habits.rates["capital_share"] > _SHOUTING) - _mean(_feature(texts, habits, "capital_share") > _SHOUTING)
    ) * len(texts)
    return _where(_pick(_feature(texts, habits, "initial_capital") > 0, missing, rng), texts.str.to_uppercase(), texts)


def _end(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """Question marks are put in or left out until their share is the real one, then the other final marks."""
    asking = texts.str.contains(_QUESTION)
    for feature, mark, final, fitting in (
        ("question_mark", "?", r"\?+\s*$", asking & ~texts.str.contains("?", literal=True)),
        ("end_punctuation", ".", r"[.!]+\s*$", ~asking & ~texts.str.contains(r"[.!?]\s*$")),
    ):
        missing = (habits.rate(feature) - _mean(_feature(texts, habits, feature) > 0)) * len(texts)
        marked = texts.str.replace(r"[.,!\s]*$", mark)
        surplus = _pick(texts.str.contains(final), -missing, rng)
        texts = _where(_pick(fitting, missing, rng), marked, _where(surplus, texts.str.replace(final, ""), texts))
    return texts


def _abbreviate(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    has = _feature(texts, habits, "shorthand") > 0
    can = texts.str.contains(_SHORT_PATTERN) & ~has
    short = texts
    for word, form in _SHORT.items():
        short = short.str.replace_all(rf"(?i)\b{word}\b", form)
    missing = (habits.rate("shorthand") - _mean(has)) * len(texts)
    return _where(_pick(can, missing, rng), short, texts)


def _slip(texts: pl.Series, habits: _Habits, rng: np.random.Generator) -> pl.Series:
    """Typing errors until as many words are unknown as among real inputs."""
    words = words_of(texts).list.len().to_numpy()
    unknown = _feature(texts, habits, "unknown_word_rate")
    missing = habits.rate("unknown_word_rate") - float(unknown.mean() or 0)  # pyright: ignore[reportArgumentType]
    if missing <= 0:
        return texts
    # One slip among w words adds 1 / w to the rate of its text.
    share = missing * len(texts) / float(np.sum(1 / np.maximum(words, 1)))
    return misspell(texts, pl.Series(rng.random(len(texts)) < share), rng)


_STEPS: tuple[Callable[[pl.Series, _Habits, np.random.Generator], pl.Series], ...] = (
    _unframe,
    _shorten,
    _end,
    _capitals,
    _initial,
    _abbreviate,
    _slip,
    _shout,
)


def _feature(texts: pl.Series, habits: _Habits, name: str) -> pl.Series:
    return surface_features(texts, habits.known)[name]


def _drop(has: pl.Series, wanted: float, rng: np.random.Generator) -> pl.Series:
    """Which of those that have a habit lose it, so that the share `wanted` keeps it."""
    surplus = _mean(has) - wanted
    return _pick(has, surplus * len(has), rng)


def _pick(among: pl.Series, count: float, rng: np.random.Generator) -> pl.Series:
    """`count` of the true entries, at random."""
    places = np.flatnonzero(among.to_numpy())
    chosen = np.zeros(len(among), dtype=bool)
    chosen[rng.permutation(places)[: max(0, round(count))]] = True
    return pl.Series(chosen)


def _where(mask: pl.Series, yes: pl.Series, no: pl.Series) -> pl.Series:
    return pl.select(pl.when(mask).then(yes).otherwise(no)).to_series().rename("text")


def _sentences(texts: pl.Series) -> pl.DataFrame:
    """row, sentence with the space behind it; in order. A mark inside a word or number ends nothing."""
    split = texts.str.extract_all(r"(?s).+?(?:[.!?]+\s+|[.!?]*\s*$)")
    return pl.DataFrame({"row": np.arange(len(texts)), "sentence": split}).explode("sentence", empty_as_null=False)


def _joined(sentences: pl.DataFrame, texts: pl.Series) -> pl.Series:
    """The sentences of each row put together again; a row that lost none, or all, keeps its text as it is."""
    joined = sentences.group_by("row").agg(pl.col("sentence").str.join(""))
    rows = pl.DataFrame({"row": np.arange(len(texts))}).join(joined, on="row", how="left", maintain_order="left")
    kept = rows["sentence"].fill_null("").str.strip_chars()
    return _where((kept != "") & (kept != texts.str.strip_chars()), kept, texts)


def _mean(flags: pl.Series) -> float:
    return float(flags.mean() or 0)  # pyright: ignore[reportArgumentType]
