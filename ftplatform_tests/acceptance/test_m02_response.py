"""M2 end to end on real runs: a license flips upstream, a takedown arrives, and the way to the certificate."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from ftplatform.canonical import sha256_hex
from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform.defs.keys import from_key
from ftplatform.defs.ledger import open_ledger
from ftplatform.defs.removals import candidates, certificate, judge_removal, places, receive
from ftplatform.defs.watching import look_round
from ftplatform.errors import InputDataError
from ftplatform.licensing.removal.certificate import CertificateRefused
from ftplatform.licensing.removal.claim import Matcher, resolve
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.licensing.watchers.manual import read_notice
from ftplatform.rows.schema import row_id
from ftplatform_tests.acceptance.test_automation import tick
from ftplatform_tests.acceptance.test_kill import without_probes
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.licensing.watchers.stub_server import StubServer, card

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WORDS = [
    a + b for a in ("bri", "cal", "dor", "fen", "gal", "hup", "jor", "kel") for b in ("ta", "mo", "sen", "ri", "lup", "wax", "den")
]


def essays(count: int, seed: int) -> list[dict[str, Any]]:
    """Dialogues whose answers are long and unlike each other, so that copies can be told from coincidences."""
    rng = random.Random(seed)
    return [
        {
            "messages": [
                {"role": "user", "content": f"tell me about {' '.join(rng.choices(WORDS, k=8))}"},
                {"role": "assistant", "content": " ".join(rng.choices(WORDS, k=30))},
            ],
            "group": f"writer-{seed}-{i}",
        }
        for i in range(count)
    ]


def edited(dialogue: dict[str, Any]) -> dict[str, Any]:
    """Its answer with two words replaced, to another question: too like it for a coincidence, too unlike to be banned unseen."""
    question, answer = {"role": "user", "content": "what else is there"}, dialogue["messages"][1]
    words = answer["content"].split()
    words[2:4] = ["otherwise", "edited"]
    return {**dialogue, "messages": [question, {**answer, "content": " ".join(words)}], "group": "editor"}


def world(project: dict[str, Any]) -> None:
    """A (tickets), rows seeded by it (made), an independent corpus (notes), and one adapter on each."""
    without_probes(project)
    # The dialogues are made from a few templates, and mixed with essays they no longer look like it.
    project["gates"]["contamination_near"] = {"severity": "warn"}
    for check in ("eval_population", "target_variant_share"):  # no real evals; forty answers are too few for a share
        project["gates"][check] = {"severity": "warn"}
    license_ = project["sources"]["chats"]["license"]
    mit = {"declared": "MIT", "concluded": "MIT", "evidence": "MIT.txt", "concluded_by": "counsel"}
    project["sources"]["tickets"]["license"] = {**mit, "watch": ["hf://datasets/org/tickets"]}
    project["sources"]["notes"] = {"path": "data/notes.jsonl", "license": dict(license_)}
    project["synthetic"] = {
        "made": {"path": "data/made.jsonl", "teacher": {"id": "teacher", "license": dict(license_)}, "seeds": ["tickets"]}
    }
    project["datasets"] |= {"two": {"sources": ["chats"], "synthetic": ["made"]}, "three": {"sources": ["notes"]}}
    project["synthetic"]["echo"] = {**project["synthetic"]["made"], "path": "data/echo.jsonl", "seeds": ["chats"]}
    project["datasets"]["four"] = {"synthetic": ["echo"]}
    project["adapters"]["fourth"] = {**project["adapters"]["first"], "dataset": "four", "release": False}
    project["adapters"]["third"] = {**project["adapters"]["first"], "dataset": "three"}
    project["endpoints"] = {"chat": {"path": "data/log.csv", "adapter": "first"}}


def write_world(root: Path) -> Path:
    file = small_project(root, world)
    (root / "MIT.txt").write_text("SPDX-License-Identifier: MIT\n")
    chats = essays(60, seed=2)
    write_jsonl(root / "data" / "chats.jsonl", chats)
    # A mirror of ten chats stands among the notes, under another address and license.
    write_jsonl(root / "data" / "notes.jsonl", [*dialogues(60, seed=4), *chats[:10], edited(chats[55])])
    write_jsonl(root / "data" / "made.jsonl", dialogues(40, seed=5))
    parents = [row_id(chat["messages"]) for chat in chats[10:50]]
    write_jsonl(
        root / "data" / "echo.jsonl", [{**row, "parents": [p]} for row, p in zip(dialogues(40, seed=7), parents, strict=True)]
    )
    (root / "data" / "log.csv").write_text("time,adapter\n2026-01-01T00:00:00Z,first\n")
    return file


@pytest.fixture(scope="module")
def hub():
    server = StubServer()
    server.always("/api/datasets/org/tickets", card("org/tickets", "mit"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_ENDPOINT", server.url)
        environment.setenv("FTPLATFORM_WATCH_ALLOW", server.netloc)
        yield server
    server.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory, hub):
    """The world, run once."""
    file = write_world(tmp_path_factory.mktemp("world"))
    with dg.DagsterInstance.ephemeral() as instance:
        plan = plan_of(file)
        look_round(plan, plan.open_store(), now=NOW)
        outcome = running.materialize(plan, instance)
        assert outcome.errors == {}
        assert outcome.success, outcome.refusals
        yield file, instance


def verdicts(outcome: running.RunOutcome, check: str) -> dict[str, str]:
    return {
        c.asset: str(e.verdict.decision) for c, e in outcome.checks if c.name == check and e is not None and e.verdict is not None
    }


FROM_TICKETS = {
    "raw/tickets", "synthetic/made", "corpora/one", "corpora/two", "splits/one", "splits/two", "adapters/first", "adapters/second",
    "eval_results/first", "eval_results/second", "releases/first", "releases/second",
}  # fmt: skip


def test_lic_01_a_flip_on_the_hub_denies_exactly_what_came_of_it(built, hub):
    file, instance = built
    baseline = tick(plan_of(file), instance, "license_declarations", None)
    hub.always("/api/datasets/org/tickets", card("org/tickets", "cc-by-nc-4.0"))
    plan = plan_of(file)
    found = look_round(plan, plan.open_store(), now=NOW + timedelta(hours=7))
    assert (found.looked, found.news, found.problems) == (1, 1, {})

    plan = plan_of(file)
    with open_ledger(plan.root, plan.open_store()) as ledger:
        state = ledger.state("raw/tickets")
        before = ledger.state("raw/tickets", known_at=NOW + timedelta(hours=6))
    assert (state.state, state.declared) == (State.RELICENSED, "cc-by-nc-4.0")
    assert before.state is State.ACTIVE, "what we knew before is still what we knew before"

    request, judging = tick(plan, instance, "license_declarations", baseline.cursor).run_requests
    assert {from_key(k) for k in request.asset_selection} == FROM_TICKETS | {"license_ledger"}
    assert {from_key(k.asset_key) for k in judging.asset_check_keys} == FROM_TICKETS

    outcome = running.check(plan, instance)
    allowed = verdicts(outcome, "license_allows_use")
    unlicensed = {"eval_results/first", "eval_results/second"}  # they carry no license check of their own
    assert {asset for asset, decision in allowed.items() if decision == "fail"} == FROM_TICKETS - unlicensed
    radius = verdicts(outcome, "license_blast_radius")
    clean = {"adapters/third": "pass", "adapters/fourth": "pass"}
    assert radius == {"adapters/first": "warn", "adapters/second": "warn", **clean}
    (evidence,) = next(e.verdict.evidence for c, e in outcome.checks if c.id == "adapters/first:license_blast_radius")
    assert evidence["source"] == "raw/tickets"
    assert evidence["endpoints"] == "endpoints/chat"
    assert evidence["tainted_rows"] > 50
    assert evidence["gpu_hours_to_retrain"] > 0
    (second,) = next(e.verdict.evidence for c, e in outcome.checks if c.id == "adapters/second:license_blast_radius")
    assert second["derived_rows"] > 0, "rows seeded by it are found through their parents"

    refused = running.materialize(plan, instance, "adapters/first")
    assert "license_allows_use on raw/tickets" in next(iter(refused.refusals.values()))
    assert running.materialize(plan, instance, "adapters/third").success, "what never saw it goes on"


def test_what_was_known_when_it_was_trained_is_recorded_with_the_policy(built):
    file, _ = built
    plan = plan_of(file)
    with open_ledger(plan.root, plan.open_store()) as ledger:
        decisions = [d for d in ledger.decisions("adapters/third") if d.reasons != ("notice n-1",)]
    assert {str(d.use) for d in decisions} == {"train", "evaluate", "commercial_model"}
    assert {d.policy_sha256 for d in decisions} == {plan.policy.digest}
    assert {d.snapshot for d in decisions} == {plan.open_store().current("adapters/third").digest}, (
        "confirming it decides nothing anew"
    )
    assert "raw/notes: MIT" in decisions[0].reasons


def test_terms_that_a_person_concludes_and_that_forbid_the_use_are_followed_too(built):
    file, instance = built
    (file.parent / "NC.txt").write_text("SPDX-License-Identifier: CC-BY-NC-4.0\n")
    before = file.read_text()
    forbidding = {"declared": "CC-BY-NC-4.0", "concluded": "CC-BY-NC-4.0", "evidence": "NC.txt"}
    plan = edit(file, lambda p: p["sources"]["notes"]["license"].update(forbidding))
    radius = verdicts(running.check(plan, instance, "adapters/third"), "license_blast_radius")
    assert radius == {"adapters/third": "warn"}
    file.write_text(before)


def test_a_person_concludes_and_the_way_is_free_again(built):
    file, instance = built
    (file.parent / "letter-of-authors.txt").write_text("SPDX-License-Identifier: MIT\nThe authors confirmed it by letter.\n")
    concluded = {"evidence": "letter-of-authors.txt", "concluded_by": "counsel@example.com"}
    plan = edit(file, lambda p: p["sources"]["tickets"]["license"].update(concluded))
    look_round(plan, plan.open_store(), now=NOW + timedelta(hours=8))
    plan = plan_of(file)
    assert plan.terms["raw/tickets"].standing.state is State.ACTIVE
    assert verdicts(running.check(plan, instance, "raw/tickets"), "license_allows_use") == {"raw/tickets": "pass"}


def form(root: Path, **fields: Any) -> Path:
    letter = root / "letter.txt"
    letter.write_text("We claim the text of these conversations.\n")
    document = {
        "schema": "ftplatform.notice/1",
        "letter": "letter.txt",
        "letter_sha256": sha256_hex(letter.read_bytes()),
        "received": "2026-03-02T09:00:00Z",
        "recorded_by": "counsel",
        **fields,
    }
    path = root / "notice.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def noticed(built):
    """A takedown of the chats arrives."""
    file, instance = built
    plan = plan_of(file)
    path = form(file.parent, id="n-1", kind="takedown", matcher={"sources": ["raw/chats"]})
    return file, instance, receive(plan, plan.open_store(), read_notice(path))


def test_lic_04_the_mirror_under_another_address_is_found(noticed):
    _, _, found = noticed
    assert set(found.exposed) == {"adapters/second", "adapters/third", "adapters/fourth"}
    assert found.banned == {"raw/notes": 10}


def test_what_resembles_a_claimed_row_is_listed_with_its_words(noticed):
    file, _, _ = noticed
    (row,) = candidates(plan_of(file).open_store(), "n-1")
    assert row["asset"] == "raw/notes"
    assert 0.5 < row["similarity"] < 0.9
    assert "otherwise edited" in row["text"]
    assert "otherwise" not in row["claimed"]


def test_a_notice_that_names_an_address_finds_the_source_watched_there(noticed):
    plan = plan_of(noticed[0])
    named = resolve(Matcher(uris=("https://huggingface.co/datasets/org/tickets/tree/main",)), (), places(plan))
    assert named.names == ("raw/tickets",)
    assert named.unplaced == ()


def test_another_form_under_the_same_id_is_refused(noticed, tmp_path):
    plan = plan_of(noticed[0])
    other = read_notice(form(tmp_path, id="n-1", kind="takedown", matcher={"sources": ["raw/tickets"]}))
    with pytest.raises(InputDataError, match="another form"):
        receive(plan, plan.open_store(), other)
    assert plan_of(noticed[0]).terms["raw/tickets"].standing.state is State.ACTIVE


def test_the_takedown_is_in_force_until_it_is_answered(noticed):
    file, instance, _ = noticed
    plan = plan_of(file)
    reached = ["adapters/second", "adapters/third", "adapters/fourth"]
    assert plan.removals == dict.fromkeys(reached, ("n-1",))
    outcome = running.check(plan, instance)
    assert verdicts(outcome, "influence_removed") == {"adapters/first": "pass", **dict.fromkeys(reached, "fail")}
    denied = {asset for asset, decision in verdicts(outcome, "license_allows_use").items() if decision == "fail"}
    assert {"raw/chats", "raw/notes", "adapters/second", "adapters/third"} <= denied
    assert "adapters/first" not in denied
    with pytest.raises(CertificateRefused, match=r"adapters/third"):
        certificate(plan, plan.open_store(), "adapters/third", "n-1", replayed=False)


@pytest.fixture(scope="module")
def remedied(noticed):
    """The chats leave the mix; everything affected is rebuilt through the gates."""
    file, instance, _ = noticed

    def without_chats(project: dict[str, Any]) -> None:
        project["datasets"]["two"]["sources"] = []

    plan = edit(file, without_chats)
    outcome = running.materialize(plan, instance)
    assert outcome.errors == {}
    # The children of the chats stay refused: no license reaches them any more.
    assert "adapters/fourth" not in outcome.materialized
    return file, instance, plan, outcome


def test_lic_13_the_rebuilt_adapter_earns_the_certificate(remedied):
    _, _, plan, outcome = remedied
    file = remedied[0]
    removed = verdicts(outcome, "influence_removed")
    assert {a: removed[f"adapters/{a}"] for a in ("first", "second", "third")} == {
        "first": "pass",
        "second": "pass",
        "third": "warn",
    }
    counts = plan.open_store().current("raw/notes").facts["counts"]
    assert (counts["read"], counts["kept"], counts["withdrawn"]) == (71, 61, 10)
    with pytest.raises(CertificateRefused, match="a person has to look"):
        certificate(plan, plan.open_store(), "adapters/third", "n-1", replayed=False)
    assert cli(file, "clear", "n-1", "--all", "--by", "counsel") == (0, {"notice": "n-1", "cleared": 1})
    issued = certificate(plan, plan.open_store(), "adapters/third", "n-1", replayed=True)
    levels = issued.document["levels"]
    probe = issued.document["probe"]
    assert (probe["n"], probe["left_out"]) == (59, 1), "the words of one stand in the edited row that a person kept"
    assert levels["L1"]
    assert levels["L2"], "trained again from its own closure: the same weights"
    assert any("pre-train" in line for line in issued.document["not_proved"])
    stored = plan.open_store().backend.get(f"certificates/{issued.digest}.json")
    assert stored is not None
    assert stored.data == issued.to_bytes()


def cli(file: Path, *arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["license", *arguments, "--project", str(file), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def test_the_same_on_the_command_line(remedied):
    file = remedied[0]
    code, listed = cli(file, "list")
    assert code == 0
    states = {row["source"]: row["state"] for row in listed["rows"]}
    assert (states["raw/chats"], states["raw/tickets"]) == ("takedown", "active")
    _, shown = cli(file, "show", "raw/chats")
    assert shown["rights"]["train"] == "deny"
    assert [entry["notice"] for entry in shown["history"]] == [None, "n-1"]
    _, before = cli(file, "show", "raw/chats", "--valid", "2026-03-01T12:00:00Z")
    assert before["rights"]["train"] == "allow", "the day before the letter"
    _, radius = cli(file, "blast-radius", "raw/tickets")
    assert radius["live_endpoints"] == 1
    _, rehearsed = cli(file, "drill", "raw/tickets")
    assert set(rehearsed["exposed"]) == {"adapters/first", "adapters/second"}
    assert rehearsed["gpu_hours"] > 0
    code, certified = cli(file, "certify", "adapters/third", "--notice", "n-1")
    assert (code, certified["certificate"]["notice"]["notice"]) == (0, "n-1")
    code, refused = cli(file, "certify", "adapters/fourth", "--notice", "n-1")
    assert (code, refused["certificate"]) == (1, None)
    _, rebuilt = cli(file, "rebuild")
    assert rebuilt["events"] > 10


def planted(remedied, change) -> None:
    """Plant something, rebuild, and expect a refusal; then take it out again."""
    file, instance, _, _ = remedied
    before = file.read_text()
    plan = edit(file, change)
    running.materialize(
        plan, instance, 'key:"raw/*" or key:"synthetic/*" or key:"corpora/three" or key:"splits/three" or key:"adapters/third"'
    )
    try:
        verdict, _, _ = judge_removal(plan, plan.open_store(), plan.open_store().current("adapters/third"), "n-1")
        assert verdict.decision == "fail"
        with pytest.raises(CertificateRefused, match=r"adapters/third"):
            certificate(plan, plan.open_store(), "adapters/third", "n-1", replayed=False)
    finally:
        file.write_text(before)
        running.materialize(plan_of(file), instance)


def test_one_planted_row_refuses_it(remedied):
    file = remedied[0]
    write_jsonl(file.parent / "data" / "extra.jsonl", [*dialogues(5, seed=6), essays(60, seed=2)[30]])

    def with_extra(project: dict[str, Any]) -> None:
        project["sources"]["extra"] = {**project["sources"]["notes"], "path": "data/extra.jsonl"}
        project["datasets"]["three"]["sources"] = ["notes", "extra"]

    planted(remedied, with_extra)


def test_synthetic_children_alone_refuse_it(remedied):
    _, _, plan, _ = remedied
    # Its own rows came from no chat; each was written from one.
    store = plan.open_store()
    adapter = store.current("adapters/fourth")
    assert set(adapter.read_table("rows.parquet", columns=["source"])["source"].to_pylist()) == {"synthetic/echo"}
    verdict, _, ban = judge_removal(plan, store, adapter, "n-1")
    assert verdict.decision == "fail"
    assert verdict.estimate == adapter.file("rows.parquet").rows
    named = set(adapter.read_table("rows.parquet", columns=["row_id"])["row_id"].to_pylist())
    assert not named & set(ban.row_ids.to_list()), "no row of it is claimed itself: looking at origins finds nothing"
    with pytest.raises(CertificateRefused, match=r"adapters/fourth"):
        certificate(plan, store, "adapters/fourth", "n-1", replayed=False)


def test_lic_06_withdrawn_rows_make_only_what_holds_them_stale(remedied):
    file, instance, plan, _ = remedied
    # A mirror of what upstream offers now: 37 people opted out, one row came new.
    lines = (file.parent / "data" / "tickets.jsonl").read_text().splitlines()
    ids = {row_id(json.loads(line)["messages"]) for line in lines[:37]}
    upstream = [*map(json.loads, lines[37:]), *dialogues(1, seed=11)]
    write_jsonl(file.parent / "upstream" / "tickets.jsonl", upstream)
    plan = edit(file, lambda p: p["sources"]["tickets"]["license"].update(watch=["rows+upstream/tickets.jsonl"]))
    baseline = tick(plan, instance, "license_declarations", None)
    assert look_round(plan, plan.open_store()).news == 1
    with open_ledger(plan.root, plan.open_store()) as ledger:
        assert ledger.state("raw/tickets").withdrawn_rows == ids
    plan = plan_of(file)
    request, _ = tick(plan, instance, "license_declarations", baseline.cursor).run_requests
    assert "adapters/third" not in {from_key(k) for k in request.asset_selection}
    outcome = running.materialize(
        plan, instance, 'key:"raw/tickets" or key:"corpora/one" or key:"splits/one" or key:"adapters/first"'
    )
    assert outcome.success, outcome.refusals
    assert plan.open_store().current("raw/tickets").facts["counts"]["withdrawn"] == 37


def test_lic_05_a_taken_down_eval_set_closes_releases_and_leaves_the_weights(remedied):
    file, instance, _, _ = remedied
    plan = plan_of(file)
    with open_ledger(plan.root, plan.open_store()) as ledger:
        now = datetime.now(UTC)
        ledger.append(
            TermsObservation(source="eval_sets/questions", state=State.TAKEDOWN, valid_from=now, observed_at=now, watcher="counsel")
        )
    plan = plan_of(file)
    outcome = running.check(plan, instance)
    allowed = verdicts(outcome, "license_allows_use")
    assert allowed["eval_sets/questions"] == "fail"
    assert allowed["adapters/third"] == "pass"
    assert verdicts(outcome, "license_blast_radius")["adapters/third"] == "warn", "what is claimed about it rests on the set"
    refused = running.materialize(plan, instance, "releases/third")
    assert "license_allows_use on eval_sets/questions" in next(iter(refused.refusals.values()))


def test_a_prospective_change_binds_new_bytes_only(built):
    file, instance = built
    plan = plan_of(file)
    with open_ledger(plan.root, plan.open_store()) as ledger:
        now = datetime.now(UTC)
        ledger.append(
            TermsObservation(
                source="raw/notes",
                state=State.PROSPECTIVE,
                valid_from=now,
                observed_at=now,
                watcher="url_terms",
                declared="CC-BY-NC-4.0",
            )
        )
    plan = plan_of(file)
    assert verdicts(running.check(plan, instance, "raw/notes"), "license_allows_use") == {"raw/notes": "pass"}
    with (file.parent / "data" / "notes.jsonl").open("a") as notes:
        notes.write(json.dumps(dialogues(1, seed=9)[0]) + "\n")
    plan = plan_of(file)
    running.materialize(plan, instance, "raw/notes")
    plan = plan_of(file)
    assert verdicts(running.check(plan, instance, "raw/notes"), "license_allows_use") == {"raw/notes": "fail"}, (
        "new bytes, new terms"
    )
