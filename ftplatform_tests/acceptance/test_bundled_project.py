"""The demonstration, as a user runs it: three adapters, one released, two refused, each for its own reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftplatform.release.bundle import verify_release
from ftplatform.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("demo") / "project"
    environment = {k: v for k, v in os.environ.items() if k not in {"DAGSTER_HOME", "FTPLATFORM_PROJECT"}}
    command = [sys.executable, "-m", "ftplatform.cli", "demo", str(folder), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, json.loads(done.stdout)


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
    assert kept == {**dict.fromkeys(sides, "pass"), "refusal_margin_drift": "pass"}
    assert lost["refusal_retention"] == "fail"
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
