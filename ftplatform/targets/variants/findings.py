"""Which words of the targets are variants of which right words: the dictionary tier of M10.

A word is suspected if it is not known and a known word is close by. The partner is the close word the corpus uses most: what is right
is not decided by frequency, but which right word was meant is. Suspects that are mostly written with a capital inside sentences are
names, those in capitals are acronyms; both are left alone, unless they come close to a term of the glossary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from string import ascii_lowercase

import polars as pl

from ftplatform.statistics.intervals import wilson
from ftplatform.targets.variants.counting import WordCounts, count_words, used_by_users
from ftplatform.targets.variants.lexicon import Lexicon
from ftplatform.targets.variants.neighbors import LONG, neighbors
from ftplatform.targets.variants.occurrences import Occurrences, find_occurrences
from ftplatform.targets.variants.words import Rows, normalized


class Kind(StrEnum):
    """Why a word counts as a variant."""

    DICTIONARY = "dictionary"
    """Unknown, and close to a word of the dictionary."""
    GLOSSARY = "glossary"
    """Unknown, and close to a term of the glossary."""
    CASE = "case"
    """A glossary term in other capitals."""
    FORBIDDEN = "forbidden"
    """Named in the glossary as a forbidden variant."""


#: Kinds whose partner is a term of the glossary.
OF_GLOSSARY = (Kind.GLOSSARY, Kind.CASE, Kind.FORBIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a suspect is a finding.

    Attributes:
        share: the lower Wilson bound of the variant's share must be above it, except for forbidden variants.
        count: occurrences a variant of a dictionary word needs; fewer are slips, which a model does not learn.
        glossary_count: the same for glossary terms, which somebody has declared to matter.
        confidence: of the two-sided interval.
    """

    share: float = 0.01
    count: int = 5
    glossary_count: int = 2
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Findings:
    """Variants found, with all that was looked at.

    Attributes:
        variants: variant (lower case, or as written for `Kind.CASE`), partner (as it should be written), kind, distance, count,
            partner_count, share, low, high, confirmed; confirmed ones first, then the largest lower bound. Not confirmed is what
            slips seldom make: another first letter, more uses than the partner has in a short word or two edits away, or a word
            that users write too while nobody writes the partner. Most of these are words that the list lacks.
        names: unknown words close to a known one that were taken for names or acronyms: word, count.
        occurrences: where the suspects are, `word` being the variant. counts: of all words.
    """

    variants: pl.DataFrame
    names: pl.DataFrame
    occurrences: Occurrences
    counts: WordCounts


_APOSTROPHE = pl.col("partner").str.replace_all("'", "", literal=True) == pl.col("word")
#: Words of three letters that are common enough to be what a swap of letters was meant to be ("teh").
_FUNCTION_WORDS = "the and you for are was not but can has had our all any who how now out get may new"
_SHORT = _FUNCTION_WORDS.split()

_SUSPECTS = {
    "variant": pl.String,
    "partner": pl.String,
    "kind": pl.String,
    "distance": pl.Int64,
    "count": pl.Int64,
    "partner_count": pl.Int64,
}


def find_variants(rows: Rows, lexicon: Lexicon, limits: Limits | None = None) -> Findings:
    """Variants in the trainable assistant turns; two passes over the rows, no loop over words or rows in Python.

    Args:
        rows: table of `ROW_SCHEMA`, or a function that starts its batches; `row_id`, `messages`, `author` are read.
    """
    limits = limits or Limits()
    counts = count_words(rows)
    suspects = pl.concat([_close(counts, lexicon, limits), _miscased(counts, lexicon), _forbidden(counts, lexicon)])
    wanted = pl.when(pl.col("kind").is_in([str(kind) for kind in OF_GLOSSARY])).then(limits.glossary_count).otherwise(limits.count)
    # Somebody has said that these are wrong, so no share of them is too small.
    forbidden = pl.col("kind") == Kind.FORBIDDEN
    # The interval is only worth computing where the point estimate is above the limit; the bound is below it.
    share = pl.col("count") / (pl.col("count") + pl.col("partner_count"))
    likely = suspects.with_columns(share=share).filter((pl.col("count") >= wanted) & ((pl.col("share") > limits.share) | forbidden))
    bounds = [wilson(x, x + y, limits.confidence) for x, y in likely.select("count", "partner_count").iter_rows()]
    judged = likely.with_columns(
        low=pl.Series([b.low for b in bounds], dtype=pl.Float64), high=pl.Series([b.high for b in bounds], dtype=pl.Float64)
    ).filter((pl.col("low") > limits.share) | forbidden)
    cased = pl.col("kind") == Kind.CASE
    occurrences = find_occurrences(rows, judged.filter(~cased)["variant"].to_list(), judged.filter(cased)["variant"].to_list())
    of_dictionary = judged.filter(pl.col("kind") == Kind.DICTIONARY)
    names = _names(occurrences).join(of_dictionary, left_on="word", right_on="variant", how="semi")
    of_glossary = pl.col("kind").is_in([str(kind) for kind in OF_GLOSSARY])
    variants = judged.filter(of_glossary | ~pl.col("variant").is_in(names["word"].implode()))
    variants = variants.with_columns(confirmed=of_glossary | _is_misspelling(pl.col("variant"), pl.col("partner")))
    variants = variants.with_columns(confirmed=pl.col("confirmed") & ~pl.col("variant").is_in(_subjects(rows, variants)))
    ordered = variants.sort(["confirmed", "low", "count", "variant"], descending=[True, True, True, False])
    return Findings(ordered, names, occurrences, counts)


def _subjects(rows: Rows, variants: pl.DataFrame) -> list[str]:
    """Variants without a partner in the targets that users write as well, and never the partner: what these people talk about.

    A team that always writes "definately" still has users who write "definitely"; nobody who writes of clownfish writes "clownish". What
    only slips make ("accomodate") is one, whoever else makes it.
    """
    slip = _is_slip(pl.col("variant"), pl.col("partner"))
    alone = variants.filter(pl.col("confirmed") & ~slip & (pl.col("kind") == Kind.DICTIONARY) & (pl.col("partner_count") == 0))
    if alone.is_empty():
        return []
    used = used_by_users(rows, [*alone["variant"], *alone["partner"].str.to_lowercase()])
    pairs = alone.select("variant", pl.col("partner").str.to_lowercase()).iter_rows()
    return [variant for variant, partner in pairs if variant in used and partner not in used]


def _close(counts: WordCounts, lexicon: Lexicon, limits: Limits) -> pl.DataFrame:
    """Unknown words beside a known one."""
    by_word = counts.counts
    frequent = by_word.filter(pl.col("count") >= min(limits.count, limits.glossary_count))["word"]
    # What is written with a hyphen ("micro-foam") is made up as needed; no list says how.
    whole = frequent.filter((frequent.str.len_chars() >= 3) & ~frequent.str.contains("-", literal=True))
    asked = lexicon.unknown(whole.filter(~whole.is_in(list(lexicon.forbidden))))
    pairs = _plausible(neighbors(asked, lexicon.partners), lexicon)
    known = by_word.rename({"word": "partner", "count": "partner_count"})
    ranked = (
        pairs.join(known, on="partner", how="left")
        .with_columns(pl.col("partner_count").fill_null(0), swap=_same_letters(pl.col("word"), pl.col("partner")))
        .with_columns(used=pl.col("partner_count") > 0, term=pl.col("partner").is_in(list(lexicon.terms)))
        # A term that somebody has declared comes first; "dont" is "don't" before it is "done", and "whta" is "what" before it is
        # "what's"; then frequency decides.
        .sort(
            [
                pl.col("word"),
                pl.col("term"),
                _APOSTROPHE | (pl.col("used") & pl.col("swap") & (pl.col("distance") == 1)),
                pl.col("used"),
                pl.col("distance"),
                pl.col("partner_count"),
                pl.col("partner"),
            ],
            descending=[False, True, True, True, False, True, False],
        )
    )
    chosen = ranked.group_by("word", maintain_order=True).first().join(by_word, on="word")
    terms = pl.DataFrame(
        {"partner": list(lexicon.terms), "written": list(lexicon.terms.values())},
        schema={"partner": pl.String, "written": pl.String},
    )
    named = chosen.join(terms, on="partner", how="left")
    return named.select(
        variant="word",
        partner=pl.coalesce("written", "partner"),
        kind=pl.when(pl.col("written").is_null()).then(pl.lit(str(Kind.DICTIONARY))).otherwise(pl.lit(str(Kind.GLOSSARY))),
        distance="distance",
        count="count",
        partner_count="partner_count",
    )


def _plausible(pairs: pl.DataFrame, lexicon: Lexicon) -> pl.DataFrame:
    """Pairs that may be one word misspelled; a list of right words never holds all of them, so closeness alone is not enough."""
    word, partner = pl.col("word"), pl.col("partner")
    # Of three letters nearly everything is one edit from something.
    long_enough = (word.str.len_chars() > 3) | _APOSTROPHE | (partner.is_in(_SHORT) & _same_letters(word, partner))
    # Two edits at the ends are another prefix or ending ("attendees", "attended"); two words in one ("helpdesk") are a gap in the list.
    ends = (word.str.slice(0, 1) == partner.str.slice(0, 1)) & (word.str.slice(-1) == partner.str.slice(-1))
    far = pairs.filter(pl.col("distance") == 2)["word"].unique().to_list()
    compound = pl.Series([text for text in far if lexicon.is_compound(text)], dtype=pl.String)
    return pairs.filter(long_enough & ((pl.col("distance") == 1) | (ends & ~word.is_in(compound.implode()))))


def _is_misspelling(word: pl.Expr, partner: pl.Expr) -> pl.Expr:
    """Whether this is how people misspell, or else the right word is the usual one.

    Typical is one edit: an apostrophe or half of a double letter left out, letters doubled or swapped, a vowel for another, any edit
    of a long word, which has few neighbors by accident. Only swaps touch the first letter.
    """
    vowels = [text.str.replace_all("[aeiouy]", "a") for text in (word, partner)]
    vowel = (vowels[0] == vowels[1]) & (word.str.len_chars() > 4)
    typical = (pl.col("distance") == 1) & (vowel | (word.str.len_chars() >= LONG))
    same_start = word.str.slice(0, 1) == partner.str.slice(0, 1)
    return _is_slip(word, partner) | (same_start & (typical | (pl.col("share") <= 0.5)))


def _is_slip(word: pl.Expr, partner: pl.Expr) -> pl.Expr:
    """One edit that hardly makes another word: letters swapped, or doubled, halved or without their apostrophe."""
    singled = [text.str.replace_all("'", "", literal=True) for text in (word, partner)]
    for letter in ascii_lowercase:
        singled = [text.str.replace_all(f"{letter}{letter}+", letter) for text in singled]
    same_start = word.str.slice(0, 1) == partner.str.slice(0, 1)
    return (pl.col("distance") == 1) & (_same_letters(word, partner) | (same_start & (singled[0] == singled[1])))


def _same_letters(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    return a.str.split("").list.sort() == b.str.split("").list.sort()


def _miscased(counts: WordCounts, lexicon: Lexicon) -> pl.DataFrame:
    """Terms with capitals of their own, written in others. All in capitals is a way to shout, no variant."""
    terms = [(w, t) for w, t in lexicon.terms.items() if t != w and w not in lexicon.dictionary]
    frame = pl.DataFrame(terms, schema={"word": pl.String, "partner": pl.String}, orient="row")
    forms = counts.forms.join(frame, on="word")
    right = pl.col("form") == pl.col("partner")
    right_count = forms.filter(right).select("word", partner_count="count")
    opening = pl.col("partner").str.slice(0, 1).str.to_uppercase() + pl.col("partner").str.slice(1)
    wrong = forms.filter(~right & (pl.col("form") != pl.col("partner").str.to_uppercase()) & (pl.col("form") != opening))
    return wrong.join(right_count, on="word", how="left").select(
        pl.col("form").alias("variant"),
        "partner",
        pl.lit(str(Kind.CASE)).alias("kind"),
        pl.lit(0, pl.Int64).alias("distance"),
        "count",
        pl.col("partner_count").fill_null(0),
    )


def _forbidden(counts: WordCounts, lexicon: Lexicon) -> pl.DataFrame:
    by_word = dict(counts.counts.iter_rows())
    lines = [
        (variant, term, str(Kind.FORBIDDEN), None, by_word[variant], by_word.get(normalized(term), 0))
        for variant, term in lexicon.forbidden.items()
        if by_word.get(variant)
    ]
    return pl.DataFrame(lines, schema=_SUSPECTS, orient="row")


def _names(occurrences: Occurrences) -> pl.DataFrame:
    """Words mostly capitalized where no sentence begins, or mostly in capitals: word, count."""
    first, rest = pl.col("form").str.slice(0, 1), pl.col("form").str.slice(1)
    shouted = (pl.col("form") == pl.col("form").str.to_uppercase()) & (pl.col("form").str.len_chars() > 1)
    capital = (first != first.str.to_lowercase()) & (rest != rest.str.to_uppercase())
    per_word = occurrences.forms.group_by("word").agg(
        pl.col("count").sum(),
        shouted=pl.col("count").filter(shouted).sum(),
        inside=pl.col("count").filter(~pl.col("opens")).sum(),
        capital=pl.col("count").filter(capital & ~pl.col("opens")).sum(),
    )
    is_name = (2 * pl.col("capital") > pl.col("inside")) | (2 * pl.col("shouted") > pl.col("count"))
    return per_word.filter(is_name).select("word", "count").sort("word")
