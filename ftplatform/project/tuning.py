"""Models in the project file: bases, and the adapters that are tuned on them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from ftplatform.project.data import License, LicenseField
from ftplatform.project.fields import Model, Name, Owner, Share, SourceAsset, Statement, Uri


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
