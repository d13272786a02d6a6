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
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank), so that high ranks learn too (Kalajdzievski 2023)."""
    use_dora: bool = False
    """Learn the magnitude of each weight column apart from its direction (Liu et al. 2024); slower."""


class EarlyStop(Model):
    """Stop when the refusal margin is lost, and keep the last checkpoint that still had it."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    """Smallest lower bound of the tuned model's margin, as a share of its base's."""
    patience: int = Field(default=2, ge=1)
    """Checkpoints in a row below it that end the run; with refusals in the rows the margin dips early and recovers."""


class MarginProbes(Model):
    """Probes on which the refusal margin is followed during training. They steer nothing unless `early_stop` is set."""

    refusal: Name
    """Eval set of harmful requests."""
    safe: Name
    """Eval set of safe requests that look like them."""


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
    micro_batches: int = Field(default=1, ge=1)
    """Passes per optimizer step whose gradients are added up: the same step with less memory."""
    packing: bool = False
    """Lay several rows in one sequence, isolated from each other; pays on GPUs."""
    gradient_checkpointing: bool = False
    """Compute activations twice and keep fewer of them."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints at which the refusal margin is measured; 0 is none."""
    keep_checkpoints: int = Field(default=0, ge=0)
    """Adapters of checkpoints that are kept beside the final one, evenly spread."""
    early_stop: EarlyStop | None = None
    """Stop on the refusal margin; needs `checkpoint_every` and the adapter's `margin_probes`."""
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

    @model_validator(mode="after")
    def _checkpoints(self) -> Training:
        if (self.keep_checkpoints or self.early_stop) and not self.checkpoint_every:
            raise ValueError("'keep_checkpoints' and 'early_stop' need 'checkpoint_every'")
        return self


class Rehearsal(Model):
    """What the release asks of the closure: replicates under other seeds that agree with it (`closure_equivalent`)."""

    seeds: int = Field(default=5, ge=3, le=100)
    """Replicates. Each costs a training run; `ftplatform closure reproduce ADAPTER --seeds N` makes them."""


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


class RayTask(Model):
    """Where a Ray cluster trains. It sees the same files under the same paths."""

    address: str | None = None
    """`host:port`, `ray://host:port` or `auto`; without it a cluster on this machine is started."""
    cpus: float | None = Field(default=None, gt=0)
    """Cores of the task; by default one per thread."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs of the task; by default one per process that trains on one."""
    memory_bytes: int | None = Field(default=None, gt=0)
    """Memory of the task."""
    resources: dict[str, float] = {}
    """Further resources, by name."""


class KubernetesJob(Model):
    """The job that trains in a cluster."""

    image: str
    """The platform's image by digest, `registry/name@sha256:...`."""
    handover_url: Uri
    """`s3://bucket/prefix` where inputs wait for the pod and its result for us."""
    endpoint_url: Uri | None = None
    """Of an S3-compatible server."""
    region: str | None = None
    """Of the bucket."""
    namespace: str = "default"
    """Of the job."""
    secret: str | None = None
    """Kubernetes secret whose keys become environment variables of the pod: the credentials of the hand-over."""
    cpu: str = "4"
    """Cores, as Kubernetes writes them."""
    memory: str = "16Gi"
    """Memory, as Kubernetes writes it."""
    scratch: str = "20Gi"
    """Disk space, as Kubernetes writes it."""
    gpus: int | None = Field(default=None, ge=0)
    """GPUs; by default one per process that trains on one."""
    retries: int = Field(default=0, ge=0, le=10)
    """How often Kubernetes starts the pod again."""


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
    margin_probes: MarginProbes | None = None
    """Probes on which the refusal margin is followed; with `early_stop` they are part of training and should not be the exam."""
    continues: Name | None = None
    """Adapter to train on from, instead of from the base. A takedown then reaches everything that was continued."""
    rehearsal: Rehearsal | None = None
    """Ask for replicates before a release."""
    shards: Shards | None = None
    """Train in shards by source; without it one adapter is trained on all rows."""
    evals: list[Name] = []
    """Eval sets it is judged on; empty means all of them."""
    system_prompt: str | None = None
    """The production system prompt; probes run with and without it."""
    launcher: Literal["in_process", "subprocess", "pipes", "torchrun", "kubernetes", "ray"] = "in_process"
    """Where the trainer runs: in Dagster's process, in one of its own, in one that reports to the run's log (`pipes`), in several that
    share every batch (`torchrun`), as a Kubernetes job, or as a Ray task. The adapter is the same."""
    ray: RayTask | None = None
    """The task of launcher `ray`."""
    kubernetes: KubernetesJob | None = None
    """The job of launcher `kubernetes`."""
    timeout_seconds: float | None = Field(default=None, gt=0)
    """A run that takes longer is ended; not for launcher `in_process`."""
    processes: int = Field(default=1, ge=1, le=64)
    """Processes that share every batch (launcher `torchrun`, or `kubernetes`, `ray` and `pipes` with several GPUs); part of the closure."""
    release: bool = True
    """False marks an experiment: missing evidence warns instead of refusing, and there is no release asset."""
    obligations: dict[str, Statement | dict[str, Statement]] = {}
    """What a person confirms about obligations that licenses bring to the release, by obligation (`share_alike`, `acceptable_use`, ...):
    one text, or a text per source, e.g. `attribution: {raw/tickets: "Jane Doe, https://..."}`. It goes into the model card."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""

    @model_validator(mode="after")
    def _settings_go_together(self) -> Adapter:
        if self.training.early_stop is not None and self.margin_probes is None:
            raise ValueError("'training.early_stop' looks at the refusal margin: name 'margin_probes'")
        if self.shards is not None and (self.continues or self.margin_probes):
            raise ValueError("an adapter in shards neither continues another nor follows a margin")
        if self.processes > 1 and self.launcher in ("in_process", "subprocess"):
            raise ValueError(f"the launcher '{self.launcher}' is one process; take 'torchrun' for {self.processes}")
        if self.launcher == "kubernetes" and self.kubernetes is None:
            raise ValueError("the launcher 'kubernetes' needs a 'kubernetes' block: image and handover_url")
        for block in ("ray", "kubernetes"):
            if getattr(self, block) is not None and self.launcher != block:
                raise ValueError(f"'{block}' is for the launcher '{block}', and this one is '{self.launcher}'")
        if self.timeout_seconds is not None and self.launcher == "in_process":
            raise ValueError("'timeout_seconds' needs a process that can be ended: take another launcher")
        return self
