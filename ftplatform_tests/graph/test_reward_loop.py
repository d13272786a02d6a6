"""A loop that the project file declares: run on the graph, kept with its policies, and judged like any recorded ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from ftplatform.defs import running
from ftplatform.defs.assets import reward_loops
from ftplatform.defs.assets.reward_loops import POLICIES, stopping
from ftplatform.evaluation.generation import Generator
from ftplatform.project.loading import load_project
from ftplatform.project.problems import ProjectFileError
from ftplatform.project.rewards import Reward
from ftplatform.store import Store
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.rewards.ledgers import ledger, outcomes, rewards

LEDGER = "reward_ledgers/warm"


def with_loop(project: dict[str, Any]) -> None:
    words = {"id": "short", "text": "The answer is short.", "rule": {"kind": "max_words", "value": "2"}}
    project["rubrics"] = {"brevity": {"purpose": "reward", "author": "ana", "judge": "rules", "criteria": [words]}}
    # Anybody sees that this reward can be had for nothing; what a loop makes of it is the question here.
    project["gates"] = {"null_model_floor": {"severity": "warn"}}
    project["rewards"] = {
        "warm": {
            "loop": {
                "start": "first", "prompts": "chats", "reward": "brevity", "exam": "questions",
                "rounds": 2, "samples": 2, "prompts_per_round": 6, "exam_items": 5, "steps": 2, "batch_size": 2,
            }
        }
    }  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dg.DagsterInstance]]:
    file = small_project(tmp_path_factory.mktemp("loop"), with_loop)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance, f'+key:"{LEDGER}"')
        assert LEDGER in outcome.materialized, (outcome.refusals, outcome.errors)
        yield file, instance


def store_of(file: Path) -> Store:
    return Store.open(plan_of(file).store_url)


def test_the_ledger_the_policies_and_where_they_come_from(built: tuple[Path, dg.DagsterInstance], tmp_path: Path) -> None:
    file, _ = built
    snapshot = store_of(file).current(LEDGER)
    ledger = snapshot.read_table("rewards.parquet").to_pylist()
    assert [(row["checkpoint"], row["item"]) for row in ledger] == [(c, str(i)) for c in range(3) for i in range(5)]
    assert all(0 <= row["reward"] <= 1 and 0 <= row["outcome"] <= 1 and row["words"] is not None for row in ledger)
    assert {row["kl"] for row in ledger if row["checkpoint"] == 0} == {0.0}
    assert len({row["eval_root"] for row in ledger}) == 1
    roles = {entry["asset"]: entry["role"] for entry in snapshot.manifest["inputs"]}
    assert roles == {
        "adapters/first": "continued_adapter",
        "base_models/base": "base_model",
        "raw/chats": "rows",
        "rubrics/brevity": "reward_model",
        "eval_sets/questions": "evaluates",
    }
    policies = [snapshot.local_folder(f"{POLICIES}/{checkpoint:03d}") for checkpoint in range(3)]
    weights = [(policy / "adapter_model.safetensors").read_bytes() for policy in policies]
    first = store_of(file).current("adapters/first").local_folder("adapter")
    assert weights[0] == (first / "adapter_model.safetensors").read_bytes()
    assert len(set(weights)) == 3, "each round trains"
    assert Generator.load(file.parent / "base_model", policies[2]).adapter_digest


def test_its_checks_and_page_are_those_of_any_ledger(built: tuple[Path, dg.DagsterInstance]) -> None:
    file, instance = built
    plan = plan_of(file)
    found = {c.name for c in plan.checks_of([LEDGER])}
    assert {"reward_task_divergence", "anchored_noninferiority", "overopt_curve", "style_creep"} <= found
    event = instance.get_latest_materialization_event(dg.AssetKey(LEDGER.split("/")))
    assert event is not None
    assert event.asset_materialization is not None
    assert {"course", "records"} <= event.asset_materialization.metadata.keys()
    assert plan.lineage.parents["adapters/first"] == ("splits/one", "base_models/base"), (
        "the reward steers the loop, not the adapter"
    )
    assert plan.lineage.parents["rubrics/brevity"] == ("raw/chats",), "null models answer what the loop asks"


def test_it_runs_again_only_for_another_recipe(built: tuple[Path, dg.DagsterInstance]) -> None:
    file, instance = built
    before = store_of(file).current(LEDGER).digest
    running.materialize(plan_of(file), instance, LEDGER)
    assert store_of(file).current(LEDGER).digest == before
    plan = edit(file, lambda p: p["rewards"]["warm"]["loop"].update(outcome_share=1.0, rounds=1))
    running.materialize(plan, instance, LEDGER)
    after = store_of(file).current(LEDGER)
    assert after.digest != before
    ledger = after.read_table("rewards.parquet")
    assert max(ledger["checkpoint"].to_pylist()) == 1
    assert ledger["reward"] == ledger["outcome"], "a reward that is all outcome says what the exam says"


def test_the_governor_stops_it_between_two_rounds(built: tuple[Path, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch) -> None:
    file, instance = built
    monkeypatch.setattr(reward_loops, "stopping", lambda ledger, reward: "enough" if ledger.num_rows > 5 else None)
    plan = edit(file, lambda p: p["rewards"]["warm"]["loop"].update(outcome_share=0.0, rounds=3))
    running.materialize(plan, instance, LEDGER)
    stopped = store_of(file).current(LEDGER)
    assert set(stopped.read_table("rewards.parquet")["checkpoint"].to_pylist()) == {0, 1}
    assert stopped.facts["stopped"] == "enough"


def test_what_would_hold_the_ledger_stops_the_loop() -> None:
    reward = Reward.model_validate({"path": ["x.jsonl"]})
    rng = np.random.default_rng(0)
    rising = rewards(rng, 400, 5, 0.2)
    assert "reward rises while the task falls" in (stopping(ledger(outcomes(rng, 400, 5, -0.2), rising), reward) or "")
    assert stopping(ledger(outcomes(rng, 400, 5, 0.0), rising), reward) is None


def test_an_exam_among_the_prompts_is_an_error_that_names_both(tmp_path: Path) -> None:
    file = small_project(tmp_path, with_loop)
    rows = (tmp_path / "data" / "questions.jsonl").read_text()
    asked = [line for line in rows.splitlines() if line]
    leaked = json.loads(asked[0])["prompt"]
    turns = [{"role": "user", "content": leaked}, {"role": "assistant", "content": "by chance"}]
    write_jsonl(tmp_path / "data" / "chats.jsonl", [{"messages": turns}])
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance, f'+key:"{LEDGER}"')
    assert any("reward_ledgers" in step for step in {**outcome.errors, **outcome.refusals}), outcome
    (said,) = (message for step, message in {**outcome.errors, **outcome.refusals}.items() if "reward_ledgers" in step)
    assert "questions of the exam questions are among the prompts chats" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["rewards"]["warm"].update(path="data/r.jsonl"), "give either 'path'"),
        (lambda p: p["rewards"]["warm"].update(fields={"item": "id"}), "'fields' says how a recorded ledger is read"),
        (lambda p: p["rewards"]["warm"]["loop"].update(start="furst"), "there is no 'furst' in 'adapters'"),
        (lambda p: p["rewards"]["warm"]["loop"].update(exam="chats"), "there is no 'chats' in 'eval_sets'"),
        (lambda p: p["rubrics"]["brevity"].update(purpose="eval"), "a loop that learns it would learn its exam"),
        (lambda p: p["rubrics"]["brevity"].update(judge="somebody"), "cannot be asked from here"),
        (lambda p: p["eval_sets"]["questions"].update(vault=True), "is a vault"),
        (lambda p: p["eval_sets"]["questions"].update(kind="refusal_probes"), "is not scored by a metric"),
        (lambda p: p["sources"]["chats"].update(surface="debug"), "which is never trained on"),
        (lambda p: p["sources"]["chats"].update(path="data/questions.jsonl"), "is read from the file of the exam"),
        (lambda p: p["rewards"]["warm"].update(adapter="first"), "would wait for its own loop"),
    ],
)  # fmt: skip
def test_what_a_loop_cannot_be(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    def declare(project: dict[str, Any]) -> None:
        with_loop(project)
        change(project)

    file = small_project(tmp_path, declare)
    with pytest.raises(ProjectFileError) as refused:
        load_project(file)
    (problem,) = [p for p in refused.value.problems if said in p.message]
    assert problem.line > 1
