"""Which words are right: the bundled English word list by locale, the project's glossary, names and own word list.

Words are compared in lower case; a glossary term also fixes how it is capitalized. No list holds every right word, so that a word is
missing here never decides alone: a variant also needs a listed word close by.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import polars as pl

from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.targets.variants.words import CONTRACTED, normalized, split_words

#: Spellings the bundled list tells apart; a word of both belongs to neither.
LOCALES = ("en-US", "en-GB")

_FILE = "scowl/english.txt.gz"
_VERBS = ("re", "ve", "ll", "d")
_SUFFIX = re.compile(r"(.{4,}?)(s|ers?)")
_NO_PLAIN_PLURAL = re.compile(r"(?:s|x|z|ch|sh|[^aeiou]y|ed|ly)$")
#: Shortest part of a compound ("chargeback", "helpdesk"), and the longest compound that is looked for.
_MIN_PART, _MAX_COMPOUND = 4, 24


@dataclass(frozen=True, slots=True)
class Term:
    """An approved term of the domain.

    Attributes:
        text: as it is written, capitals included. Several words are known one by one.
        variants: ways to write it that are forbidden, whatever else they may mean.
    """

    text: str
    variants: tuple[str, ...] = ()


class Lexicon:
    """Everything that decides whether a word is right.

    Args:
        locales: spellings that are accepted, from `LOCALES`. A word of the other one is then a variant.
        glossary: approved terms.
        names: people, products, places: known, never proposed as a correction.
        words: further right words, as a project's own list gives them.

    Raises:
        InputDataError: an unknown locale, a glossary term that holds no word, or a forbidden variant that is not one other word.
    """

    def __init__(
        self,
        *,
        locales: Sequence[str] = LOCALES,
        glossary: Iterable[Term] = (),
        names: Collection[str] = (),
        words: Collection[str] = (),
    ) -> None:
        if not locales or set(locales) - set(LOCALES):
            raise InputDataError(
                f"There is no bundled word list for {', '.join(sorted(set(locales) - set(LOCALES))) or 'no locale'}.",
                remedy=f"Use one or more of {', '.join(LOCALES)} and add a word list of your own as `dictionary`.",
            )
        self.locales = tuple(sorted(set(locales)))
        self.glossary = tuple(glossary)
        for term in self.glossary:
            if not split_words(term.text):
                raise InputDataError(f"The glossary term {term.text!r} holds no word.", remedy="Write terms with letters.")
            for variant in term.variants:
                if not _only_word(variant) or normalized(variant) == normalized(term.text):
                    raise InputDataError(
                        f"The forbidden variant {variant!r} of {term.text!r} is not one word that differs in its letters.",
                        remedy="Give single words; other capitals of a term are found without being listed.",
                    )
        self._names = sorted(names)
        self._own = sorted(words)

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over all that decides: locales, glossary, names, own words, the bundled list."""
        terms = sorted([term.text, *sorted(term.variants)] for term in self.glossary)
        return digest([list(self.locales), terms, self._names, self._own, _bundled_digest()])[:16]

    @cached_property
    def terms(self) -> dict[str, str]:
        """Terms of one word: lower case to how they are written."""
        return {normalized(word): word for term in self.glossary for word in _only_word(term.text)}

    @cached_property
    def forbidden(self) -> dict[str, str]:
        """Forbidden variants, lower case, to the term they stand for."""
        return {normalized(variant): term.text for term in self.glossary for variant in term.variants}

    @cached_property
    def dictionary(self) -> frozenset[str]:
        """Words of the accepted locales and the project's own, lower case; no glossary, no names of the project."""
        bundled = _bundled().filter(pl.col("locale").is_null() | pl.col("locale").is_in(self.locales))
        own = {normalized(word) for text in self._own for word in split_words(text)}
        # "fiance" for "fiancé" is how most people type, not a variant.
        return frozenset([*bundled["lower"], *bundled["folded"], *CONTRACTED]) | own

    @cached_property
    def partners(self) -> pl.Series:
        """Words a variant may stand for: common words (no proper names) and glossary terms, lower case, unique, sorted."""
        common = _bundled().filter(
            (pl.col("locale").is_null() | pl.col("locale").is_in(self.locales)) & (pl.col("word") == pl.col("lower"))
        )
        own = [normalized(word) for text in self._own for word in split_words(text) if word == word.lower()]
        return pl.concat([common["lower"], pl.Series([*own, *self.terms, *CONTRACTED], dtype=pl.String)]).unique().sort()

    @cached_property
    def _known(self) -> frozenset[str]:
        texts = (*self._names, *self._own, *(term.text for term in self.glossary))
        given = {normalized(word) for text in texts for word in split_words(text)}
        return self.dictionary | given

    def unknown(self, words: pl.Series) -> pl.Series:
        """Those of `words` (distinct, lower case) that are neither known nor made from a known word: plurals, agents ("influencer"),
        contractions with a verb ("there're")."""
        unlisted = words.filter(~words.is_in(pl.Series(list(self._known), dtype=pl.String).implode()))
        return unlisted.filter(pl.Series([not self._is_derived(word) for word in unlisted.to_list()], dtype=pl.Boolean))

    def _is_derived(self, word: str) -> bool:
        base, apostrophe, verb = word.partition("'")
        if apostrophe:
            return verb in _VERBS and base in self._known
        found = _SUFFIX.fullmatch(word)
        if found is None or f"{found[1]}'s" in CONTRACTED:
            return False
        stem, suffix = found.groups()
        # "companys" and "hashs" are no plurals.
        return (stem in self._known and not (suffix == "s" and _NO_PLAIN_PLURAL.search(stem))) or (
            suffix != "s" and f"{stem}e" in self._known
        )

    def is_compound(self, word: str) -> bool:
        """Whether two listed words of four letters or more make the word."""
        if not 2 * _MIN_PART <= len(word) <= _MAX_COMPOUND:
            return False
        cuts = range(_MIN_PART, len(word) - _MIN_PART + 1)
        return any(word[:cut] in self.dictionary and word[cut:] in self.dictionary for cut in cuts)


def _only_word(text: str) -> list[str]:
    words = split_words(text)
    return words if len(words) == 1 else []


@cache
def _bundled_bytes() -> bytes:
    return gzip.decompress(files("ftplatform.targets.variants").joinpath(_FILE).read_bytes())


@cache
def _bundled_digest() -> str:
    return digest(_bundled_bytes().decode())


@cache
def _bundled() -> pl.DataFrame:
    """word, locale ("en-US", "en-GB" or null), lower, folded (lower case without accents)."""
    lines = pl.Series("line", _bundled_bytes().decode().splitlines())
    parts = lines.str.split_exact("\t", 1).struct.rename_fields(["word", "locale"]).struct.unnest()
    lower = parts["word"].str.to_lowercase()
    folded = lower.str.normalize("NFKD").str.replace_all(r"\p{M}", "")
    return parts.with_columns(lower=lower, folded=folded)
