"""Rubrics on the graph: the reward that is also the exam stops before anything is trained, and a sound pair does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.asset_checks.rubric_answers import Answered, Opinion, panel_of, prefer_by_reference
from ftplatform.defs.asset_checks.rubric_checks import rubric_checks
from ftplatform.defs.build import build_defs
from ftplatform.defs.jobs import BUILD
from ftplatform.rubrics.preference import Pair, compare, rubric_free_preference
from ftplatform.verdict import Decision
from ftplatform_tests.integration.chat_server import ChatServer, Reply, chat_server, says
from ftplatform_tests.projects import edit, plan_of, small_project
from ftplatform_tests.unit.contamination.paraphrase_models import folder as encoder_folder

RESULTS = "eval_results/first"
UPSTREAM = f'+key:"{RESULTS}"'
#: The same question twice, in words that share nothing but the customer.
REWARDED = "The answer greets the customer by name."
PARAPHRASED = "The customer's name is used in the greeting."
INDEPENDENT = "The refund equals the price that was paid."


def reply(number: int, request: dict[str, Any]) -> Reply:
    """A criterion is met by an answer with the word "right"; of two answers the longer is better."""
    instructions, material = (message["content"] for message in request["messages"])
    answer = json.loads(material)["answer"]
    if "first_is_better" in instructions:
        both = json.loads(answer)
        better = (len(both["first"]) > len(both["second"])) - (len(both["first"]) < len(both["second"]))
        return says(json.dumps({"criteria": {"first_is_better": 0.5 + better / 2}, "reason": "longer"}))
    ids = re.findall(r"^- ([a-z0-9_-]+): ", instructions, re.MULTILINE)
    return says(json.dumps({"criteria": dict.fromkeys(ids, int("right" in answer)), "reason": "looked"}))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running_server:
        running_server.reply = reply
        yield running_server


def rubric(purpose: str, judge: str, text: str, **more: Any) -> dict[str, Any]:
    criteria = [{"id": f"{purpose}-1", "text": text, **more}]
    return {"purpose": purpose, "author": f"{purpose}@example.com", "judge": judge, "criteria": criteria}


def steered(server: ChatServer, exam: str) -> Any:
    def change(project: dict[str, Any]) -> None:
        del project["adapters"]["second"], project["datasets"]["two"], project["sources"]["chats"]
        project["encoder"] = {"path": str(encoder_folder())}
        project["judges"] = {
            "strict": {"family": "acme-judge", "url": server.url, "model": "judge-2026-10-01"},
            "panel": {"family": "other", "url": server.url, "model": "panel-2026-10-01", "prefers": True},
        }
        project["rubrics"] = {
            "polite": rubric("reward", "rules", REWARDED, rule={"kind": "contains", "value": "thanks"}),
            "sound": rubric("eval", "strict", exam),
        }
        project["eval_sets"]["questions"] |= {"rubric": "sound", "vault": True, "selections": 3}
        # What a set of forty easy questions cannot show is not the subject here.
        names = ("contamination_paraphrase", "contamination_near", "triage_leak", "null_model_floor")
        project["gates"] = {name: {"severity": "warn"} for name in names}

    return change


def verdicts(outcome: running.RunOutcome) -> dict[str, Any]:
    return {f"{check.asset}:{check.name}": e.verdict for check, e in outcome.checks if e is not None and e.verdict is not None}


def test_a_paraphrased_criterion_refuses_the_adapter_before_training_and_an_independent_exam_lets_it_through(
    tmp_path: Path, server: ChatServer
) -> None:
    file = small_project(tmp_path, steered(server, PARAPHRASED))
    with dg.DagsterInstance.ephemeral() as instance:
        plan = plan_of(file)
        outcome = running.materialize(plan, instance, UPSTREAM)
        found = verdicts(outcome)
        refused = found["rubrics/polite:rubric_role_separation"]
        assert refused.decision is Decision.FAIL, refused.summary
        assert refused.tier == "embedding"
        assert refused.evidence[0]["eval_criterion"] == PARAPHRASED
        assert "adapters/first" not in outcome.materialized
        assert plan.open_store().head("adapters/first") is None, "nothing was trained"
        # The same holds in a run of its own, where Dagster has no failed check to stop it.
        alone = running.materialize(plan, instance, "adapters/first")
        assert "rubric_role_separation on rubrics/polite" in str(alone.refusals)

        plan = edit(file, lambda project: project["rubrics"]["sound"]["criteria"][0].update(text=INDEPENDENT))
        outcome = running.materialize(plan, instance, UPSTREAM)
        assert not outcome.errors, outcome.errors
        assert RESULTS in outcome.materialized, outcome.refusals
        found = verdicts(outcome)
        assert found["rubrics/polite:rubric_role_separation"].decision is Decision.PASS
        store = plan.open_store()
        (steering,) = (ref for ref in store.current("adapters/first").inputs if ref.asset == "rubrics/polite")
        assert steering.role == "reward_model"

        transfer = found[f"{RESULTS}:gain_transfer"]
        assert transfer.n == 40
        assert transfer.decision in {Decision.PASS, Decision.WARN, Decision.INSUFFICIENT_EVIDENCE}
        shape = found[f"{RESULTS}:criterion_shape"]
        assert shape.details["shapes"] == {"reward-1": "presence"}
        preferred = found[f"{RESULTS}:rubric_free_preference"]
        assert preferred.decision is Decision.INSUFFICIENT_EVIDENCE, "forty questions are not two hundred"
        assert preferred.config["judge"] == "panel"
        assert found["eval_sets/questions:eval_budget"].threshold == 3

        # The registry holds what the null models get, and judging again asks nobody.
        scores = store.current("rubrics/polite").read_table("null_scores.parquet").to_pylist()
        assert {row["model"] for row in scores} == {"constant", "echo", "keyword-stuffed", "over-long", "reference"}
        assert {row["score"] for row in scores if row["model"] == "keyword-stuffed"} == {1.0}, "the program looks for a word"
        assert found["rubrics/polite:null_model_floor"].decision is Decision.FAIL
        asked = len(server.requests)
        again = verdicts(running.check(plan, instance, RESULTS))
        assert again[f"{RESULTS}:rubric_free_preference"].n == preferred.n
        assert len(server.requests) == asked

        # The exam's registry is built beside the evaluation, with the base model's answers to compare null models with.
        outcome = running.materialize(plan, instance, "rubrics/sound")
        floor = verdicts(outcome)["rubrics/sound:null_model_floor"]
        assert floor.n == 40
        assert floor.decision is Decision.FAIL, "the exam gives an untrained base nothing more than a constant text"


def test_a_shared_rule_refuses_without_an_encoder(tmp_path: Path) -> None:
    def change(project: dict[str, Any]) -> None:
        del project["adapters"]["second"], project["datasets"]["two"], project["sources"]["chats"]
        rule = {"kind": "contains", "value": "thanks"}
        project["rubrics"] = {
            "polite": rubric("reward", "rules", "Says thanks.", rule=rule),
            "kind": rubric("eval", "rules", "Is grateful to the customer.", rule=rule),
        }
        project["eval_sets"]["questions"] |= {"rubric": "kind"}

    file = small_project(tmp_path, change)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance, UPSTREAM)
    refused = verdicts(outcome)["rubrics/polite:rubric_role_separation"]
    assert (refused.decision, refused.tier) == (Decision.FAIL, "lexical")
    assert "adapters/first" not in outcome.materialized


def test_rubrics_bring_checks_only_where_they_are(tmp_path: Path) -> None:
    def unsteered(project: dict[str, Any]) -> None:
        project["rubrics"] = {
            "polite": rubric("reward", "rules", "?", rule={"kind": "max_words", "value": "9"}) | {"adapters": ["first"]}
        }

    plan = plan_of(small_project(tmp_path, unsteered))
    made = {(c.asset, c.name) for c in rubric_checks(plan)}
    assert ("eval_results/first", "gain_transfer") in made
    assert ("eval_results/second", "gain_transfer") not in made
    assert plan.lineage.parents["rubrics/polite"] == ("splits/one",)
    assert "rubrics/polite" in plan.lineage.parents["adapters/first"]
    assert "rubrics/polite" not in plan.lineage.parents["adapters/second"]
    assert list(rubric_checks(plan_of(small_project(tmp_path / "none")))) == []


def test_without_a_judge_that_prefers_the_reference_decides_and_several_judges_say_how_far_they_agree() -> None:
    def item(i: int, tuned: str) -> Answered:
        question = [{"role": "user", "content": f"question {i}"}]
        return Answered(
            f"set/{i}", f"set/{i}", question, f"question {i}", "your parcel arrives on friday", "it is lost", tuned, True, 0, 1
        )

    answers = [item(i, "on friday" if i % 2 else "it is lost somewhere") for i in range(240)]
    pairs = [Pair(a.key, a.prompt, a.base, a.tuned, a.family) for a in answers]
    said = prefer_by_reference(answers)
    verdict = said.with_agreement(rubric_free_preference(compare(pairs, said), tier="reference"))
    assert verdict.decision is Decision.PASS
    assert verdict.details["raw_win_rate"][0] == 0.75
    assert "agreement" not in verdict.details

    by_words = said.judges["reference"]
    panel = Opinion({"words": by_words, "longest": lambda duels: [float(len(d.first) > len(d.second)) for d in duels]})
    judged = panel.with_agreement(rubric_free_preference(compare(pairs, panel)))
    assert -1 < judged.details["agreement"]["krippendorff_alpha"][0] < 1


def test_a_release_waits_for_the_floor_of_its_exam_which_waits_for_the_evaluation(tmp_path: Path, server: ChatServer) -> None:
    plan = plan_of(small_project(tmp_path, steered(server, INDEPENDENT)))
    assert "rubrics/sound" in plan.lineage.parents["releases/first"]
    assert "rubrics/sound" not in plan.lineage.ancestors(RESULTS), "the floor looks at evaluations, so none may wait for it"
    gates = {(check.asset, check.name) for check in plan.gates_of("releases/first")}
    assert gates >= {(RESULTS, "gain_transfer"), (RESULTS, "rubric_free_preference"), ("rubrics/polite", "rubric_role_separation")}
    (floor,) = (c for c in rubric_checks(plan) if (c.asset, c.name) == ("rubrics/sound", "null_model_floor"))
    assert floor.order_after == (RESULTS,)
    # Resolving the job orders all steps: a cycle would be found here.
    assert build_defs(plan.loaded).resolve_job_def(BUILD.name)


def test_a_judge_of_the_rewards_family_is_not_asked_what_it_prefers(tmp_path: Path, server: ChatServer) -> None:
    def change(project: dict[str, Any]) -> None:
        steered(server, INDEPENDENT)(project)
        project["rubrics"]["polite"]["judge"] = "strict"
        project["judges"]["newer"] = project["judges"]["panel"] | {"family": "Acme Judge 2"}

    plan = plan_of(small_project(tmp_path, change))
    assert panel_of(plan, ["polite"]) == ["panel"]
    assert "strict" not in panel_of(plan, ["polite"])


def test_a_rubric_whose_judge_is_outside_has_no_evidence(tmp_path: Path) -> None:
    def change(project: dict[str, Any]) -> None:
        del project["adapters"]["second"], project["datasets"]["two"], project["sources"]["chats"]
        project["rubrics"] = {"panel": rubric("eval", "people", "Would you send it?")}

    plan = plan_of(small_project(tmp_path, change))
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan, instance, "rubrics/panel")
    assert not outcome.errors
    assert verdicts(outcome)["rubrics/panel:null_model_floor"].decision is Decision.INSUFFICIENT_EVIDENCE
