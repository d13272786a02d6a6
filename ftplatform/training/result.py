"""What a training run hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftplatform.training.throughput import Throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a run produced. Times are of this run and are not written into the folder, whose bytes repeat.

    Attributes:
        folder: the finished folder.
        adapter_sha256: of `adapter_model.safetensors`.
        manifest_sha256: of the manifest's identity.
        losses: mean loss per trained token of every step, in nats.
        encoding: rows, tokens, trained tokens, cut and left-out rows, hash of the encoded rows.
        repro_class: what a replay may be expected to give, see `environment.repro_class`.
        throughput: of this call.
        stopped: why an earlier checkpoint is returned (`reason`, `threshold`, `step`, `returned_step`); None for the last step.
        resumed_from: steps that an earlier, interrupted call had done.
        notes: why checkpoints found in the work folder were not used.
        cpu_seconds, wall_seconds: of the whole call.
    """

    folder: Path
    adapter_sha256: str
    manifest_sha256: str
    losses: tuple[float, ...]
    encoding: dict[str, Any]
    repro_class: str
    throughput: Throughput
    stopped: dict[str, Any] | None
    resumed_from: int
    notes: tuple[str, ...]
    cpu_seconds: float
    wall_seconds: float

    def to_record(self) -> dict[str, Any]:
        """JSON-able form, for another process."""
        return {**asdict(self), "folder": str(self.folder), "losses": list(self.losses), "notes": list(self.notes)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TrainingResult:
        """Inverse of `to_record`."""
        return cls(
            **{
                **record,
                "folder": Path(record["folder"]),
                "losses": tuple(record["losses"]),
                "throughput": Throughput(**record["throughput"]),
                "notes": tuple(record["notes"]),
            }
        )
