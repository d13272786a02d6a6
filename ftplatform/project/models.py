"""What `ftplatform.yaml` may say: one pydantic model per block, nothing unknown accepted.

Every value arrives as the text the user wrote (`loading.py` reads YAML without guessing types), so `license: no` and
`version: 1.10` stay what they are; numbers and booleans are parsed here, by the field that wants one.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ftplatform.project.credentials import shown
from ftplatform.rows.schema import Surface

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_OWNER = re.compile(r"team:[A-Za-z0-9_.-]{1,58}|[^@\s:]+@[^@\s]+\.[^@\s]+")


def _dagster_name(value: str) -> str:
    # Dagster joins key parts with `__` to name the op, so `a__b` / `c` and `a` / `b__c` would collide (notes: naming rules).
    if not _NAME.fullmatch(value) or "__" in value or len(value) > 63:
        raise ValueError(
            f"{shown(value)} is not a valid name: use lower-case letters, digits, '-' and '_' (no double '__'), starting and ending"
            " with a letter or digit, at most 63 characters"
        )
    return value


def _owner(value: str) -> str:
    # Dagster refuses other owners when the code location loads, far from the line that is wrong.
    if not _OWNER.fullmatch(value):
        raise ValueError(f"{shown(value)} is not an owner: give an e-mail address or 'team:name'")
    return value


def _variable(value: str) -> str:
    # The value is not repeated: people paste the webhook itself here, and that is a secret.
    if not _VARIABLE.fullmatch(value):
        raise ValueError("is not the name of an environment variable: use capitals, digits and '_', e.g. ALERT_WEBHOOK")
    return value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Name = Annotated[
    str,
    AfterValidator(_dagster_name),
    WithJsonSchema({"type": "string", "pattern": f"^(?!.*__){_NAME.pattern}$", "maxLength": 63}),
]
Uri = Annotated[str, Field(min_length=1, max_length=2048)]
Uris = Annotated[list[Uri], BeforeValidator(_one_or_many, json_schema_input_type=Uri | list[Uri]), Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Owner = Annotated[str, AfterValidator(_owner)]
EnvironmentVariable = Annotated[
    str, AfterValidator(_variable), WithJsonSchema({"type": "string", "pattern": f"^{_VARIABLE.pattern}$"})
]
SliceName = Annotated[str, Field(min_length=1, max_length=100)]
Statement = Annotated[str, Field(min_length=1, max_length=2000)]
SourceAsset = Annotated[str, Field(pattern=r"^(raw|synthetic|feedback)/[a-z0-9_-]{1,63}$")]


class Model(BaseModel):
    """Base of every block: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


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


class Teacher(Model):
    """The model that wrote synthetic rows; its terms travel with them."""

    id: str
    """The teacher's name, recorded in every row's parents."""
    license: LicenseField = License()
    """The terms of the teacher's outputs."""


class Synthetic(Data):
    """Recorded output of a teacher model."""

    teacher: Teacher
    """Who wrote it."""
    seeds: list[Name] = []
    """Sources whose rows seeded the generation; their licenses flow into these rows."""
    production_inputs: Name | None = None
    """Source holding what users really type; the inputs are compared with it."""


class Feedback(Data):
    """Feedback events. Raw events are never trainable; only curated replacements pass on."""

    license: LicenseField = License()
    """Terms under which users gave the feedback."""


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


class EvalKind(StrEnum):
    """What an eval set measures."""

    TASK = "task"
    REFUSAL_PROBES = "refusal_probes"
    OVERREFUSAL_PROBES = "overrefusal_probes"
    HELPFULNESS_PROBES = "helpfulness_probes"
    BEHAVIOR_PROBES = "behavior_probes"


class EvalSet(Data):
    """Questions with known answers, or probes. Never trained on."""

    kind: EvalKind = EvalKind.TASK
    """What it measures."""
    metric: Literal["exact_match", "contains", "token_f1"] = "exact_match"
    """How a task answer is scored against the reference."""
    license: LicenseField = License()
    """The terms; `evaluate` must be allowed."""
    rubric: Name | None = None
    """Rubric that scores it."""
    vault: bool = False
    """A set nobody looks at item by item while iterating."""
    paraphrase_of: Name | None = None
    """Vault that this set asks again in other words. Each item carries the `group` of the vault item it rephrases, or its row id if
    that has no group."""
    fresh_for: Name | None = None
    """Vault that this set is measured against: items of its kind, written after it and seen by nobody."""
    slice_field: str | None = None
    """Record key whose value becomes the row's slice (category of a probe, intent of a question)."""
    max_new_tokens: int = Field(default=48, ge=1, le=4096)
    """Length limit of a generated answer."""

    @model_validator(mode="after")
    def _one_counterpart(self) -> EvalSet:
        if self.paraphrase_of is not None and self.fresh_for is not None:
            raise ValueError("give at most one of 'paraphrase_of' and 'fresh_for': a set is a rewording or new, not both")
        return self


class Criterion(Model):
    """One line of a rubric."""

    id: Name
    """Short name of the criterion, unique in the rubric."""
    text: str
    """What the judge is asked."""


class Rubric(Model):
    """How answers are graded, by whom, and whether it serves as reward or as exam."""

    purpose: Literal["reward", "eval"]
    """Whether training is steered by it or judged by it; never both."""
    author: str
    """Who wrote it."""
    judge: str
    """Id of the judge model (`rules` for a programmatic one)."""
    criteria: list[Criterion] = Field(min_length=1)
    """The lines of the rubric."""


class BaseModelSpec(Model):
    """A causal language model to tune: a local folder, or a hub id with a commit."""

    path: Uri | None = None
    """Folder with config.json, tokenizer files and *.safetensors."""
    hub: str | None = None
    """Hub id, e.g. `org/name`."""
    revision: str | None = None
    """The 40-digit commit of a hub model; a branch name is refused."""
    license: LicenseField = License()
    """The terms of the weights; see `License`."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""

    @model_validator(mode="after")
    def _one_place(self) -> BaseModelSpec:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' and 'hub'")
        if self.hub is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("a hub model needs 'revision': the 40-digit commit, not a branch or tag (they move)")
        return self


class Lora(Model):
    """Low-rank adapter settings (Hu et al. 2021)."""

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the update matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Modules that get an adapter: `all-linear`, or a list of module name suffixes."""


class Training(Model):
    """Every number the trainer uses."""

    steps: int = Field(default=375, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimizer step."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate of AdamW."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or decaying to zero at the last step."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this Euclidean norm."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer rows are cut on the left at a message boundary, counted and reported."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 where the hardware has it."""
    seed: int = 0
    """Order of the data."""
    adapter_seed: int = 0
    """Initial weights of the adapter; set before the adapter is created."""
    threads: int = Field(default=1, ge=1)
    """CPU threads; part of the closure."""
    lora: Lora = Lora()
    """Low-rank adapter settings."""


class SafetyMix(Model):
    """Refusals mixed into training so that alignment is kept (mode M5)."""

    source: Name
    """Source of refusal rows."""
    share: Share = 0.05
    """Share of training rows drawn from it."""


class Shards(Model):
    """Source-aligned sharding: several LoRA adapters, each on its own sources, served as their mean.

    Removing a source then retrains one of them. It costs a training run of `steps` per shard, and the served rank is the sum of theirs.
    """

    by: Literal["source"] = "source"
    """Whole sources are packed; rows of one source never part."""
    count: int = Field(default=1, ge=1, le=64)
    """Shards for the sources that are not separate, packed by rows. Changing it packs all of them anew."""
    separate: list[SourceAsset] = []
    """Sources that may have to go soon, e.g. `raw/scraped`; together they get a shard of their own."""


class Adapter(Model):
    """A LoRA adapter: base, data, recipe and the exams it has to pass."""

    base: Name
    """Entry of `base_models` it starts from."""
    dataset: Name
    """Entry of `datasets` it is tuned on."""
    safety_mix: SafetyMix | None = None
    """Refusals mixed into the training rows."""
    training: Training = Training()
    """The recipe."""
    shards: Shards | None = None
    """Train in shards by source; without it one adapter is trained on all rows."""
    evals: list[Name] = []
    """Eval sets it is judged on; empty means all of them."""
    system_prompt: str | None = None
    """The production system prompt; probes run with and without it."""
    launcher: Literal["in_process", "subprocess"] = "in_process"
    """Where the trainer runs."""
    release: bool = True
    """False marks an experiment: missing evidence warns instead of refusing, and there is no release asset."""
    obligations: dict[str, Statement | dict[str, Statement]] = {}
    """What a person confirms about obligations that licenses bring to the release, by obligation (`share_alike`, `acceptable_use`, ...):
    one text, or a text per source, e.g. `attribution: {raw/tickets: "Jane Doe, https://..."}`. It goes into the model card."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""


class Reward(Model):
    """A reward ledger: per checkpoint and item, the proxy reward and the human outcome (mode M8)."""

    path: Uris
    """The ledger's file, glob or URL, or a list of them."""
    adapter: Name | None = None
    """Entry of `adapters` whose checkpoints were scored."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""


class Endpoint(Model):
    """A serving endpoint's request log (mode M3)."""

    path: Uris
    """The log's file, glob or URL, or a list of them."""
    fields: dict[str, str] = {}
    """Maps time, adapter, time_to_first_token, total, output_tokens, is_ping to the log's keys."""
    adapter: Name | None = None
    """Entry of `adapters` that is served."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""


class Gate(Model):
    """Override of one check."""

    threshold: float | None = None
    """Replaces the check's limit."""
    severity: Literal["warn", "error"] | None = None
    """`warn` lets a failure through, visibly; `error` refuses."""


class Schedules(Model):
    """When things run by themselves."""

    nightly: str = "0 3 * * *"
    """Cron line of the nightly re-validation."""
    timezone: str = "UTC"
    """IANA name of the time zone the cron lines are read in, e.g. `Europe/Paris`."""


class Alerts(Model):
    """Where failed checks are reported. The log always gets them."""

    webhook_env: EnvironmentVariable | None = None
    """Name of the environment variable that holds the webhook URL (Slack-compatible); the URL itself is a secret."""


class EncoderSpec(Model):
    """A sentence-transformers model that compares texts by meaning. Nothing is downloaded; weights in safetensors only."""

    path: Uri
    """Folder of the model."""
    multilingual: bool = False
    """Whether a text and its translation get similar vectors."""


class Project(Model):
    """The whole of `ftplatform.yaml`."""

    name: Name
    """The project's name."""
    description: str | None = None
    """One sentence for people."""
    store: Uri = ".ftplatform/store"
    """Any fsspec URL: a folder, or s3://bucket/prefix."""
    store_options: dict[str, str] = {}
    """Options of the store's filesystem, e.g. endpoint_url. Secrets belong into the environment."""
    use: Annotated[list[Use], BeforeValidator(_one_or_many, json_schema_input_type=Use | list[Use]), Field(min_length=1)] = [
        Use.TRAIN,
        Use.EVALUATE,
    ]
    """What the licenses must allow."""
    license_policy: Uri | None = None
    """YAML policy that says what each license allows; the built-in one by default."""
    sources: dict[Name, Source] = {}
    """Raw corpora, by name."""
    synthetic: dict[Name, Synthetic] = {}
    """Recorded output of teacher models, by name."""
    feedback: dict[Name, Feedback] = {}
    """Feedback events, by name."""
    datasets: dict[Name, Dataset] = {}
    """The mixes models are tuned on, by name."""
    eval_sets: dict[Name, EvalSet] = {}
    """Task sets and probes, by name; never trained on."""
    rubrics: dict[Name, Rubric] = {}
    """How answers are graded, by name."""
    base_models: dict[Name, BaseModelSpec] = {}
    """Models to tune, by name."""
    adapters: dict[Name, Adapter] = {}
    """LoRA adapters, by name."""
    rewards: dict[Name, Reward] = {}
    """Reward ledgers, by name."""
    endpoints: dict[Name, Endpoint] = {}
    """Serving endpoints, by name."""
    encoder: EncoderSpec | None = None
    """Model that compares texts by meaning: for paraphrases of eval items, and for near duplicates where a dataset asks for it."""
    gates: dict[str, Gate] = {}
    """Overrides by check name."""
    schedules: Schedules = Schedules()
    """When things run by themselves."""
    alerts: Alerts = Alerts()
    """Where failed checks are reported."""

    # References between blocks are checked in `references.py`, which knows line numbers and near spellings.
