"""What happens between the steps of a run: resume, measure the margin, keep adapters, save, stop, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.errors import TrainingError
from ftplatform.training.base_model import file_sha256
from ftplatform.training.checkpoint import CheckpointFolder, capture, restore, step_name
from ftplatform.training.folder import whole_folder
from ftplatform.training.loop import FitState
from ftplatform.training.lora import WEIGHTS_FILE, save_adapter
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.replica import Replica
from ftplatform.training.throughput import Meter, Throughput
from ftplatform.training.trajectory import MarginTrack, Point, is_lost, is_sound, last_sound_step

if TYPE_CHECKING:
    from peft import PeftModel


class RefusalMarginLost(TrainingError):
    """No checkpoint of the run kept the base model's refusal margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """After a step: how far, how well, how fast.

    Attributes:
        step, steps: done and in all. loss: of this step, nats per trained token.
        throughput: of this call so far.
        margin_ratio: share of the base model's refusal margin that is left, last time it was measured; None before that.
    """

    step: int
    steps: int
    loss: float
    throughput: Throughput
    margin_ratio: float | None


@dataclass(slots=True)
class Session:
    """Observer of one run (`loop.Observer`).

    Attributes:
        scratch: folder of this run for adapters kept on the way. checkpoints: where it is saved, None for not at all.
        points: the margin so far. kept: SHA-256 of the weights of every adapter in `scratch`, by step.
        resumed_from: steps that an earlier call did.
    """

    manifest: TrainingManifest
    adapted: PeftModel
    scratch: Path
    track: MarginTrack | None
    checkpoints: CheckpointFolder | None
    save_every: int
    replica: Replica
    meter: Meter
    report: Callable[[StepReport], None] | None
    points: list[Point] = field(default_factory=list)
    kept: dict[int, str] = field(default_factory=dict)
    resumed_from: int = 0

    def begin(self, state: FitState) -> None:
        """Goes on from the last checkpoint, if there is a usable one."""
        import torch

        found = self.checkpoints.load() if self.checkpoints is not None else None
        if found is not None:
            kept = {int(step): sha256 for step, sha256 in found.record["kept"].items()}
            if self._are_there(kept):
                restore(state, found, self.replica)
                self.kept, self.points, self.resumed_from = kept, found.record["points"], found.step
        everywhere = torch.stack(self.replica.gather(torch.tensor(state.step)))
        if int(everywhere.min()) != int(everywhere.max()):
            raise TrainingError(
                f"the processes would go on from different steps: {everywhere.tolist()}",
                remedy="Give them a work folder that all of them see, or an empty one.",
            )
        if not self.resumed_from and self.track is not None and self.manifest.initial_adapter is not None:
            self.points.append(self.track.measure(self.adapted, 0))

    def after_step(self, state: FitState) -> bool:
        """Measures, keeps and saves when it is time; true when the margin is lost."""
        step, last, every = state.step, state.step == self.manifest.optimization.steps, self.manifest.checkpoint_every
        lost = False
        if last or (every and step % every == 0):
            if self.track is not None:
                self.points.append(self.track.measure(self.adapted, step))
                lost = self._is_lost()
            if every and step % every == 0 and self.replica.writes:
                self._keep(step)
        if self.checkpoints is not None and step % self.save_every == 0 and not (lost or last):
            # Processes gather their random states here, so all of them come along.
            checkpoint = capture(state, self.replica, {"points": self.points, "kept": {str(k): v for k, v in self.kept.items()}})
            if self.replica.writes:
                self.checkpoints.save(checkpoint)
                self._prune()
        if self.report is not None:
            ratio = self.points[-1]["refusal"]["ratio"] if self.points else None
            self.report(
                StepReport(
                    step=step,
                    steps=self.manifest.optimization.steps,
                    loss=state.losses[-1],
                    throughput=self.meter.read(),
                    margin_ratio=ratio,
                )
            )
        return lost

    @property
    def stopped(self) -> dict[str, Any] | None:
        """Why the run does not return what its last step left: `reason`, `step` (done), `returned_step`; None if it does.

        Raises:
            RefusalMarginLost: no checkpoint is sound.
        """
        rule = self.manifest.early_stop
        if rule is None or is_sound(self.points[-1], rule):
            return None
        done, sound = self.points[-1]["step"], last_sound_step(self.points, rule)
        if sound is None:
            raise RefusalMarginLost(
                f"after {done} steps no checkpoint kept {rule.threshold:.0%} of the base model's refusal margin on"
                f" {self.points[-1]['refusal']['n']} probes",
                remedy="Mix refusals into the training rows, or set checkpoint_every lower.",
            )
        reason = (
            "refusal margin lost" if done < self.manifest.optimization.steps else "refusal margin below the threshold at the end"
        )
        return {"reason": reason, "threshold": rule.threshold, "step": done, "returned_step": sound}

    def kept_folder(self, step: int) -> Path:
        """Where the adapter of a kept checkpoint is."""
        return self.scratch / "kept" / step_name(step)

    def published(self) -> list[int]:
        """Steps of the checkpoints that belong into the finished folder."""
        return sorted(self.kept)[-self.manifest.keep_checkpoints :] if self.manifest.keep_checkpoints else []

    def _is_lost(self) -> bool:
        """What the first process finds, so that all of them stop or none."""
        import torch

        rule = self.manifest.early_stop
        if rule is None:
            return False
        return bool(self.replica.gather(torch.tensor(is_lost(self.points, rule), dtype=torch.uint8))[0])

    def _keep(self, step: int) -> None:
        """Keeps the adapter of this step if it is among those wanted, and forgets those that no longer are."""
        rule, last = self.manifest.early_stop, self.manifest.keep_checkpoints
        wanted = set(sorted({*self.kept, step})[-last:]) if last else set()
        if rule is not None and (sound := last_sound_step(self.points, rule)) is not None:
            wanted.add(sound)
        if step in wanted:
            place = self.kept_folder(step)
            shutil.rmtree(place, ignore_errors=True)  # an interrupted run was here before
            with whole_folder(place) as working:
                save_adapter(self.adapted, working, base_name=self.manifest.base.name)
            self.kept[step] = file_sha256(place / WEIGHTS_FILE)
        self.kept = {step: sha256 for step, sha256 in self.kept.items() if step in wanted}
        if self.checkpoints is None:
            self._prune()

    def _prune(self) -> None:
        """Removes forgotten adapters. With checkpoints not before the next one is saved: the last one may refer to them."""
        names = {step_name(step) for step in self.kept}
        for place in (self.scratch / "kept").glob("step-*"):
            if place.name not in names:
                shutil.rmtree(place)

    def _are_there(self, kept: dict[int, str]) -> bool:
        assert self.checkpoints is not None
        for step, sha256 in kept.items():
            file = self.kept_folder(step) / WEIGHTS_FILE
            if not file.is_file() or file_sha256(file) != sha256:
                self.checkpoints.notes.append(f"the checkpoint is not used: the adapter {file} it refers to is missing or damaged")
                return False
        return True
