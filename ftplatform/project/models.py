"""What `ftplatform.yaml` may say: one pydantic model per block, nothing unknown accepted.

Every value arrives as the text the user wrote (`loading.py` reads YAML without guessing types), so `license: no` and
`version: 1.10` stay what they are; numbers and booleans are parsed here, by the field that wants one.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from ftplatform.project.data import Data, Dataset, Dedup, License, Reserve, SliceRule, Source, Synthetic, Teacher, Use
from ftplatform.project.exams import Criterion, EvalKind, EvalSet, JudgeSpec, Rubric
from ftplatform.project.feedback import Feedback
from ftplatform.project.fields import Model, Name, Uri, one_or_many
from ftplatform.project.language import Language
from ftplatform.project.operations import Alerts, EncoderSpec, Endpoint, Gate, Reward, Schedules
from ftplatform.project.synthesis import Realism
from ftplatform.project.tuning import (
    Adapter,
    BaseModelSpec,
    EarlyStop,
    KubernetesJob,
    Lora,
    MarginProbes,
    RayTask,
    Rehearsal,
    SafetyMix,
    Shards,
    Training,
)

__all__ = [
    "Adapter",
    "Alerts",
    "BaseModelSpec",
    "Criterion",
    "Data",
    "Dataset",
    "Dedup",
    "EarlyStop",
    "EncoderSpec",
    "Endpoint",
    "EvalKind",
    "EvalSet",
    "Feedback",
    "Gate",
    "JudgeSpec",
    "KubernetesJob",
    "License",
    "Lora",
    "MarginProbes",
    "Model",
    "Name",
    "Project",
    "RayTask",
    "Realism",
    "Rehearsal",
    "Reserve",
    "Reward",
    "Rubric",
    "SafetyMix",
    "Schedules",
    "Shards",
    "SliceRule",
    "Source",
    "Synthetic",
    "Teacher",
    "Training",
    "Use",
]


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
    use: Annotated[list[Use], BeforeValidator(one_or_many, json_schema_input_type=Use | list[Use]), Field(min_length=1)] = [
        Use.TRAIN,
        Use.EVALUATE,
    ]
    """What the licenses must allow."""
    license_policy: Uri | None = None
    """YAML policy that says what each license allows; the built-in one by default."""
    sources: dict[Name, Source] = {}
    """Raw corpora, by name."""
    synthetic: dict[Name, Synthetic] = {}
    """Output of teacher models, recorded or generated here, by name."""
    feedback: dict[Name, Feedback] = {}
    """Feedback events, by name."""
    datasets: dict[Name, Dataset] = {}
    """The mixes models are tuned on, by name."""
    eval_sets: dict[Name, EvalSet] = {}
    """Task sets and probes, by name; never trained on."""
    rubrics: dict[Name, Rubric] = {}
    """How answers are graded, by name."""
    judges: dict[Name, JudgeSpec] = {}
    """Models that grade by a rubric, by name."""
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
    behavior_policy: Uri | None = None
    """YAML file that says what the assistant may promise, which tools and queues exist, and how the brand sounds."""
    realism: Realism = Realism()
    """How user turns are compared with what users really type."""
    language: Language = Language()
    """Which words are right in what models are tuned on: glossary, locales, names."""
    gates: dict[str, Gate] = {}
    """Overrides by check name."""
    schedules: Schedules = Schedules()
    """When things run by themselves."""
    alerts: Alerts = Alerts()
    """Where failed checks are reported."""

    # References between blocks are checked in `references.py`, which knows line numbers and near spellings.
