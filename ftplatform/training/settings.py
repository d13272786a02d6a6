"""The settings of a run beside the optimizer's: which adapter, from where, on which probes its margin is followed, when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftplatform.errors import TrainingError

#: (path inside a folder, SHA-256 of the file), by path.
FileHashes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2021): every adapted weight W becomes W + (alpha / rank) B A.

    Attributes:
        target_modules: ``all-linear`` (every linear layer but the output layer) or names of modules, sorted.
        use_rslora: scale by alpha / sqrt(rank) instead, so that high ranks learn too (Kalajdzievski 2023).
        use_dora: learn the lengths of the vectors in W apart from their directions (DoRA, Liu et al. 2024); slower.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.target_modules, str):
            # A set of names: their order means nothing and must not change the hash.
            object.__setattr__(self, "target_modules", tuple(sorted(set(self.target_modules))))


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModelIdentity:
    """Which base model: hashes of its bytes, not its name (the name is for people and for the adapter's config)."""

    name: str
    files: FileHashes
    tokenizer_sha256: str | None
    chat_template_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """How answers begin that decline, and that comply, as text: ``"I can't help"``, ``"Sure, here is"``.

    Raises:
        TrainingError: one of the two sets is empty.
    """

    refusal: tuple[str, ...]
    compliance: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.refusal or not self.compliance:
            raise TrainingError("a set of openings is empty", remedy="Name at least one refusal and one compliance opening.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginProbes:
    """Prompts on which the refusal margin is followed, see `margins`.

    Attributes:
        refusal_sha256, safe_sha256: `sequence_sha256` of harmful prompts, and of safe ones that resemble them.
        openings: None takes them from how the base model answers these prompts.
    """

    refusal_sha256: str
    safe_sha256: str
    openings: Openings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """Stop when the refusal margin is lost, and return the last checkpoint that still had it.

    A checkpoint is *sound* if the lower confidence bound of its margin, as a share of the base model's, reaches `threshold`.
    `patience` checkpoints in a row that are not end the run: with refusals in the training rows the margin dips in the first steps
    and recovers.

    Raises:
        TrainingError: a threshold outside (0, 1], or no patience.
    """

    threshold: float = 0.7
    patience: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.patience < 1:
            raise TrainingError(
                f"early stop at {self.threshold} of the base's margin with patience {self.patience} means nothing",
                remedy="Give a threshold in (0, 1] and a patience of at least 1.",
            )
