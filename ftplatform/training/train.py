"""`train`: from a manifest to a folder with an adapter. No orchestrator, no network, no state besides the folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftplatform.canonical import digest
from ftplatform.errors import TrainingError
from ftplatform.training.base_model import file_sha256
from ftplatform.training.checkpoint import CheckpointFolder, step_name
from ftplatform.training.encode import EncodedRows, encode_rows
from ftplatform.training.environment import describe_environment, repro_class
from ftplatform.training.folder import whole_folder, write_json
from ftplatform.training.loading import load_base, require_same_base, require_same_files
from ftplatform.training.loop import fit
from ftplatform.training.lora import CONFIG_FILE, WEIGHTS_FILE, add_adapter, save_adapter, start_from
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.numerics import numerics
from ftplatform.training.packing import require_isolation
from ftplatform.training.replica import Replica
from ftplatform.training.result import TrainingResult
from ftplatform.training.safetensors_guard import check_model_folder
from ftplatform.training.session import Session, StepReport
from ftplatform.training.throughput import Meter, multiplied_parameters, peak_flops
from ftplatform.training.training_rows import read_named_rows
from ftplatform.training.trajectory import MarginTrack

if TYPE_CHECKING:
    from peft import PeftModel

LOSS_FILE, MANIFEST_FILE, ENVIRONMENT_FILE = "loss.json", "training_manifest.json", "environment.json"
TRAJECTORY_FILE, CHECKPOINTS_FOLDER = "trajectory.json", "checkpoints"

#: Called with (steps done, loss of the last step).
Progress = Callable[[int, float], None]


def train(
    manifest: TrainingManifest,
    out: Path,
    *,
    progress: Progress | None = None,
    report: Callable[[StepReport], None] | None = None,
    work: Path | None = None,
    save_every: int = 100,
    replica: Replica | None = None,
) -> TrainingResult:
    """Trains the adapter the manifest describes and writes it as folder `out`, whole or not at all.

    The folder holds `adapter_model.safetensors`, `adapter_config.json` (PEFT), `loss.json`, `training_manifest.json` and
    `environment.json`; with probes `trajectory.json`; with kept checkpoints `checkpoints/step-000100` and so on, each an adapter. Same
    manifest on the same hardware class: the same bytes, interrupted or not.

    Args:
        manifest: see `manifest.prepare`.
        out: folder to create; must not exist or be empty.
        progress: called after every step. report: likewise, with more, see `StepReport`.
        work: folder for checkpoints of interrupted runs, several manifests may share it; a call with the same manifest goes on
            from the last one. What the run put there is removed when `out` is complete.
        save_every: steps between checkpoints in `work`.
        replica: which of several processes this is. The first one writes; all return the same result but for times and throughput.

    Raises:
        TrainingError: bytes on disk are not those the manifest names, `out` is taken, or training cannot proceed.
        RefusalMarginLost: the manifest stops early on the refusal margin, and no checkpoint kept it.
        UnsafeModel: the base model or the adapter to continue may run code or is malformed.
    """
    started, cpu = time.perf_counter(), time.process_time()
    replica = replica or Replica()
    if replica.world != manifest.world:
        raise TrainingError(
            f"the manifest is for {manifest.world} processes and {replica.world} train it",
            remedy="Start as many, or prepare a manifest for this number.",
        )
    if save_every < 1:
        raise TrainingError(f"a checkpoint every {save_every} steps cannot be", remedy="Give a save_every of at least 1.")
    if out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out} already holds something", remedy="Give a new folder for every run.")
    base = Path(manifest.base_folder)
    check_model_folder(base)
    require_same_base(manifest.base, base)
    rows = read_named_rows(manifest.rows_path, manifest.rows_sha256, "rows")
    with (
        numerics(device=manifest.device, threads=manifest.threads, deterministic=manifest.deterministic),
        _scratch(manifest, work, removes=replica.writes) as scratch,
    ):
        model, tokenizer = load_base(base, device=manifest.device, precision=manifest.precision)
        pad_token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        encoded = encode_rows(rows, tokenizer, max_tokens=manifest.max_tokens)
        meter = Meter(multiplied_parameters(model), _peak(manifest))
        adapted = _adapted(manifest, model)
        environment = describe_environment(manifest.device)
        session = Session(
            manifest=manifest,
            adapted=adapted,
            scratch=scratch,
            track=_track(manifest, adapted, tokenizer, pad_token),
            checkpoints=CheckpointFolder(scratch, manifest.sha256(), digest(environment)) if work is not None else None,
            save_every=save_every,
            replica=replica,
            meter=meter,
            report=report,
        )
        losses = fit(
            adapted,
            encoded.examples,
            manifest.optimization,
            pad_token=pad_token,
            bf16=manifest.precision == "bf16",
            progress=progress,
            pack_to=manifest.max_tokens if manifest.packing else None,
            replica=replica,
            observer=session,
            meter=meter,
        )
        stopped = session.stopped
        if replica.writes:
            with whole_folder(out) as folder:
                _write_adapter(session, folder, stopped)
                write_json(folder / LOSS_FILE, {"unit": "nats per trained token", "loss": losses, "encoding": _encoding(encoded)})
                write_json(folder / MANIFEST_FILE, manifest.identity())
                write_json(folder / ENVIRONMENT_FILE, environment)
                if session.track is not None and manifest.probes is not None:
                    learned = manifest.probes.openings is None
                    record = session.track.record(session.points, tokenizer, learned=learned, stopped=stopped)
                    write_json(folder / TRAJECTORY_FILE, record)
        adapter = _from_first(replica, file_sha256(out / WEIGHTS_FILE) if replica.writes else None)
    return TrainingResult(
        folder=out,
        adapter_sha256=adapter,
        manifest_sha256=manifest.sha256(),
        losses=tuple(losses),
        encoding=_encoding(encoded),
        repro_class=repro_class(manifest.device),
        throughput=meter.read(),
        stopped=stopped,
        resumed_from=session.resumed_from,
        notes=tuple(session.checkpoints.notes) if session.checkpoints is not None else (),
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - started,
    )


@contextmanager
def _scratch(manifest: TrainingManifest, work: Path | None, *, removes: bool) -> Iterator[Path]:
    """The run's own folder: in `work`, where it outlives anything but success, or else a temporary one."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="ftplatform-training-") as folder:
            yield Path(folder)
        return
    own = work / manifest.sha256()[:16]
    own.mkdir(parents=True, exist_ok=True)
    yield own
    if removes:
        shutil.rmtree(own, ignore_errors=True)


def _adapted(manifest: TrainingManifest, model: Any) -> PeftModel:
    if manifest.packing:
        require_isolation(model)
    if manifest.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    adapted = add_adapter(model, manifest.lora, base_name=manifest.base.name, seed=manifest.adapter_seed)
    if manifest.initial_adapter is not None:
        folder = Path(_location(manifest.initial_adapter_folder, "initial_adapter_folder"))
        require_same_files(manifest.initial_adapter, folder)
        start_from(adapted, folder)
    return adapted


def _track(manifest: TrainingManifest, adapted: PeftModel, tokenizer: Any, pad_token: int) -> MarginTrack | None:
    probes = manifest.probes
    if probes is None:
        return None
    track = MarginTrack.begin(
        adapted,
        tokenizer,
        read_named_rows(_location(manifest.refusal_probes_path, "refusal_probes_path"), probes.refusal_sha256, "refusal probes"),
        read_named_rows(_location(manifest.safe_probes_path, "safe_probes_path"), probes.safe_sha256, "safe probes"),
        probes.openings,
        max_tokens=manifest.max_tokens,
        pad_token=pad_token,
    )
    if manifest.early_stop is not None:
        track.require_room_to_lose()
    return track


def _write_adapter(session: Session, folder: Path, stopped: Mapping[str, Any] | None) -> None:
    """The adapter to be returned at the top, kept checkpoints below it."""
    if stopped is None:
        save_adapter(session.adapted, folder, base_name=session.manifest.base.name)
    else:
        shutil.copytree(session.kept_folder(stopped["returned_step"]), folder, dirs_exist_ok=True)
    for step in session.published():
        shutil.copytree(session.kept_folder(step), folder / CHECKPOINTS_FOLDER / step_name(step))


def _peak(manifest: TrainingManifest) -> float | None:
    """Of the GPU, where matrix products run in the type the table is for."""
    import torch

    if manifest.device != "cuda" or manifest.precision != "bf16":
        return None
    return peak_flops(torch.cuda.get_device_name())


def _from_first(replica: Replica, sha256: str | None) -> str:
    """The hash the first process has; the others wait for it, and with it for the files."""
    import torch

    own = torch.tensor(list(bytes.fromhex(sha256)) if sha256 is not None else [0] * 32, dtype=torch.uint8)
    return bytes(replica.gather(own)[0].tolist()).hex()


def _location(path: str | None, name: str) -> str:
    if path is None:
        raise TrainingError(
            f"the manifest does not say where {name} is", remedy="Add it to the manifest's record; it is no identity."
        )
    return path


def _encoding(encoded: EncodedRows) -> dict[str, Any]:
    return {
        "rows": len(encoded.examples),
        "tokens": encoded.tokens,
        "trained_tokens": encoded.trained_tokens,
        "cut_rows": encoded.cut,
        "left_out_rows": [{"row_id": row, "reason": why} for row, why in encoded.left_out],
        "sha256": encoded.sha256(),
    }


__all__ = [
    "CHECKPOINTS_FOLDER", "CONFIG_FILE", "ENVIRONMENT_FILE", "LOSS_FILE", "MANIFEST_FILE", "TRAJECTORY_FILE", "WEIGHTS_FILE",
    "Progress", "StepReport", "TrainingResult", "load_base", "train",
]  # fmt: skip
