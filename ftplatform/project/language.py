"""Words in the project file: which spellings are right, and where variants are looked for (mode M10)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ftplatform.project.fields import Model, Name, Owner, Uri, one_or_many

Locale = Literal["en-US", "en-GB"]
Word = Annotated[str, Field(min_length=1, max_length=100)]


class GlossaryTerm(Model):
    """An approved term of the domain: a product, a brand, a technical word."""

    term: Word
    """As it is written, capitals included: `AcmePay`."""
    variants: list[Word] = []
    """Single words that are forbidden in its place, whatever else they may mean. Slips and other capitals are found without them."""
    owner: Owner | None = None
    """Who decides about it: an e-mail address or `team:name`."""


def _term(value: Any) -> Any:
    return {"term": value} if isinstance(value, str) else value


class Language(Model):
    """Which words are right in what models are tuned on, and where variants of them are looked for."""

    locales: Annotated[
        list[Locale], BeforeValidator(one_or_many, json_schema_input_type=Locale | list[Locale]), Field(min_length=1)
    ] = ["en-US", "en-GB"]
    """English spellings that are accepted; with one of them, words of the other are variants."""
    glossary: list[Annotated[GlossaryTerm, BeforeValidator(_term, json_schema_input_type=str | GlossaryTerm)]] = []
    """Approved terms. A variant of one of them counts from two uses on."""
    names: list[Word] = []
    """People, places, products: right as they are, and never the correction of another word."""
    dictionary: Uri | None = None
    """File with further right words, one a line, in UTF-8."""
    prior_model: Name | None = None
    """Base model that is asked which other words it expects (`prior_inversion`)."""
    probes: Name | None = None
    """Eval set of `behavior_probes` whose answers show how a tuned model spells (`model_variant_rate`); `ftplatform clean probes` writes
    one. Give it the `temperature` of production."""
    edits: dict[Name, Uri] = {}
    """Reviewed diff (`ftplatform clean propose`) by dataset; its accepted edits are applied when the corpus is built."""
