"""Meta-language: is a text talking *about* an answer instead of giving one?

An interpretable lexicon, `meta_language.yaml`: what was found can be shown, and a project can be told why. English only. Matching is
linear in the text whatever it holds (Rust `regex`, which does not backtrack).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import polars as pl
import yaml

#: Sum of cue weights from which a text counts as meta-language, for every `WORDS` words begun: long texts mention everything once.
META_SCORE, WORDS = 2, 40


@dataclass(frozen=True, slots=True)
class Cue:
    """One cue of the lexicon.

    Attributes:
        name: what it is evidence of.
        weight: 2 suffices by itself, 1 does not, below 0 it speaks against.
        pattern: regular expression on `normalized` text.
    """

    name: str
    weight: int
    pattern: str


@cache
def cues() -> tuple[Cue, ...]:
    """The lexicon."""
    document = yaml.safe_load((files("ftplatform.feedback") / "meta_language.yaml").read_text(encoding="utf-8"))
    groups = {name: f"(?:{words})" for name, words in document["groups"].items()}
    return tuple(
        Cue(cue["name"], cue["weight"], "|".join(_filled(line, groups) for line in cue["any"])) for cue in document["cues"]
    )


def _filled(pattern: str, groups: dict[str, str]) -> str:
    # Not `str.format`: braces are also the repetition counts of a regular expression.
    for name, words in groups.items():
        pattern = pattern.replace(f"{{{name}}}", words)
    return pattern


def normalized(text: pl.Expr) -> pl.Expr:
    """Lower case, straight apostrophes, single spaces."""
    return (
        text.str.to_lowercase().str.replace_all("[\u2018\u2019\u02bc\u00b4`]", "'").str.replace_all(r"\s+", " ").str.strip_chars()
    )


def is_meta(text: pl.Expr) -> pl.Expr:
    """Whether each text is meta-language; boolean, null of null.

    Args:
        text: string expression, already `normalized`.
    """
    score = pl.sum_horizontal((text.str.contains(cue.pattern).cast(pl.Int32) * cue.weight for cue in cues()), ignore_nulls=False)
    begun = (text.str.count_matches(" ", literal=True) // WORDS) + 1
    return score >= META_SCORE * begun


def meta_cues(text: str) -> list[str]:
    """What in one text counts as meta-language, quoted, strongest first."""
    clean = normalized(pl.lit(text))
    found = pl.select(clean.str.extract(f"({cue.pattern})", 1).alias(str(place)) for place, cue in enumerate(cues())).row(0)
    hits = [(cue, words.strip()) for cue, words in zip(cues(), found, strict=True) if words is not None and cue.weight > 0]
    return [f"{cue.name}: {words}" for cue, words in sorted(hits, key=lambda hit: -hit[0].weight)]
