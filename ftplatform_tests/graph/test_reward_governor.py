"""A reward loop on the graph: the ledger diverges, the governor holds, sensors and the adapter's step obey, and the anchor releases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ftplatform.cli import reward_commands
from ftplatform.defs import running
from ftplatform.defs.build import build_defs
from ftplatform.defs.governor import Governor, State, course, governor
from ftplatform.defs.keys import to_key
from ftplatform.defs.resources import StoreResource
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl

LEDGER, ADAPTER = "reward_ledgers/thumbs", "adapters/first"
FIRST_DATA = '+key:"splits/one" or key:"eval_sets/questions" or key:"base_models/base" or key:"license_ledger"'
ITEMS = 500


def scored(checkpoints: int, *, reward: float, outcome: float, seed: int = 0, exam: str = "a" * 64) -> list[Mapping[str, Any]]:
    """A ledger whose reward and outcome change by so much per checkpoint; the first line of each item decides its difficulty."""
    rng = np.random.default_rng(seed)
    level = rng.random(ITEMS)
    return [
        {
            "checkpoint": c,
            "item": f"i-{i}",
            "reward": round(float(np.clip(0.4 + reward * c + 0.1 * rng.standard_normal(), 0, 1)), 4),
            "outcome": int(level[i] < 0.85 + outcome * c),
            "eval_root": exam,
            "kl": 0.1 * c * c,
        }
        for c in range(checkpoints)
        for i in range(ITEMS)
    ]


HEALTHY = scored(5, reward=0.01, outcome=0.01)
GAMED = scored(5, reward=0.02, outcome=-0.03)


def with_loop(project: dict[str, Any]) -> None:
    project["rewards"] = {"thumbs": {"path": "data/rewards.jsonl", "adapter": "first", "approved": [0, 2]}}


@dataclass
class Loop:
    """A project with a reward ledger that governs the adapter `first`, and one sensor that watches its data."""

    file: Path
    instance: dg.DagsterInstance
    cursor: str | None = None

    def score(self, records: list[Mapping[str, Any]]) -> None:
        write_jsonl(self.file.parent / "data" / "rewards.jsonl", records)

    def run(self, selection: str) -> running.RunOutcome:
        return running.materialize(plan_of(self.file), self.instance, selection)

    def tick(self, name: str = "source_content") -> Any:
        """One evaluation of the sensor, its events kept as the daemon keeps them."""
        plan = plan_of(self.file)
        definitions = build_defs(plan.loaded)
        sensor = definitions.get_repository_def().get_sensor_def(name)
        resources = {"store": StoreResource(url=plan.store_url)}
        with dg.build_sensor_context(
            instance=self.instance, definitions=definitions, cursor=self.cursor, resources=resources
        ) as context:
            done = sensor.evaluate_tick(context)
        self.cursor = done.cursor or self.cursor
        for event in done.asset_events:
            self.instance.report_runless_asset_event(event)
        return done

    def asked(self) -> set[str]:
        """Assets that one tick requests."""
        return {"/".join(key.path) for request in self.tick().run_requests for key in request.asset_selection or ()}

    @property
    def governor(self) -> Governor:
        plan = plan_of(self.file)
        return governor(plan, "thumbs", plan.open_store())

    def cli(self, *arguments: str) -> Any:
        app = typer.Typer()
        reward_commands.register(app)
        app.command("other")(lambda: None)  # with a single group typer would drop its name
        return CliRunner().invoke(app, ["reward", *arguments, "--project", str(self.file)])


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    root = tmp_path_factory.mktemp("loop")
    write_jsonl(root / "data" / "rewards.jsonl", HEALTHY)
    file = small_project(root, with_loop)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Loop(file, instance)


# The tests run in this order on one project: what each leaves behind is what the next begins with.


def test_before_the_ledger_is_built_nobody_trains(loop: Loop) -> None:
    assert loop.governor.state is State.HOLD
    assert "never been built" in loop.governor.reasons[0]
    outcome = loop.run(f'{FIRST_DATA} or key:"{ADAPTER}"')
    assert "reward_task_divergence on reward_ledgers/thumbs@no snapshot" in outcome.refusals["adapters__first"]


def test_a_healthy_loop_trains(loop: Loop) -> None:
    outcome = loop.run(LEDGER)
    decided = {check.name: evaluation.verdict.decision for check, evaluation in outcome.checks if evaluation and evaluation.verdict}
    assert decided["reward_task_divergence"] == "pass"
    assert decided["overopt_curve"] == "pass"
    assert set(decided) == {
        "reward_task_divergence",
        "anchored_noninferiority",
        "overopt_curve",
        "reward_disagreement",
        "style_creep",
        "feedback_targeting",
    }
    assert loop.governor.state is State.RUN
    assert ADAPTER in loop.run(ADAPTER).materialized
    assert loop.asked() == set(), "the first tick records a baseline"


def test_the_page_of_the_ledger_shows_both_lines(loop: Loop) -> None:
    event = loop.instance.get_latest_materialization_event(to_key(LEDGER))
    assert event is not None
    materialization = event.asset_materialization
    assert materialization is not None
    assert "data:image/svg" in str(materialization.metadata["course"].value)
    records = materialization.metadata["records"]
    assert isinstance(records, dg.TableMetadataValue)
    assert [record.data["checkpoint"] for record in records.records] == [0, 1, 2, 3, 4]


def test_new_rewards_ask_for_no_training(loop: Loop) -> None:
    loop.score(GAMED)
    assert loop.asked() == {LEDGER}


def test_a_diverging_ledger_makes_the_governor_roll_back(loop: Loop) -> None:
    outcome = loop.run(LEDGER)
    assert outcome.refused
    found = loop.governor
    assert found.state is State.ROLL_BACK
    assert found.roll_back_to == 2, "the last approved checkpoint"
    assert any(reason.startswith("reward_task_divergence: fail") for reason in found.reasons)
    assert any(reason.startswith("anchored_noninferiority: fail") for reason in found.reasons)
    assert "Serve checkpoint 2 again" in found.releases


def test_the_sensor_asks_for_no_training_and_tells_the_adapter_page(loop: Loop) -> None:
    write_jsonl(loop.file.parent / "data" / "tickets.jsonl", [*dialogues(121, seed=1)])
    assert loop.asked() == {"raw/tickets", "corpora/one", "splits/one"}
    held = json.loads(loop.cursor or "")["held"]
    assert held == ["adapters/first", "eval_results/first", "releases/first"]
    for page in (ADAPTER, LEDGER):
        (told, *_) = loop.instance.fetch_observations(to_key(page), limit=1).records
        observation = told.event_log_entry.asset_observation
        assert observation is not None
        assert observation.metadata["governor"].value == f"{LEDGER}: roll back"
        assert "ftplatform reward release thumbs" in str(observation.metadata["governor_release"].value)
    assert loop.asked() == set(), "once is enough"


def test_a_license_change_trains_no_held_adapter_and_judges_it(loop: Loop) -> None:
    watching = Loop(loop.file, loop.instance)
    watching.tick("license_declarations")
    edit(loop.file, lambda project: project["sources"]["tickets"]["license"].update(declared="Apache-2.0", concluded="Apache-2.0"))
    build, judge = watching.tick("license_declarations").run_requests
    requested = {"/".join(key.path) for key in build.asset_selection}
    assert "raw/tickets" in requested
    assert ADAPTER not in requested
    assert (ADAPTER, "license_allows_use") in {("/".join(key.asset_key.path), key.name) for key in judge.asset_check_keys}
    edit(loop.file, lambda project: project["sources"]["tickets"]["license"].update(declared="MIT", concluded="MIT"))


def test_the_naive_sensor_would_have_trained(loop: Loop) -> None:
    """ADV: by lineage alone the adapter is next; only the governor keeps it out."""
    assert ADAPTER in plan_of(loop.file).lineage.descendants(["raw/tickets"])


def test_the_step_of_the_adapter_refuses_and_says_what_releases_it(loop: Loop) -> None:
    loop.run(FIRST_DATA)
    outcome = loop.run(ADAPTER)
    refusal = outcome.refusals["adapters__first"]
    assert "reward_task_divergence on reward_ledgers/thumbs" in refusal
    assert "The reward rises while the task falls" in refusal
    assert "ftplatform reward release thumbs --by YOU" in refusal
    assert ADAPTER not in outcome.materialized


def test_other_adapters_are_not_held(loop: Loop) -> None:
    outcome = loop.run('+key:"adapters/second" or key:"eval_sets/questions"')
    assert "adapters/second" in outcome.materialized


def test_a_person_may_sign_for_it_and_take_it_back(loop: Loop) -> None:
    done = loop.cli("release", "thumbs", "--by", "kim", "--why", "the exam is being mended", "--days", "2", "--json")
    assert done.exit_code == 0, done.output
    signed = json.loads(done.stdout)
    assert {w["check"] for w in signed["waivers"]} == {"reward_task_divergence", "anchored_noninferiority"}
    assert signed["governor"]["state"] == "run"
    assert any("waived by kim: the exam is being mended" in warning for warning in loop.governor.warnings)
    store = plan_of(loop.file).open_store()
    for waiver in store.all_waivers():
        store.revoke_waiver(waiver, by="lee", why="not after all")
    assert loop.governor.state is State.ROLL_BACK


def test_what_the_terminal_and_the_page_say(loop: Loop, tmp_path: Path) -> None:
    page = tmp_path / "loop.html"
    done = loop.cli("show", "thumbs", "--html", str(page))
    assert done.exit_code == 1, "a held loop"
    assert "Governor: roll back" in done.stdout
    assert "reward_task_divergence" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text
    assert "Serve checkpoint 2 again" in text
    assert "default-src 'none'" in text
    done = loop.cli("show", "thumbs", "--json")
    shown = json.loads(done.stdout)
    assert [row["checkpoint"] for row in shown["checkpoints"]] == [0, 1, 2, 3, 4]
    assert [state["state"] for state in shown["course"]] == ["run", "roll back", "run"], "newest first"
    assert shown["governor"]["state"] == "roll back"


def test_the_course_is_kept_as_snapshots(loop: Loop) -> None:
    loop.tick()
    store = plan_of(loop.file).open_store()
    states = list(course(store, LEDGER))
    assert states[0]["state"] == "roll back"
    assert states[0]["judged"] == store.current(LEDGER).digest
    assert store.verify(f"{LEDGER}/governor") == []


def test_an_exam_that_was_swapped_holds_the_loop(loop: Loop) -> None:
    """ADV: with a harder exam from checkpoint 3 on the means fall; no divergence is claimed, and nobody trains blindly either."""
    before = scored(5, reward=0.02, outcome=0.0)
    harder = scored(5, reward=0.02, outcome=-0.05, exam="b" * 64)
    loop.score([r for r in before if r["checkpoint"] < 3] + [r for r in harder if r["checkpoint"] >= 3])
    loop.run(LEDGER)
    found = loop.governor
    assert found.state is State.HOLD
    assert all("insufficient_evidence: Refused to compare" in reason for reason in found.reasons)
    # Somebody may know better, and sign.
    assert loop.cli("release", "thumbs", "--by", "kim", "--why", "old exam withdrawn", "--days", "1").exit_code == 0
    assert loop.governor.state is State.RUN


def test_after_the_anchor_is_restored_it_runs(loop: Loop) -> None:
    loop.score(HEALTHY)
    assert loop.asked() == {LEDGER}, "though somebody signed for the old one, training waits for the new ledger's checks"
    loop.run(LEDGER)
    assert loop.governor.state is State.RUN
    assert loop.asked() == {"adapters/first", "eval_results/first", "releases/first"}, "what was held is asked for now"
    assert ADAPTER in loop.run(ADAPTER).materialized
    assert json.loads(loop.cursor or "")["held"] == []


def test_a_release_is_governed_and_an_evaluation_is_not(loop: Loop) -> None:
    lineage = plan_of(loop.file).lineage
    assert LEDGER in lineage.ancestors(ADAPTER)
    assert LEDGER in lineage.ancestors("releases/first")
    assert LEDGER not in lineage.ancestors("eval_results/first")
    assert LEDGER not in lineage.ancestors("adapters/second")
    assert lineage.descendants([LEDGER]) == (LEDGER,)
    assert not lineage.is_upstream_of_release(LEDGER), "a loop begins with too little evidence"


def test_nothing_to_sign_for_is_said(loop: Loop) -> None:
    done = loop.cli("release", "thumbs", "--by", "kim", "--why", "to be safe", "--days", "1", "--json")
    assert done.exit_code == 1
    assert "nothing holds the loop" in json.loads(done.stdout)["refused"]


def test_a_whole_run_judges_the_ledger_before_it_trains(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "rewards.jsonl", HEALTHY)
    with dg.DagsterInstance.ephemeral() as instance:
        whole = Loop(small_project(tmp_path, with_loop), instance)
        outcome = whole.run("*")
    assert ADAPTER in outcome.materialized, outcome.refusals


def test_a_ledger_that_governs_nobody_holds_nobody(loop: Loop) -> None:
    plan = edit(loop.file, lambda project: project["rewards"]["thumbs"].pop("adapter"))
    assert plan.lineage.governing(ADAPTER) == ()
    assert LEDGER not in plan.lineage.ancestors(ADAPTER)
