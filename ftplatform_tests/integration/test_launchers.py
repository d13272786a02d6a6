"""The launchers with the real trainer: one manifest, the same bytes wherever it runs; what is killed leaves nothing; nobody listens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from ftplatform.defs.training_pipes import launcher_in_run
from ftplatform.errors import TrainingError
from ftplatform.training.launchers import LauncherName, Options, ProcessOptions, RayOptions, launch
from ftplatform.training.manifest import LoraSettings, TrainingManifest
from ftplatform.training.train import TrainingResult
from ftplatform_tests.unit.training.conftest import base_model, conversations, manifest_of

__all__ = ["base_model", "conversations", "manifest_of"]

Rows = list[list[dict[str, Any]]]
Build = Callable[..., TrainingManifest]


def trainers(marker: Path) -> list[psutil.Process]:
    """Processes, of whatever parent, that work on a folder below `marker`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        named = any(str(marker) in part for part in process.info["cmdline"] or ())
        if named and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(process)
    return found


def left_in(folder: Path) -> list[str]:
    """Files and folders beside the rows the manifests are made of."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("rows-"))


@pytest.fixture(autouse=True)
def _no_orphans(tmp_path: Path) -> Iterator[None]:
    yield
    _, alive = psutil.wait_procs(trainers(tmp_path), timeout=15)
    assert not alive, [process.cmdline() for process in alive]


@pytest.fixture(scope="module", autouse=True)
def _loopback_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        # Read when Ray is first imported, see engine.on_ray.
        environment.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


def through_pipes(
    manifest: TrainingManifest, out: Path, instance: dg.DagsterInstance, options: Options | None = None
) -> tuple[TrainingResult, dg.ExecuteInProcessResult]:
    """A run of one asset that trains."""
    results: list[TrainingResult] = []

    @dg.asset
    def adapter(context) -> dg.MaterializeResult:  # Dagster reads annotations when it decorates
        results.append(launcher_in_run(context, "pipes", options)(manifest, out))
        return dg.MaterializeResult(metadata={"adapter": results[0].adapter_sha256})

    run = dg.materialize([adapter], instance=instance)
    return results[0], run


def test_one_manifest_is_one_closure_wherever_it_runs(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifest = manifest_of(conversations)
    steps: dict[str, list[int]] = {}

    def at(name: LauncherName, options: Options | None = None) -> TrainingResult:
        heard = steps.setdefault(name, [])
        return launch(manifest, tmp_path / name, launcher=name, options=options, progress=lambda step, _loss: heard.append(step))

    results = {
        "in_process": at("in_process"),
        "subprocess": at("subprocess", ProcessOptions(timeout_seconds=300)),
        "torchrun": at("torchrun"),
        "ray": at("ray", RayOptions(cpus=1)),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        results["pipes"], run = through_pipes(manifest, tmp_path / "pipes", instance)
        said = [entry.user_message for entry in instance.all_logs(run.run_id) if entry.dagster_event is None]
    assert {r.manifest_sha256 for r in results.values()} == {manifest.sha256()}
    assert len({r.adapter_sha256 for r in results.values()}) == 1, results
    assert all(r.folder == tmp_path / name for name, r in results.items())
    for file in ("adapter_config.json", "adapter_model.safetensors", "loss.json", "training_manifest.json"):
        assert len({(r.folder / file).read_bytes() for r in results.values()}) == 1, file
    # Launchers with a process of their own give it the same environment.
    own = [r.folder for name, r in results.items() if name != "in_process"]
    assert len({(folder / "environment.json").read_bytes() for folder in own}) == 1
    assert all(heard == [1, 2, 3, 4, 5, 6] for heard in steps.values())
    assert left_in(tmp_path) == ["in_process", "pipes", "ray", "subprocess", "torchrun"]
    # Pipes: first and last step are in the run's log, the metrics in the metadata of what it materialized.
    assert next(line for line in said if line.startswith("step ")).startswith("step 1 of 6: loss ")
    assert any(line.startswith(f"step 6 of 6: loss {results['pipes'].losses[-1]:.4f} nats") for line in said)
    metadata = run.asset_materializations_for_node("adapter")[0].metadata
    assert metadata["training_loss"].value == results["pipes"].losses[-1]
    assert metadata["training_steps"].value == 6


def test_two_processes_repeat_themselves_and_come_close_to_one(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    one = manifest_of(conversations, precision="fp32")
    two = manifest_of(conversations, precision="fp32", world=2)
    assert one.sha256() != two.sha256(), "sums over two parts end in other last bits"
    single = launch(one, tmp_path / "one")
    first, second = (launch(two, tmp_path / name, launcher="torchrun") for name in ("two", "again"))
    assert first.adapter_sha256 == second.adapter_sha256
    assert first.adapter_sha256 != single.adapter_sha256, "if they were equal, world would not belong to the identity"
    assert first.losses == pytest.approx(single.losses, rel=1e-5)
    expected, found = (load_file(r.folder / "adapter_model.safetensors") for r in (single, first))
    assert expected.keys() == found.keys()
    moved = max(float(tensor.abs().max()) for tensor in expected.values())
    apart = max(float((expected[name] - found[name]).abs().max()) for name in expected)
    print(f"largest weight {moved:.4f}, largest difference {apart:.2e}")
    assert apart < 1e-3 * moved
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
    with pytest.raises(TrainingError, match="for 2 processes and 1 train it"):
        launch(two, tmp_path / "alone", launcher="subprocess")


def listening(processes: list[psutil.Process]) -> set[str]:
    return {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_torchrun_listens_on_loopback_only(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    processes: list[int] = []

    def look(step: int, loss: float) -> None:
        running = trainers(tmp_path)
        processes.append(len(running))
        seen.append(listening(running))

    launch(manifest_of(conversations, steps=3, world=2), tmp_path / "adapter", launcher="torchrun", progress=look)
    assert processes[0] == 3, "torchrun and two trainers"
    assert seen[0], "gloo listens somewhere"
    assert set().union(*seen) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_usual_way_to_start_torchrun_listens_everywhere(tmp_path: Path) -> None:
    """What `torchrun` avoids."""
    script = tmp_path / "wait.py"
    script.write_text("import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)\n")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=1",
        str(script),
        str(tmp_path / "up"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        try:
            while not (tmp_path / "up").exists():
                assert agent.poll() is None
            assert listening([psutil.Process(agent.pid)]) & {"::", "0.0.0.0"}
        finally:
            agent.terminate()


def kill_one(marker: Path, which: Callable[[list[str]], bool]) -> Callable[[int, float], None]:
    """A progress callback that kills a process after the second step."""

    def kill(step: int, loss: float) -> None:
        if step == 2:
            chosen = [process for process in trainers(marker) if which(process.cmdline())]
            os.kill(chosen[-1].pid, signal.SIGKILL)

    return kill


def test_a_killed_trainer_leaves_nothing_and_the_next_run_goes_on(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    long = manifest_of(conversations, steps=4000, world=2)

    def torchrun_itself(command: list[str]) -> bool:
        return "torch.distributed.run" in command

    for name, which in {"worker": lambda command: not torchrun_itself(command), "torchrun": torchrun_itself}.items():
        with pytest.raises(TrainingError, match="was killed by signal 9") as caught:
            launch(long, tmp_path / "adapter", launcher="torchrun", progress=kill_one(tmp_path, which))
        assert "memory" in caught.value.remedy, name
        assert left_in(tmp_path) == []
    alone = manifest_of(conversations, steps=150)
    with pytest.raises(TrainingError, match="was killed by signal 9"):
        launch(
            alone,
            tmp_path / "adapter",
            launcher="subprocess",
            work=tmp_path / "work",
            save_every=1,
            progress=kill_one(tmp_path, lambda command: True),
        )
    assert left_in(tmp_path) == ["work"]
    resumed = launch(alone, tmp_path / "adapter", launcher="subprocess", work=tmp_path / "work")
    assert resumed.resumed_from >= 1
    assert resumed.adapter_sha256 == launch(alone, tmp_path / "whole").adapter_sha256


def test_errors_arrive_as_what_they_were(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    for name, manifest in {
        "torchrun": manifest_of(conversations, world=2, lora=LoraSettings(target_modules=("no_such_module",))),
        "ray": manifest_of(conversations, lora=LoraSettings(target_modules=("no_such_module",))),
    }.items():
        with pytest.raises(TrainingError, match="no adapter fits tarnwell-base-1m") as caught:
            launch(manifest, tmp_path / "adapter", launcher=name)  # pyright: ignore[reportArgumentType]
        assert "target_modules" in caught.value.remedy
        assert left_in(tmp_path) == []


def test_ray_ends_the_trainer_with_its_caller_and_with_its_worker(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    long = manifest_of(conversations, steps=4000)

    def interrupt(step: int, loss: float) -> None:
        assert len(trainers(tmp_path)) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(long, tmp_path / "adapter", launcher="ray", progress=interrupt)
    assert not psutil.wait_procs(trainers(tmp_path), timeout=15)[1]

    def kill_the_worker(step: int, loss: float) -> None:
        if step == 2:
            (trainer,) = trainers(tmp_path)
            os.kill(trainer.ppid(), signal.SIGKILL)

    with pytest.raises(TrainingError, match="the Ray task ended without a result"):
        launch(long, tmp_path / "adapter", launcher="ray", progress=kill_the_worker)
    assert not psutil.wait_procs(trainers(tmp_path), timeout=15)[1]
    assert left_in(tmp_path) == []
    with pytest.raises(TrainingError, match="no machine of the Ray cluster has 1 CPU, 3 unobtainium"):
        launch(long, tmp_path / "adapter", launcher="ray", options=RayOptions(resources={"unobtainium": 3}))


#: A process that materializes an asset which trains through Pipes, as a run of Dagster does.
_RUN = """
import json, sys
from pathlib import Path
import dagster as dg
from ftplatform.defs.training_pipes import launcher_in_run
from ftplatform.training.manifest import TrainingManifest

@dg.asset
def adapter(context: dg.AssetExecutionContext) -> None:
    manifest = TrainingManifest.from_record(json.loads(Path(sys.argv[1]).read_text()))
    launcher_in_run(context, "pipes")(manifest, Path(sys.argv[2]), progress=lambda step, _: print("step", step, flush=True))

with dg.DagsterInstance.ephemeral() as instance:
    dg.materialize([adapter], instance=instance, raise_on_error=False)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_dagster_run_that_ends_ends_its_trainers(
    manifest_of: Build, conversations: Rows, tmp_path: Path, how: signal.Signals
) -> None:
    request = tmp_path / "rows-manifest.json"
    request.write_text(json.dumps(manifest_of(conversations, steps=40000, world=2).to_record()))
    command = [sys.executable, "-c", _RUN, str(request), str(tmp_path / "adapter")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("step")
        children = [process for process in trainers(tmp_path) if process.pid != parent.pid]
        assert len(children) == 3
        parent.send_signal(how)
        assert not psutil.wait_procs(children, timeout=30)[1]
        parent.wait(30)
    assert not (tmp_path / "adapter").exists()
    if how == signal.SIGTERM:
        assert left_in(tmp_path) == []
