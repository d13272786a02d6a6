"""Twelve interpretable surface features of a user turn: how people write, not what about.

Two of them would follow the topic if taken naively. Word lengths are counted up to `LONGEST`, so that "reimbursement" weighs little
more than "refund". And a word is unknown only if it is neither everyday English nor used repeatedly in the samples compared: the
words of a topic are repeated, typos, names and numbers hardly.
"""

from __future__ import annotations

from typing import overload

import polars as pl

from ftplatform.synthesis.words import COMMON_WORDS

#: What each feature measures, in the order of the columns.
FEATURES: dict[str, str] = {
    "log_words": "natural logarithm of 1 + number of words",
    "characters_per_word": "mean word length, words longer than 7 counted as 7",
    "capital_share": "share of letters that are capital",
    "initial_capital": "begins with a capital letter (0 or 1)",
    "end_punctuation": "ends with . ! or ? (0 or 1)",
    "punctuation_per_word": "punctuation marks per word",
    "unknown_word_rate": "share of words that are neither everyday English nor repeated in the samples (typos, names)",
    "politeness": "holds a politeness marker (0 or 1)",
    "connectors": "natural logarithm of 1 + number of connectors (and, also, but, btw, ...)",
    "shorthand": "holds chat shorthand or an unmarked contraction (0 or 1)",
    "words_per_sentence": "natural logarithm of words per sentence",
    "question_mark": "holds a question mark (0 or 1)",
}

#: Longer words count as this long.
LONGEST = 7
#: A word seen this often in the samples belongs to their topics.
REPEATED = 3

# Case-insensitive, on whole words.
_POLITE = r"(?i)\b(please|kindly|thanks|thank you|thankyou|sorry|appreciate|grateful|would you mind|could you|may i|dear|regards)\b"
_CONNECTORS = r"(?i)\b(and|also|but|so|because|then|plus|btw|anyway|another|additionally|furthermore|moreover|however|besides)\b|&"
_SHORTHAND = (
    r"(?i)\b(u|ur|r|pls|plz|plss|thx|tnx|ty|tks|lol|omg|wtf|idk|imo|asap|btw|fyi|dm|msg|acc|acct|amt|txn|info|wanna|gonna|gotta|gimme|lemme|kinda"
    r"|dunno|cuz|coz|bc|tho|thru|ya|yea|yeah|yep|yup|nope|nah|ok|okay|hey|hiya|im|ive|id|ill|dont|cant|wont|didnt|doesnt|isnt|wasnt|havent|hasnt"
    r"|couldnt|wouldnt|shouldnt|whats|wheres|hows|thats|theres|youre|theyre)\b"
)


def repeated_words(*samples: pl.Series) -> frozenset[str]:
    """Lower-case words that stand in at least `REPEATED` different texts of the samples together."""
    words = pl.concat([words_of(sample) for sample in samples]).list.unique().explode(empty_as_null=False)
    counts = words.value_counts(name="count")
    return frozenset(counts.filter(pl.col("count") >= REPEATED)[words.name].to_list())


def surface_features(texts: pl.Series, known: frozenset[str] = frozenset()) -> pl.DataFrame:
    """The twelve features of each text.

    Args:
        texts: strings, shape (n,).
        known: words besides everyday English that are not unknown, usually `repeated_words` of both samples.

    Returns:
        Frame of Float64, shape (n, 12), columns as in `FEATURES`; finite for every text, the empty one included.
    """
    frame = pl.DataFrame({"text": texts}).with_columns(pl.col("text").str.strip_chars())
    text = pl.col("text")
    words = text.str.count_matches(r"[\p{L}\p{N}]+(?:['’][\p{L}]+)?").cast(pl.Float64)
    some_words = pl.max_horizontal(words, pl.lit(1.0))
    letters, capitals = text.str.count_matches(r"\p{L}"), text.str.count_matches(r"\p{Lu}")
    sentences = pl.max_horizontal(text.str.count_matches(r"[.!?]+(?:\s|$)"), pl.lit(1))
    flags = {
        "initial_capital": text.str.contains(r"^\P{L}*\p{Lu}"),
        "end_punctuation": text.str.contains(r"[.!?]$"),
        "politeness": text.str.contains(_POLITE),
        "shorthand": text.str.contains(_SHORTHAND),
        "question_mark": text.str.contains("?", literal=True),
    }
    measured = frame.select(
        log_words=words.log1p(),
        capital_share=capitals / pl.max_horizontal(letters, pl.lit(1)),
        punctuation_per_word=text.str.count_matches(r"[\p{P}\p{S}]") / some_words,
        connectors=text.str.count_matches(_CONNECTORS).cast(pl.Float64).log1p(),
        words_per_sentence=(words / sentences).log1p(),
        **{name: flag.cast(pl.Float64) for name, flag in flags.items()},
    )
    return measured.hstack(_word_features(frame["text"], known)).select(list(FEATURES)).cast(pl.Float64)


@overload
def words_of(texts: pl.Series) -> pl.Series: ...
@overload
def words_of(texts: pl.Expr) -> pl.Expr: ...
def words_of(texts: pl.Series | pl.Expr) -> pl.Series | pl.Expr:
    """Lower-case words of each text, a list of strings; an apostrophe separates."""
    return texts.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+")


def _word_features(texts: pl.Series, known: frozenset[str]) -> pl.DataFrame:
    per_text = pl.DataFrame({"word": words_of(texts)}).with_row_index("text")
    words = per_text.explode("word", empty_as_null=False)
    vocabulary = pl.Series(sorted(COMMON_WORDS | known), dtype=pl.String)
    measured = words.group_by("text").agg(
        characters_per_word=pl.col("word").str.len_chars().clip(upper_bound=LONGEST).mean(),
        unknown_word_rate=1 - pl.col("word").is_in(vocabulary.implode()).mean(),
    )
    joined = per_text.select("text").join(measured, on="text", how="left", maintain_order="left")
    return joined.select("characters_per_word", "unknown_word_rate").fill_null(0.0)
