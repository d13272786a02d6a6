"""M1, the drill: an adapter comes out of its closure again, without its author, its network, its checkout (CLO-01, 03, 04)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from ftplatform.closure.code_identity import TreeIdentity, package_root, tree_identity
from ftplatform.closure.finding import find_closure
from ftplatform.closure.outcome import Outcome
from ftplatform.closure.rehearsal import record_rehearsal, rehearsals
from ftplatform.closure.rehearsal_checks import closure_replay
from ftplatform.closure.replay import Replay, replay
from ftplatform.defs import running
from ftplatform.store import Store
from ftplatform.verdict import Decision
from ftplatform_tests.acceptance.test_m02_shards import sharded
from ftplatform_tests.projects import dialogues, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.closure.trained import STEPS, conversations, rows_table, trained_adapter

ADAPTER = "adapters/support"

#: The third optimizer step ends the process.
_DIES_AFTER_TWO_STEPS = """    torch.manual_seed(seed)
    import os
    taken, step = [], torch.optim.AdamW.step

    def dying(self, *arguments, **options):
        taken.append(1)
        return os._exit(7) if len(taken) == 3 else step(self, *arguments, **options)

    torch.optim.AdamW.step = dying
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a trained adapter; everything else of the training is gone."""
    folder = tmp_path_factory.mktemp("engineer")
    trained_adapter(Store.open(str(folder / "store")), folder / "work")
    shutil.rmtree(folder / "work")
    return folder / "store"


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Copies this package and replaces a text in one of its files; returns the folder to import it from."""

    def edited(file: str, old: str, new: str) -> Path:
        root = tmp_path / "other"
        shutil.copytree(package_root(), root / "ftplatform", ignore=shutil.ignore_patterns("__pycache__", "examples"))
        target = root / "ftplatform" / file
        assert target.read_text().count(old) == 1, f"{file} no longer says {old!r}"
        target.write_text(target.read_text().replace(old, new))
        return root

    return edited


def trains_in(code: Path) -> Callable[[Any, Path], Any]:
    """A trainer: a fresh process with the package from `code`, as people start it: their script seeds everything first."""
    script = (
        "import random, sys, torch; random.seed(0); torch.manual_seed(0);"
        "from ftplatform.training.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )

    def trainer(manifest: Any, out: Path) -> Any:
        out.parent.mkdir(parents=True, exist_ok=True)
        request = out.parent / f"{out.name}.json"
        request.write_text(json.dumps(manifest.to_record()))
        environment = {"PYTHONPATH": str(code), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-c", script, str(request), str(out)]
        done = subprocess.run(command, env=environment, cwd=out.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        weights = (out / "adapter_model.safetensors").read_bytes()
        return SimpleNamespace(folder=out, manifest_sha256=manifest.sha256(), adapter_sha256=str(hash(weights)), weights=weights)

    return trainer


def drill(store: Store, workspace: Path, **options: Any) -> Replay:
    workspace.mkdir(exist_ok=True)
    return replay(store, store.current(ADAPTER), workspace, **options)


def test_a_stranger_gets_the_same_tensors_from_the_store_alone(
    trained: Path, tmp_path: Path, package: Callable[[str, str, str], Path]
) -> None:
    """CLO-01, CLO-04: another checkout, whose trainer is broken, a store at another place, another user with an odd environment.

    The author's home, project and work are gone. A replay that took the trainer of the checkout, or the variables of the shell, would
    fail or give other bytes.
    """
    store = tmp_path / "restored" / "store"
    shutil.copytree(trained, store)
    checkout = package("training/loop.py", "from ftplatform.errors import TrainingError", "raise ImportError('not this trainer')")
    hostile = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    (tmp_path / "home").mkdir()
    environment = {**hostile, "PYTHONPATH": str(checkout), "PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    command = [
        sys.executable,
        "-m",
        "ftplatform.cli",
        "closure",
        "reproduce",
        "support",
        "--store",
        str(store),
        "--by",
        "a stranger",
    ]
    done = subprocess.run([*command, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert (said["outcome"], said["whole"], said["steps"], said["same_class"]) == ("identical", True, STEPS, True)
    assert said["differences"] == []
    (kept,) = rehearsals(Store.open(str(store)).backend, ADAPTER)
    assert (kept.id, kept.by, kept.succeeded) == (said["record"], "a stranger", True)
    assert kept.closure == find_closure("support", Store.open(str(store))).digest
    assert list((tmp_path / "home").iterdir()) == [], "the drill has a home of its own"


def test_the_first_steps_are_the_first_steps_of_the_whole_run(trained: Path, tmp_path: Path) -> None:
    """The recipe decays its learning rate over all steps: a run of three steps in all has other losses from the second on."""
    store = Store.open(str(trained))
    shown = drill(store, tmp_path / "w", steps=3)
    assert shown.comparison.outcome is Outcome.IDENTICAL
    assert len(shown.losses) == 3
    assert shown.adapter is None
    assert shown.losses == shown.recorded


def test_a_replicate_is_another_adapter(trained: Path, tmp_path: Path) -> None:
    shown = drill(Store.open(str(trained)), tmp_path / "w", seeds={"data_order": 11, "adapter_init": 12})
    assert shown.comparison.outcome is Outcome.DIVERGED
    assert shown.adapter is not None
    assert (shown.adapter / "adapter_model.safetensors").is_file()
    assert len(shown.losses) == STEPS


def test_the_network_is_out_of_reach(tmp_path: Path, package: Callable[[str, str, str], Path]) -> None:
    """A trainer that asks a server. Started as usual it gets through; in the drill the server hears nothing and the replay says why."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        # `_socket` is what lies below Python's socket module: replacing methods of the latter would not see it.
        asks = f"import _socket\n_socket.socket(2, 1).connect(('127.0.0.1', {port}))\nfrom ftplatform.errors import TrainingError"
        code = package("training/loop.py", "from ftplatform.errors import TrainingError", asks)
        store = Store.open(str(tmp_path / "store"))
        trained_adapter(store, tmp_path / "work", package=tree_of(code), trainer=trains_in(code))
        server.accept()[0].close()
        shown = drill(store, tmp_path / "w", steps=1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert shown.comparison.outcome is Outcome.NOT_TRIED
    assert shown.failed
    assert "may not use the network" in shown.comparison.reason
    rehearsal = record_rehearsal(store.backend, store.current(ADAPTER), shown, by="ada")
    assert closure_replay(rehearsal).decision is Decision.FAIL


def test_a_trainer_that_seeds_too_late_is_caught(tmp_path: Path, package: Callable[[str, str, str], Path]) -> None:
    """CLO-03, ADV: the adapter is drawn before the trainer seeds. Two runs agree as long as the caller happens to seed first."""
    code = package("training/lora.py", "    torch.manual_seed(seed)\n", "")
    trainer = trains_in(code)
    made = []

    def once_more(manifest: Any, out: Path) -> Any:
        made.extend([trainer(manifest, out.with_name("twin")), trainer(manifest, out)])
        return made[-1]

    store = Store.open(str(tmp_path / "store"))
    trained_adapter(store, tmp_path / "work", package=tree_of(code), trainer=once_more)
    assert made[0].weights == made[1].weights, "the naive two-run check finds nothing"
    shown = drill(store, tmp_path / "w", steps=3)
    assert shown.comparison.outcome is Outcome.DIVERGED
    assert shown.same_class
    assert shown.losses[0] == shown.recorded[0], "the first loss is that of the base, whatever the adapter"
    assert shown.losses[1] != shown.recorded[1]


def test_the_same_rows_in_another_order_are_refused(tmp_path: Path) -> None:
    """ADV: a storage layer returns the rows in another order; the set is equal, and so is what a hash of the set says."""
    rows = conversations()
    store = Store.open(str(tmp_path / "store"))
    adapter = trained_adapter(store, tmp_path / "work", rows=rows, stored_rows=rows_table(rows[::-1]))
    named = find_closure("support", store).manifest["rows"]
    assert named["count"] == 40
    assert set(adapter.read_table("rows.parquet")["row_id"].to_pylist()) == set(rows_table(rows)["row_id"].to_pylist())
    shown = drill(store, tmp_path / "w", steps=1)
    assert shown.comparison.outcome is Outcome.NOT_TRIED
    assert [change.path for change in shown.differences] == ["/rows/order/sha256"]
    verdict = closure_replay(record_rehearsal(store.backend, adapter, shown, by="ada"))
    assert verdict.decision is Decision.FAIL
    assert "/rows/order/sha256" in verdict.summary


def test_another_class_of_hardware_warns_and_blocks_nothing(trained: Path, tmp_path: Path) -> None:
    """ADV: kernels of another instruction set round otherwise. The losses differ in the last digits; that is no other adapter."""
    store = Store.open(str(trained))
    shown = drill(store, tmp_path / "w", steps=5, variables={"ATEN_CPU_CAPABILITY": "default"})
    assert not shown.same_class
    assert shown.losses != shown.recorded, "equality, or a hash, would call it broken"
    assert shown.comparison.outcome is Outcome.EQUIVALENT, shown.comparison
    assert "/runtime/capability_class" in [change.path for change in shown.differences]
    verdict = closure_replay(record_rehearsal(store.backend, store.current(ADAPTER), shown, by="ada"))
    assert verdict.decision is Decision.WARN


def test_lost_bytes_are_a_replay_that_cannot_start(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "store")
    store = Store.open(str(tmp_path / "store"))
    adapter = store.current(ADAPTER)
    (blob,) = (tmp_path / "store" / "blobs").rglob(adapter.file("rows.parquet").sha256)
    blob.unlink()
    shown = drill(store, tmp_path / "w", steps=1)
    assert (shown.comparison.outcome, shown.failed) == (Outcome.NOT_TRIED, True)
    assert "rows.parquet" in shown.comparison.reason


def test_a_trainer_that_dies_on_the_way_is_no_replay(tmp_path: Path, package: Callable[[str, str, str], Path]) -> None:
    """ADV: two of three losses are there and equal; a comparison of what is there would call that identical."""
    code = package("training/lora.py", "    torch.manual_seed(seed)\n", _DIES_AFTER_TWO_STEPS)
    store = Store.open(str(tmp_path / "store"))
    trained_adapter(store, tmp_path / "work", package=tree_of(code))
    shown = drill(store, tmp_path / "w", steps=3)
    assert shown.comparison.outcome is Outcome.NOT_TRIED
    assert "After 2 of 3 steps" in shown.comparison.reason


def test_an_adapter_in_shards_is_trained_in_its_shards_and_merged(tmp_path: Path) -> None:
    file = small_project(tmp_path / "project", sharded)
    write_jsonl(file.parent / "data" / "mails.jsonl", [*dialogues(20, seed=4)])
    write_jsonl(file.parent / "data" / "elsewhere.jsonl", [*dialogues(20, seed=5)])
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        outcome = running.materialize(plan_of(file), instance, '+key:"adapters/first" or key:"eval_sets/questions"')
    assert outcome.success, (outcome.errors, outcome.refusals)
    store = plan_of(file).open_store()
    adapter = store.current("adapters/first")
    assert len(adapter.facts["shards"]["manifests"]) == 2
    (tmp_path / "w").mkdir()
    shown = replay(store, adapter, tmp_path / "w")
    assert shown.comparison.outcome is Outcome.IDENTICAL, shown
    assert len(shown.losses) == 2 * 2


def tree_of(code: Path) -> TreeIdentity:
    return tree_identity(code / "ftplatform")
