"""Data in the project file: sources and their licenses, synthetic sets, and the mixes models are tuned on."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ftplatform.project.fields import Model, Name, Owner, Share, SliceName, Uri, Uris
from ftplatform.project.synthesis import Generate, Remedy
from ftplatform.rows.schema import Surface


class Use(StrEnum):
    """What licenses must allow."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    COMMERCIAL_MODEL = "commercial_model"
    REDISTRIBUTE_DATA = "redistribute_data"
    REDISTRIBUTE_WEIGHTS = "redistribute_weights"
    TEACHER = "teacher"


_WATCHED = r"^(hf://(datasets|models)/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+|(git\+)?https?://[^\s@]+|rows\+[^\s@]+)$"
WatchedPlace = Annotated[str, Field(pattern=_WATCHED, max_length=2048)]


class License(Model):
    """What is known about the terms of a source or model.

    `declared` is what the host says; `concluded` is what a person decided after reading the terms, with `evidence` (the file they
    read). Only `concluded` with evidence counts: a host's tag alone is unknown.
    """

    declared: str | None = None
    """What the host or README says: SPDX expression or the raw tag."""
    concluded: str | None = None
    """SPDX expression a person concluded from the evidence."""
    evidence: Uri | None = None
    """The license text or letter that was read (a file in the project or a URL)."""
    concluded_by: str | None = None
    """Who concluded it."""
    watch: list[WatchedPlace] = []
    """Places where the terms are stated upstream: `hf://datasets/ORG/NAME`, `hf://models/ORG/NAME`, `git+https://HOST/REPOSITORY`,
    or the https address of a terms page; `rows+FILES` compares the rows we hold with those of FILES (a path, glob or URL, read like the
    source itself), to see which were withdrawn upstream. They are looked at again and again."""
    fresh_days: Annotated[float, Field(gt=0)] | None = None
    """Days after which a look at the terms is too old; 7 if places are watched, else 30."""


def _license(value: Any) -> Any:
    return {"declared": value} if isinstance(value, str) else value


LicenseField = Annotated[License, BeforeValidator(_license, json_schema_input_type=str | License)]


class SliceRule(Model):
    """A named part of the data that must survive every filter. Give `tag`, or `field` with `equals`, or `regex`."""

    tag: str | None = None
    """Rows whose own slice list holds this tag."""
    field: str | None = None
    """A key of the row's metadata, compared with `equals`."""
    equals: str | None = None
    """The value `field` must have."""
    regex: str | None = None
    """A regular expression searched in the text of `role`."""
    role: Literal["system", "user", "assistant", "tool"] = "user"
    """The role `regex` reads."""
    must_keep: bool = False
    """Raises the survival floor from 5 rows to 8."""

    @model_validator(mode="after")
    def _exactly_one(self) -> SliceRule:
        given = [self.tag is not None, self.field is not None, self.regex is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of 'tag', 'field' (with 'equals') or 'regex'")
        if (self.field is None) != (self.equals is None):
            raise ValueError("'field' and 'equals' go together")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"'regex' does not compile: {error}") from error
        return self


Format = Literal["auto", "messages", "sharegpt", "instruction", "prompt_completion", "preference", "text"]


class Data(Model):
    """Where rows come from and how to read them."""

    path: Uris
    """File, glob or URL, or a list of them: local, s3://, hf://, https://; jsonl, json, csv, tsv, parquet, also .gz and .zst."""
    format: Format = "auto"
    """Layout of a record; `auto` recognizes it from the keys of the first record."""
    reader: str | None = None
    """A named reader for a nested format (`star`, `taskmaster`, or your own plug-in); replaces `format`."""
    fields: dict[str, str] = {}
    """Maps our names (user, assistant, system, prompt, completion, author, group, created_at, slices, ...) to the file's keys."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""


class Source(Data):
    """A raw corpus."""

    license: LicenseField = License()
    """The terms; see `License`."""
    surface: Surface = Surface.CURATION
    """Where these rows came into being."""
    mask_personal_data: bool = False
    """Replace personal data in messages by placeholders, with a record of what was taken out."""


class Teacher(Model):
    """The model that wrote synthetic rows; its terms travel with them."""

    id: str
    """The teacher's name, recorded in every row's parents."""
    license: LicenseField = License()
    """The terms of the teacher's outputs."""


class Synthetic(Data):
    """Output of a teacher: recorded (`path`), or written when the set is built (`generate`)."""

    path: Uris = []
    """Recorded output; see `Data`."""
    generate: Generate | None = None
    """Who writes the set, and how much, in place of `path`."""
    remedies: list[Remedy] = []
    """What is done, in this order, to make the user turns look like what users type. Learned from one half of the seeds with
    `surface: production`, measured on the other."""
    teacher: Teacher
    """Who wrote it."""
    seeds: list[Name] = []
    """Sources whose rows seeded the generation; their licenses flow into these rows."""
    production_inputs: Name | None = None
    """Source holding what users really type; the inputs are compared with it."""
    mask_personal_data: bool = False
    """Replace personal data in messages by placeholders, with a record of what was taken out."""

    @model_validator(mode="after")
    def _recorded_or_generated(self) -> Synthetic:
        if bool(self.path) == (self.generate is not None):
            raise ValueError("give either 'path' (recorded output) or 'generate'")
        if self.generate is not None and (given := self.model_fields_set & {"format", "reader", "fields"}):
            raise ValueError(f"{', '.join(sorted(given))} says how files are read; a set with 'generate' has none")
        return self


class Reserve(Model):
    """The eval rows set aside before near-deduplication, stratified by slice."""

    fraction: Share = 0.1
    """Share of each slice."""
    min_per_slice: int = Field(default=1, ge=0)
    """At least this many of each slice that has twice as many."""
    max_rows: int = Field(default=2000, ge=1)
    """Upper limit of the whole reserve."""
    seed: int = 0
    """Seed of the sampling."""
    per_source: bool = False
    """Choose by hash, each source by itself, so that removing one leaves the others' rows where they are (adapters with `shards`)."""

    @model_validator(mode="after")
    def _independent(self) -> Reserve:
        if self.per_source and (counted := self.model_fields_set & {"min_per_slice", "max_rows"}):
            raise ValueError(f"{', '.join(sorted(counted))} counts rows across sources; leave it out, or per_source")
        return self


class Dedup(Model):
    """Near-duplicate settings."""

    method: Literal["weights", "remove"] = "weights"
    """What happens to near-duplicate training rows: all stay and share the weight of a few, or all but a few go."""
    threshold: Share = 0.8
    """Jaccard similarity of word 3-gram sets from which two rows are near duplicates; 1.0 concerns exact copies only."""
    against_eval: Share = 0.7
    """The same, between training rows and reserved eval rows."""
    num_perm: int = Field(default=128, ge=16, le=512)
    """MinHash permutations."""
    keep_per_slice: int = Field(default=5, ge=1)
    """A slice is never thinned below this many distinct rows (8 for must_keep slices)."""
    semantic_threshold: Share | None = None
    """Cosine similarity from which rows of the same final answer are near duplicates by meaning as well; needs `encoder`."""


class Habits(Model):
    """What is done with sentences that the behavior policy does not allow: `mask` takes them out of the loss, `rewrite` puts the policy's
    text in their place, `tool_call` puts the call before a claim that it should have had. Rows are never dropped."""

    commitment: Literal["mask", "rewrite"] | None = None
    """Promises without authority."""
    phantom_action: Literal["mask", "rewrite", "tool_call"] | None = None
    """Acts that are claimed and never took place. `tool_call` takes the tools of the policy that have a `call`; a claim none of them makes
    true is masked."""
    apology: Literal["mask", "rewrite"] | None = None
    """Apologies without a reason."""


class Dataset(Model):
    """The mix a model is tuned on."""

    sources: list[Name] = []
    """Raw corpora in the mix."""
    synthetic: list[Name] = []
    """Synthetic sets in the mix."""
    feedback: list[Name] = []
    """Curated feedback in the mix."""
    slices: dict[SliceName, SliceRule] = {}
    """Parts that must survive every filter."""
    reserve: Reserve = Reserve()
    """The eval rows set aside before near-deduplication."""
    dedup: Dedup = Dedup()
    """Near-duplicate settings."""
    production_inputs: Name | None = None
    """Source holding what users really type; the user turns of the mix are compared with it."""
    habits: Habits | None = None
    """What is done with sentences that the project's `behavior_policy` does not allow."""
    discover_slices: bool = False
    """Also protect what nobody declared: small clusters of alike questions or conversations and, with `hardness_model`, the tenth of
    the rows with the highest loss. They become tags of the rows."""
    hardness_model: Name | None = None
    """Base model whose loss says which rows are hard; without one odd wording stands in."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""

    @model_validator(mode="after")
    def _not_empty(self) -> Dataset:
        if not (self.sources or self.synthetic or self.feedback):
            raise ValueError("a dataset needs at least one entry in 'sources', 'synthetic' or 'feedback'")
        return self
