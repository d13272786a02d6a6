"""Training settings as a user declares them: margins along the run, kept checkpoints, a continued adapter, another launcher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.plan import Plan
from ftplatform.project.problems import ProjectFileError
from ftplatform_tests.projects import REPOSITORY, edit, plan_of, small_project, write_jsonl

PROBES = REPOSITORY / "examples" / "support" / "data" / "eval"
FIRST, SECOND = "adapters/first", "adapters/second"


def with_probes(project: dict[str, Any]) -> None:
    license_ = project["sources"]["tickets"]["license"]
    for name, kind in (("harmful", "refusal_probes"), ("alarming", "overrefusal_probes")):
        project["eval_sets"][name] = {"path": f"data/{name}.jsonl", "kind": kind, "license": license_, "max_new_tokens": 4}
    first, second = project["adapters"]["first"], project["adapters"]["second"]
    first["training"] = {**first["training"], "steps": 6, "checkpoint_every": 2, "keep_checkpoints": 2, "micro_batches": 2}
    first |= {"margin_probes": {"refusal": "harmful", "safe": "alarming"}, "evals": ["questions"], "release": False}
    # Declared before the adapter it continues.
    project["adapters"] = {"second": {**second, "continues": "first", "launcher": "pipes", "release": False}, "first": first}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, running.RunOutcome]]:
    root = tmp_path_factory.mktemp("settings")
    file = small_project(root, with_probes)
    for name, source in (("harmful", "refusal_probes"), ("alarming", "overrefusal_probes")):
        lines = (PROBES / f"{source}.jsonl").read_text().splitlines()
        write_jsonl(root / "data" / f"{name}.jsonl", [json.loads(line) for line in lines[::8][:40]])
    with dg.DagsterInstance.ephemeral() as instance:
        plan = plan_of(file)
        yield plan, running.materialize(plan, instance)


def test_the_margin_is_followed_and_checkpoints_are_kept(world: tuple[Plan, running.RunOutcome]) -> None:
    plan, outcome = world
    assert outcome.errors == {}
    adapter = plan.open_store().current(FIRST)
    points = adapter.read_json("training/trajectory.json")["points"]
    assert [point["step"] for point in points] == [2, 4, 6]
    assert all(point["refusal"]["n"] == 40 for point in points)
    kept = sorted(file.path for file in adapter.files if "/checkpoints/" in file.path and file.path.endswith(".safetensors"))
    assert len(kept) == 2
    closure = adapter.read_json("closure/closure.json")
    assert closure["hyperparameters"]["optimization"]["micro_batches"] == 2
    assert closure["hyperparameters"]["checkpoint_every"] == 2
    # The probes measured and did not choose.
    assert {i["role"] for i in closure["inputs"] if i["asset"].startswith("eval_sets/")} == {"evaluates"}
    assert not list((plan.root / ".ftplatform" / "training").glob("*")), "nothing is left to resume"


def test_a_continued_adapter_starts_where_the_other_ended_and_says_so(world: tuple[Plan, running.RunOutcome]) -> None:
    plan, _ = world
    store = plan.open_store()
    first, second = store.current(FIRST), store.current(SECOND)
    assert {ref.asset: ref.role for ref in second.inputs}[FIRST] == "continued_adapter"
    kept = second.read_bytes("training/initial_adapter/adapter_model.safetensors")
    assert kept == first.read_bytes("adapter/adapter_model.safetensors")
    assert plan.lineage.ancestors(SECOND)[-1] == FIRST
    # Whatever taints the first reaches the second.
    assert SECOND in plan.lineage.descendants(["raw/tickets"])
    closure = second.read_json("closure/closure.json")
    assert [path for path, _ in closure["hyperparameters"]["initial_adapter"]] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"first": {"continues": "second"}}, "continues itself"),
        ({"first": {"margin_probes": {"refusal": "alarming", "safe": "harmful"}}}, "kind 'overrefusal_probes'"),
        ({"second": {"training": {"steps": 2, "lora": {"rank": 4}}}}, "other 'training.lora' settings"),
        ({"second": {"training": {"steps": 2, "lora": {"rank": 2}, "early_stop": {}}}}, "checkpoint_every"),
        ({"first": {"processes": 2}}, "the launcher 'in_process' is one process"),
        ({"first": {"launcher": "kubernetes"}}, "needs a 'kubernetes' block"),
        ({"first": {"timeout_seconds": 5}}, "a process that can be ended"),
    ],
)
def test_settings_that_do_not_go_together_are_named(tmp_path: Path, change: dict[str, dict[str, Any]], said: str) -> None:
    file = small_project(tmp_path, with_probes)
    for name in ("harmful", "alarming"):
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", [{"prompt": "x", "category": "y"}])
    with pytest.raises(ProjectFileError, match=said):
        edit(file, lambda project: [project["adapters"][name].update(new) for name, new in change.items()])
