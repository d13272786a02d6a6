"""M1 on the bundled project: its own closure is clean, twelve faults planted into it are found, and its checks read rehearsals."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.closure.complete import closure_complete
from ftplatform.closure.finding import find_closure
from ftplatform.closure.lint import lint
from ftplatform.closure.outcome import Outcome
from ftplatform.closure.rehearsal import PLATFORM, rehearsals
from ftplatform.defs import rehearsals as drills
from ftplatform.defs import running
from ftplatform.defs.checks import Check, evaluate
from ftplatform.defs.plan import Plan
from ftplatform.project.check_names import CHECKS_BY_MODE
from ftplatform.project.scaffold import init_project
from ftplatform.store import Store
from ftplatform.verdict import Decision
from ftplatform_tests.projects import edit, plan_of

ADAPTER = "adapters/support"


@dataclass
class World:
    """The bundled project with a short recipe, trained."""

    file: Path
    instance: dg.DagsterInstance
    outcome: running.RunOutcome

    @property
    def plan(self) -> Plan:
        return plan_of(self.file)

    @property
    def store(self) -> Store:
        return self.plan.open_store()

    def check(self, name: str) -> Check:
        (found,) = (c for c in self.plan.checks if c.asset == ADAPTER and c.name == name)
        return found


def short(project: dict[str, Any]) -> None:
    project["adapters"]["support"]["training"] |= {"steps": 10}
    project["adapters"]["support"]["evals"] = ["support-questions"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bundled")
    file = init_project(folder / "project")
    edit(file, short)
    (folder / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(folder / "home")) as instance:
        needed = f'+key:"{ADAPTER}" or key:"eval_sets/*" or key:"raw/recent-messages" or key:"serving/*"'
        outcome = running.materialize(plan_of(file), instance, needed)
        assert outcome.success, (outcome.errors, outcome.refusals)
        yield World(file, instance, outcome)


@pytest.fixture(scope="module")
def manifest(world: World) -> dict[str, Any]:
    return dict(find_closure("support", world.store).manifest)


def cli(world: World, *arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, ["closure", *arguments, "--project", str(world.file), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


#: Twelve kinds of fault (CLO-05): where it is planted, what, and the rule that has to name that very place.
TWELVE: list[tuple[str, str, Any, str]] = [
    ("a path on one machine", "/hyperparameters/data", "/mnt/disk1/train.parquet", "absolute-path"),
    ("somebody's home", "/hyperparameters/cache", "/home/alice/rows", "home-path"),
    ("a drive letter", "/rows/path", "C:\\data\\train.parquet", "windows-path"),
    ("a notebook as code", "/code/project/path", "final_v3.ipynb", "notebook-code"),
    ("a dirty tree", "/code/project/dirty", True, "dirty-tree"),
    ("a version the resolver chooses", "/environment/packages/torch", ">=2", "unpinned-package"),
    ("somebody's working copy", "/environment/direct/0", {"name": "x", "kind": "editable", "pin": None}, "editable-package"),
    ("a branch as revision", "/base_model/revision", "main", "branch-name"),
    ("a variable nobody declared", "/hyperparameters/data", "s3://${BUCKET}/rows", "undeclared-variable"),
    ("the latest image", "/runtime/image", "registry.example.org/train:latest", "latest"),
    ("an input without a hash", "/inputs/0", {"role": "rows", "asset": "raw/lost"}, "missing-hash"),
    ("a step by hand without a record", "/human_steps/0", {"what": "removed bad rows"}, "unrecorded-step"),
]


def planted(manifest: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(manifest)
    *parents, last = pointer.split("/")[1:]
    node: Any = changed
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if isinstance(node, list):
        node[int(last) : int(last) + 1] = [value]
    else:
        node[last] = value
    return changed


def test_the_bundled_closure_has_no_finding(world: World, manifest: dict[str, Any]) -> None:
    assert lint(manifest) == []
    code, said = cli(world, "verify", "support")
    assert (code, said["intact"], said["contradicted"]) == (0, True, [])


@pytest.mark.parametrize(("_what", "pointer", "value", "rule"), TWELVE, ids=[what for what, *_ in TWELVE])
def test_each_planted_fault_is_found_where_it_is(manifest: dict[str, Any], _what: str, pointer: str, value: Any, rule: str) -> None:
    findings = lint(planted(manifest, pointer, value))
    assert rule in {f.rule for f in findings}
    assert all(f.path.startswith(pointer) for f in findings), findings
    verdict = closure_complete(planted(manifest, pointer, value), lambda _: None)
    assert verdict.decision is Decision.FAIL


def test_all_twelve_at_once(manifest: dict[str, Any]) -> None:
    broken = manifest
    for _, pointer, value, _ in TWELVE:
        broken = planted(broken, pointer + ("2" if pointer == "/hyperparameters/data" and "$" in str(value) else ""), value)
    assert {rule for *_, rule in TWELVE} <= {f.rule for f in lint(broken)}


def test_a_run_ends_without_a_replay_and_says_so(world: World) -> None:
    """Training twice whenever something is trained would double its price; the first replay is the night's."""
    verdicts = {c.name: e.verdict for c, e in world.outcome.checks if c.asset == ADAPTER and e is not None}
    decisions = {name: verdict.decision for name, verdict in verdicts.items() if verdict is not None}
    assert {name: decisions[name] for name in CHECKS_BY_MODE["M1"]} == {
        "closure_complete": Decision.PASS,
        "closure_replay": Decision.INSUFFICIENT_EVIDENCE,
        "closure_equivalent": Decision.INSUFFICIENT_EVIDENCE,
        "bus_factor": Decision.WARN,
    }
    assert not world.outcome.refused, "none of this stops a release that did not ask for it"


def test_the_night_replays_the_first_steps_once(world: World) -> None:
    store, adapter = world.store, world.store.current(ADAPTER)
    night = datetime.now(UTC) + timedelta(hours=12)
    waiting, why = drills.rehearsed_lately(store, adapter)
    assert waiting is None
    assert "trained lately" in why
    replayed, _ = drills.rehearsed_lately(store, adapter, now=night)
    assert replayed is not None
    assert (replayed.outcome, replayed.steps, replayed.by) == (Outcome.IDENTICAL, drills.FIRST_STEPS, PLATFORM)
    again, _ = drills.rehearsed_lately(store, adapter, now=replayed.at + timedelta(hours=1))
    assert again == replayed
    verdict = evaluate(world.check("closure_replay"), store).verdict
    assert verdict is not None
    assert verdict.decision is Decision.PASS
    bus = evaluate(world.check("bus_factor"), store).verdict
    assert bus is not None
    assert bus.decision is Decision.WARN, "the platform is nobody's second person"


@pytest.mark.slow
def test_replicates_are_scored_and_judged(world: World) -> None:
    code, said = cli(world, "reproduce", "support", "--seeds", "1", "--by", "ben")
    assert (code, said["outcome"], said["whole"]) == (0, "identical", True)
    (replicate,) = said["scores"]["replicates"]
    assert replicate["scores"] != said["scores"]["adapter"] or replicate["adapter_init"] != 0
    verdict = evaluate(world.check("closure_equivalent"), world.store).verdict
    assert verdict is not None
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE, "one replicate says nothing about scatter"
    assert (verdict.n, verdict.n_required) == (1, 3)
    assert any("support-questions" in str(row["what"]) for row in verdict.details["comparisons"])
    assert "ben" in {r.by for r in rehearsals(world.store.backend, ADAPTER) if r.succeeded}


def test_show_and_diff(world: World, tmp_path: Path, manifest: dict[str, Any]) -> None:
    code, made = cli(world, "show", "support")
    assert code == 0
    assert made["base model"]["from"].startswith("base_models/tarnwell-base-1m@")
    assert any(line.startswith("rows: splits/support@") for line in made["inputs"])
    edited = copy.deepcopy(manifest)
    edited["hyperparameters"]["optimization"]["learning_rate"] = 0.1
    file = tmp_path / "closure.json"
    file.write_text(json.dumps(edited))
    code, said = cli(world, "diff", "support", str(file))
    assert code == 1
    assert [(p["part"], [c["field"] for c in p["changes"]]) for p in said["parts"]] == [
        ("hyperparameters", ["/hyperparameters/optimization/learning_rate"])
    ]
    assert said["rows"]["moved"] == said["rows"]["added"] == said["rows"]["removed"] == 0
    code, said = cli(world, "verify", str(file))
    assert code == 1
    assert [c["field"] for c in said["edited"]] == [c["field"] for c in said["contradicted"]]
    assert cli(world, "diff", "support", "adapters/support")[0] == 0
