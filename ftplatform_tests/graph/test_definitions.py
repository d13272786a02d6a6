"""The whole code location of the bundled project: every asset, check, job, schedule and sensor is looked at."""

from __future__ import annotations

import dagster as dg
import pytest

from ftplatform.defs.build import build_defs
from ftplatform.defs.io_managers import SnapshotIOManager
from ftplatform.defs.keys import Family, from_key, to_key
from ftplatform.defs.op_tags import GPU_OP_TAGS, GPU_POOL
from ftplatform_tests.projects import REPOSITORY, plan_of, small_project


@pytest.fixture(scope="module")
def plan():
    return plan_of(REPOSITORY / "examples" / "support" / "ftplatform.yaml")


@pytest.fixture(scope="module")
def definitions(plan):
    return build_defs(plan.loaded)


@pytest.fixture(scope="module")
def graph(definitions):
    return definitions.resolve_asset_graph()


def test_the_bundled_project_has_every_family(graph):
    # Its answers are scored by metrics: it has no rubric (`test_rubrics`).
    assert {key.path[0] for key in graph.get_all_asset_keys()} == {str(family) for family in Family} - {Family.RUBRICS}


def test_dagster_and_lineage_agree(plan, graph):
    for asset in plan.lineage.assets:
        parents = {from_key(k) for k in graph.get(to_key(asset)).parent_keys}
        ledger = {"license_ledger"} if asset.startswith("adapters/") else set()
        assert parents == {*plan.lineage.parents[asset], *plan.lineage.governing(asset)} | ledger


def test_every_asset_says_what_it_is(graph):
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name == key.path[0]
        assert node.description
        assert node.kinds
        assert node.code_version, f"without a code version Dagster would use the run id for {key}"
        assert node.tags["ftplatform/family"] == key.path[0]


def test_no_asset_uses_a_pickling_io_manager(definitions):
    repository = definitions.get_repository_def()
    for key in definitions.resolve_asset_graph().get_all_asset_keys():
        assets_def = repository.assets_defs_by_key[key]
        assert assets_def.get_io_manager_key_for_asset_key(key) == "io_manager"
    assert isinstance(definitions.resources["io_manager"], SnapshotIOManager)


def test_accelerator_steps_carry_pool_and_tags(definitions):
    repository = definitions.get_repository_def()
    seen = 0
    for key, assets_def in repository.assets_defs_by_key.items():
        if key.path[0] in {"adapters", "eval_results"}:
            assert assets_def.op.pool == GPU_POOL
            assert assets_def.op.tags.keys() >= GPU_OP_TAGS.keys()
            seen += 1
    assert seen


def test_the_gate_of_an_adapter_is_every_blocking_check_upstream(plan, graph):
    for asset in plan.lineage.assets:
        if asset.split("/")[0] not in {"adapters", "eval_results", "releases"}:
            continue
        upstream = {from_key(k) for k in dg.AssetSelection.assets(to_key(asset)).upstream().resolve(graph)} - {
            asset,
            "license_ledger",
        }
        # Training and release obey what a reward ledger says; what was trained may be evaluated whatever it says since.
        upstream -= set(plan.lineage.governing("adapters/support")) - set(plan.lineage.governing(asset))
        blocking = {
            (from_key(key.asset_key), key.name)
            for key in graph.asset_check_keys
            if from_key(key.asset_key) in upstream and graph.get(key).blocking
        }
        warns = {(c.asset, c.name) for c in plan.checks if c.severity == "warn"}
        assert {(c.asset, c.name) for c in plan.gates_of(asset)} == blocking - warns
        assert blocking, f"{asset} is not gated"


def test_every_stage_is_gated(plan):
    guarded = {check.asset.split("/")[0] for check in plan.checks if check.blocking}
    assert guarded >= {
        "raw",
        "synthetic",
        "feedback",
        "corpora",
        "splits",
        "eval_sets",
        "base_models",
        "adapters",
        "eval_results",
        "releases",
    }


def test_nothing_blocks_with_severity_warn(plan):
    assert all(check.severity == "error" or not check.required or check.severity == "warn" for check in plan.checks)
    # What only a vault has to be large enough for, and what rests on rehearsals; the bundled project has no vault and asks for none.
    asked_for = {"triage_leak", "contamination_paraphrase", "closure_replay", "closure_equivalent", "bus_factor"}
    assert all(plan.lineage.is_upstream_of_release(c.asset) == c.required for c in plan.checks if c.name not in asked_for)
    assert not any(c.required for c in plan.checks if c.name in asked_for)


def test_overrides_of_the_project_reach_the_checks(tmp_path):
    plan = plan_of(
        small_project(
            tmp_path, lambda p: p.update(gates={"slice_survival": {"severity": "warn"}, "task_regression": {"threshold": 0.1}})
        )
    )
    by_name = {(c.asset, c.name): c for c in plan.checks}
    assert by_name["splits/one", "slice_survival"].severity == "warn"
    assert by_name["eval_results/first", "task_regression"].threshold == 0.1
    assert ("splits/one", "slice_survival") not in {(c.asset, c.name) for c in plan.gates_of("adapters/first")}


def test_jobs_schedules_and_sensors(definitions):
    repository = definitions.get_repository_def()
    assert {s.name for s in repository.schedule_defs} == {"nightly"}
    assert {s.name for s in repository.sensor_defs} >= {"license_declarations", "source_content", "check_failure_alert"}
    nightly = repository.get_job("revalidate")
    assert not nightly.asset_layer.selected_asset_keys, "the nightly job must not be able to materialize anything"
    assert len(nightly.asset_layer.asset_graph.asset_check_keys) > 0
