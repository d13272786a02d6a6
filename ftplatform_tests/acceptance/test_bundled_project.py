"""The demonstration, as a user runs it: three adapters, one released, two refused, each for its own reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftplatform.release.bundle import verify_release
from ftplatform.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("demo") / "project"
    return folder, ftplatform("demo", str(folder))


def ftplatform(*arguments: str) -> dict:
    """What a command says, which has to end well."""
    environment = {k: v for k, v in os.environ.items() if k not in {"DAGSTER_HOME", "FTPLATFORM_PROJECT"}}
    command = [sys.executable, "-m", "ftplatform.cli", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return json.loads(done.stdout)


def decisions(demo, asset: str) -> dict[str, str]:
    return {c["check"]: c["decision"] for c in demo[1]["checks"] if c["asset"] == asset}


@pytest.mark.timeout(1800)
def test_one_is_released_and_two_are_refused(demo):
    assert demo[1]["errors"] == {}
    assert {a["adapter"]: a["state"] for a in demo[1]["adapters"]} == {
        "support": "released",
        "support-unaligned": "refused",
        "support-synthetic": "refused",
    }


def test_refusals_in_the_mix_keep_what_the_same_recipe_without_them_loses(demo):
    kept, lost = decisions(demo, "eval_results/support"), decisions(demo, "eval_results/support-unaligned")
    sides = ("refusal_retention", "overrefusal_retention", "helpfulness_retention", "task_regression")
    assert kept == {**dict.fromkeys(sides, "pass"), "refusal_margin_drift": "pass", "metric_breadth": "pass"}
    assert lost["refusal_retention"] == lost["metric_breadth"] == "fail"
    assert lost["task_regression"] == "pass", "the task metric alone would have shipped it"


def test_unlike_inputs_are_refused_before_training(demo):
    assert decisions(demo, "synthetic/imagined")["input_surface_match"] == "fail"
    assert set(decisions(demo, "adapters/support-synthetic").values()) == {"not run"}


def test_every_check_carries_the_keys_of_the_contract(demo):
    keys = {
        "asset", "check", "decision", "statistic", "estimate", "ci_low", "ci_high", "confidence", "n", "n_required", "threshold",
        "baseline", "evidence", "remedy", "check_version", "config_hash",
    }  # fmt: skip
    judged = [c for c in demo[1]["checks"] if c["decision"] != "not run"]
    assert len(judged) > 40
    assert all(keys <= c.keys() for c in judged)


def test_the_released_bundle_verifies(demo):
    snapshot = Store.open(str(demo[0] / ".ftplatform" / "store")).current("releases/support")
    assert verify_release(snapshot.local_folder()) == []


@pytest.mark.timeout(1800)
def test_the_released_adapter_can_move_to_the_next_version_of_its_base(demo):
    """The next version: the same model, its weights nudged by up to half a percent as some more steps of pre-training would."""
    folder = demo[0]
    shutil.copytree(folder / "base_model", folder / "next_model")
    weights = load_file(folder / "base_model" / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    nudged = {
        name: (w.float() * (0.995 + 0.01 * torch.rand(w.shape, generator=generator))).to(w.dtype) for name, w in weights.items()
    }
    assert any(not torch.equal(w, nudged[name]) for name, w in weights.items())
    save_file(nudged, folder / "next_model" / "model.safetensors", metadata={"format": "pt"})
    file = folder / "ftplatform.yaml"
    text = file.read_text()
    start = text.index("  tarnwell-base-1m:")
    block = text[start : text.index("\nadapters:", start)]
    file.write_text(
        text.replace(block, block + "\n" + block.replace("tarnwell-base-1m", "next").replace("base_model\n", "next_model\n"))
    )

    project = ("--project", str(file))
    ftplatform("run", "base_models/next", *project)
    said = ftplatform("migrate", "support", "--to", "next", "--learning-rates", "1", *project)
    assert (said["migrate"], said["verdict"]["decision"]) == (True, "pass")
    assert said["differences"]["missing"] == []
    assert {side: verdict["decision"] for side, verdict in said["alignment"].items()} == dict.fromkeys(
        ("refusals", "answers to safe prompts", "helpfulness"), "pass"
    )
