"""LIC-09, LIC-15, LIC-16 on real runs: released under waiver, with what the licenses ask, as the licenses stand now."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.cli.status_command import release_waivers
from ftplatform.defs import running
from ftplatform.defs.build import build_defs
from ftplatform.defs.gates import gate_state, lapsed, unmet, waive
from ftplatform.defs.ledger import open_ledger
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.release.bundle import verify_release
from ftplatform_tests.projects import edit, plan_of, small_project

NAME = "llama-first"
RELEASE, RESULTS = f"releases/{NAME}", f"eval_results/{NAME}"
PROBES = ("refusal_retention", "overrefusal_retention")
SAID = {
    "share_alike": "The adapter is released under CC-BY-SA-4.0.",
    "attribution": {"raw/tickets": "The Schema-Guided Dialogue authors, https://example.org/sgd"},
    "acceptable_use": "Section 7 of our terms passes the policy on.",
    "monthly_users_below_700_million": "Counsel confirmed it on 2026-01-10.",
}


def world(project: dict[str, Any]) -> None:
    """One adapter on rows under CC-BY-SA and a base under the Llama license; nobody has written probes."""
    license_ = project["sources"]["tickets"]["license"]
    project["use"] = ["train", "evaluate", "commercial_model", "redistribute_weights"]
    share = {**license_, "declared": "CC-BY-SA-4.0", "concluded": "CC-BY-SA-4.0", "evidence": "CC-BY-SA.txt"}
    llama = {**license_, "declared": "llama3.1", "concluded": "llama3.1", "evidence": "LLAMA.txt"}
    project["sources"] = {"tickets": {**project["sources"]["tickets"], "license": share}}
    project["datasets"] = {"one": project["datasets"]["one"]}
    project["base_models"]["base"]["license"] = llama
    project["adapters"] = {NAME: project["adapters"]["first"]}
    # Two missing kinds of probes are enough to waive.
    project["gates"] = {"helpfulness_retention": {"severity": "warn"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory, shared_data: Path):
    """Everything up to the evaluations, in one run that ends there."""
    root = tmp_path_factory.mktemp("waivers")
    file = small_project(root, world)
    shutil.copyfile(shared_data / "sgd_sample" / "LICENSE.txt", root / "CC-BY-SA.txt")
    (root / "LLAMA.txt").write_text("This file stands in for the community license of the base model. " * 12)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance)
        assert outcome.errors == {}
        assert RESULTS in outcome.materialized
        assert RELEASE not in outcome.materialized
        yield file, instance


def cli(file: Path, *arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*arguments, "--project", str(file), "--json"])
    return done.exit_code, json.loads(done.stdout)


def process(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ftplatform.cli", *arguments, "--project", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def issue(file: Path, check: str, days: str = "7") -> dict[str, Any]:
    code, answer = cli(file, "waiver", "issue", RESULTS, check, "--by", "jo@example.com", "--why", "no probes yet", "--days", days)
    assert code == 0, answer
    return answer["waivers"][0]


def refusal(file: Path, instance: dg.DagsterInstance) -> str:
    outcome = running.materialize(plan_of(file), instance, RELEASE)
    assert outcome.errors == {}
    assert outcome.materialized == ()
    (reason,) = outcome.refusals.values()
    return reason


# ---- LIC-09 -----------------------------------------------------------------------------------------------------------------------


def test_nothing_but_the_missing_probes_stands_in_the_way(built):
    file, instance = built
    plan = plan_of(file)
    store = plan.open_store()
    assert {(u.asset, u.check) for u in unmet(plan.gates_of(RELEASE), store)} == {(RESULTS, check) for check in PROBES}
    assert "insufficient_evidence" in refusal(file, instance)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["raw/tickets", "row_schema", "--days", "7"], 1, "row_schema cannot be waived"),
        ([f"adapters/{NAME}", "closure_complete", "--days", "7"], 1, "closure_complete cannot be waived"),
        (["splits/one", "contamination_exact", "--days", "7"], 1, "nothing to waive"),
        ([RELEASE, "license_allows_use", "--days", "7"], 1, "nothing to waive: never run"),
    ],
)
def test_what_cannot_be_waived_is_refused_with_a_remedy(built, arguments: list[str], code: int, says: str):
    found, answer = cli(built[0], "waiver", "issue", *arguments, "--by", "jo", "--why", "in a hurry")
    assert (found, says in answer["refused"], bool(answer["remedy"])) == (code, True, True), answer


@pytest.mark.parametrize(
    ("asset", "check", "by", "days", "says"),
    [
        ("raw/nothing", "license_known", "jo", "7", "no asset 'raw/nothing'"),
        (RESULTS, "refusal_retension", "jo", "7", "no check 'refusal_retension'"),
        (RESULTS, "refusal_retention", "jo", "31", "at most 30 days"),
        (RESULTS, "refusal_retention", " ", "7", "who signs it"),
    ],
)
def test_bad_input_exits_with_2(built, asset: str, check: str, by: str, days: str, says: str):
    done = process(built[0], "waiver", "issue", asset, check, "--by", by, "--why", "w", "--days", days)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert cli(built[0], "waiver", "list") == (0, {"waivers": []})


def test_lic_09_an_expired_waiver_refuses_a_real_run_and_is_named(built):
    file, instance = built
    plan = plan_of(file)
    (check,) = [c for c in plan.checks_of([RESULTS]) if c.name == "refusal_retention"]
    week_ago = datetime.now(UTC) - timedelta(days=7, hours=1)
    expired = waive(check, plan.open_store(), by="ann", why="probes follow", lifetime=timedelta(days=7), now=week_ago)
    assert f"the waiver {expired.id[:12]} signed by ann expired on {expired.expires_at:%Y-%m-%d}" in refusal(file, instance)
    (listed,) = cli(file, "waiver", "list")[1]["waivers"]
    assert (listed["id"], listed["state"]) == (expired.id, "expired")


@pytest.fixture(scope="module")
def waived(built):
    file, instance = built
    return file, instance, [issue(file, check) for check in PROBES]


def test_what_was_waived_is_shown(waived):
    file, _, (first, second) = waived
    assert (first["decision"], first["check"], first["by"], first["state"]) == (
        "insufficient_evidence",
        "refusal_retention",
        "jo@example.com",
        "in force",
    )
    assert first["summary"]
    assert [w["id"] for w in cli(file, "waiver", "list")[1]["waivers"]][:2] == [second["id"], first["id"]]
    assert cli(file, "waiver", "list", "raw/tickets") == (0, {"waivers": []})
    table = CliRunner().invoke(app, ["waiver", "list", "--project", str(file)])
    assert table.exit_code == 0
    assert "Waivers" in table.stdout  # columns fold on narrow terminals
    # Under another limit it is another check; nobody signed for that one.
    edit(file, lambda p: p["gates"].update(refusal_retention={"threshold": 0.2}))
    states = {w["id"]: w["state"] for w in cli(file, "waiver", "list")[1]["waivers"]}
    assert states[first["id"]].startswith("no longer applies")
    assert states[second["id"]] == "in force"
    edit(file, lambda p: p["gates"].pop("refusal_retention"))


# ---- LIC-15 -----------------------------------------------------------------------------------------------------------------------


def test_lic_15_with_the_gates_open_what_is_owed_still_refuses_and_writes_nothing(waived):
    file, instance, _ = waived
    store = plan_of(file).open_store()
    before = {entry.key for entry in store.backend.list("manifests/")}
    reason = refusal(file, instance)
    assert "obligations_met: 4 of 7 obligations are not met" in reason
    for owed in (
        "attribution to raw/tickets: the model card does not say who created it",
        "share_alike to raw/tickets: a person has to confirm it",
        "acceptable_use to base_models/base: a person has to confirm it",
        "monthly_users_below_700_million to base_models/base",
    ):
        assert owed in reason
    assert store.head(RELEASE) is None
    assert {entry.key for entry in store.backend.list("manifests/")} == before


def test_lic_15_each_one_left_out_refuses_and_is_named(waived):
    file, instance, _ = waived
    for left_out in SAID:
        rest = {name: text for name, text in SAID.items() if name != left_out}
        edit(file, lambda p, rest=rest: p["adapters"][NAME].update(obligations=rest))
        reason = refusal(file, instance)
        assert f"1 of 7 obligations are not met: {left_out} to " in reason
    assert plan_of(file).open_store().head(RELEASE) is None


@pytest.fixture(scope="module")
def released(waived):
    file, instance, waivers = waived
    edit(file, lambda p: p["adapters"][NAME].update(obligations=SAID))
    outcome = running.materialize(plan_of(file), instance, RELEASE)
    assert outcome.materialized == (RELEASE,), outcome.refusals
    return file, instance, waivers


def test_lic_15_the_attribution_file_names_them(released):
    snapshot = plan_of(released[0]).open_store().current(RELEASE)
    folder = snapshot.local_folder()
    assert verify_release(folder) == []
    notice = (folder / "NOTICE.md").read_text()
    tickets = notice.split("## raw/tickets")[1]
    for named in (
        "The Schema-Guided Dialogue authors",
        "https://spdx.org/licenses/CC-BY-SA-4.0.html",
        "- Changed: rows were selected",
    ):
        assert named in tickets
    assert "The adapter is released under CC-BY-SA-4.0." in tickets
    assert "Counsel confirmed it on 2026-01-10." in notice.split("## base")[1].split("## raw")[0]
    card = (folder / "README.md").read_text()
    assert "\n# Llama-first\n" in card
    assert "**Built with Llama**" in card
    shipped = {path.read_bytes() for path in (folder / "licenses").iterdir()}
    assert {(released[0].parent / name).read_bytes() for name in ("CC-BY-SA.txt", "LLAMA.txt")} <= shipped
    assert json.loads((folder / "obligations.json").read_text())["decision"] == "pass"
    assert snapshot.facts["obligations"] == "pass"


# ---- LIC-09, continued ------------------------------------------------------------------------------------------------------------


def test_lic_09_the_bundle_says_released_under_waiver(released):
    file, _, waivers = released
    snapshot = plan_of(file).open_store().current(RELEASE)
    folder = snapshot.local_folder()
    cited = json.loads((folder / "waivers.json").read_text())
    assert {record["record"] for record in cited} == {w["id"] for w in waivers}
    assert {named["waiver"] for named in snapshot.facts["waivers"]} == {w["id"] for w in waivers}
    section = (folder / "README.md").read_text().split("## Released under waiver")[1].split("\n## ")[0]
    for waiver in waivers:
        (row,) = [line for line in section.splitlines() if waiver["id"][:16] in line]
        for shown in (waiver["check"].replace("_", "\\_"), "jo@example.com", "no probes yet", waiver["until"][:10]):
            assert shown in row
    failed = {r["document"]["check"] for r in json.loads((folder / "checks.json").read_text()) if r["document"]["severity"] == "error"
              and r["document"]["verdict"]["decision"] != "pass"}  # fmt: skip
    assert failed == set(PROBES), "what was waived is in the bundle as what it is"


def test_lic_09_status_shows_it(released):
    file, _, waivers = released
    code, answer = cli(file, "status")
    assert code == 0
    assert answer["release_states"] == {NAME: "released under waiver"}
    assert answer["releases"] == {NAME: []}
    rows = {row["check"]: row for row in answer["checks"] if row["asset"] == RESULTS}
    for waiver in waivers:
        assert rows[waiver["check"]]["decision"] == "insufficient_evidence"
        assert rows[waiver["check"]]["waived_until"].startswith(waiver["until"][:10])
    (results,) = [asset for asset in answer["assets"] if asset["asset"] == RESULTS]
    assert "refusal_retention insufficient_evidence (waived until " in results["checks"]


def test_lic_09_time_alone_closes_the_gate_and_uncovers_the_release(released):
    file, _, waivers = released
    plan = plan_of(file)
    store = plan.open_store()
    later = datetime.now(UTC) + timedelta(days=8)
    assert gate_state(plan.gates_of(RELEASE), store).unmet == []
    reasons = unmet(plan.gates_of(RELEASE), store, later)
    assert {reason.check for reason in reasons} == set(PROBES)
    assert all("signed by jo@example.com expired on " in reason.reason for reason in reasons)
    assert [w["covers"] for w in release_waivers(store, RELEASE, datetime.now(UTC))] == [True, True]
    assert [w["covers"] for w in release_waivers(store, RELEASE, later)] == [False, False]
    assert {w.id for w in lapsed(store.all_waivers(), store, later)} >= {w["id"] for w in waivers}


def test_lic_09_a_revoked_waiver_refuses_the_next_release_and_uncovers_the_last(released):
    file, instance, (first, _) = released
    code, answer = cli(file, "waiver", "revoke", first["id"][:16], "--by", "kim", "--why", "harm was reported")
    assert (code, answer["waivers"][0]["state"]) == (0, "revoked by kim: harm was reported")
    assert cli(file, "waiver", "revoke", first["id"], "--by", "kim", "--why", "again")[0] == 1
    done = process(file, "waiver", "revoke", "0000nothing", "--by", "kim", "--why", "w", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "InputDataError")
    assert "was revoked by kim: harm was reported" in refusal(file, instance)
    answer = cli(file, "status")[1]
    assert answer["release_states"] == {NAME: "no longer covered"}
    assert answer["releases"][NAME][0].startswith("rests on a waiver that is over: refusal_retention")


def test_lic_09_signed_again_it_is_another_release(released):
    file, instance, _ = released
    store = plan_of(file).open_store()
    before = store.current(RELEASE)
    renewed = issue(file, "refusal_retention", days="1")
    outcome = running.materialize(plan_of(file), instance, RELEASE)
    assert outcome.materialized == (RELEASE,), outcome.refusals
    after = store.current(RELEASE)
    assert after.digest != before.digest
    assert renewed["id"] in {named["waiver"] for named in after.facts["waivers"]}
    assert cli(file, "status")[1]["release_states"] == {NAME: "released under waiver"}
    running.materialize(plan_of(file), instance, RELEASE)
    assert store.current(RELEASE).digest == after.digest, "under the same signatures it is the same"


# ---- LIC-16 -----------------------------------------------------------------------------------------------------------------------


def test_lic_16_a_license_that_changed_after_training_refuses_the_release(released):
    """ADV: the terms known when the code was loaded say that every gate holds; the step asks the ledger again."""
    file, instance, _ = released
    plan = plan_of(file)
    store = plan.open_store()
    definitions = build_defs(plan.loaded)
    assert unmet(plan.gates_of(RELEASE), store) == []
    before = store.head(RELEASE)

    now = datetime.now(UTC)
    changed = TermsObservation(
        source="raw/tickets", state=State.RELICENSED, valid_from=now, observed_at=now, watcher="hub", declared="cc-by-nc-sa-4.0"
    )
    with open_ledger(plan.root, store) as ledger:
        ledger.append(changed)
    assert unmet(plan.gates_of(RELEASE), store) == [], "who keeps the terms in memory sees nothing"

    job = dg.define_asset_job("now", selection=dg.AssetSelection.assets(RELEASE.split("/")).without_checks())
    resolved = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("now")
    result = resolved.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    description = failure.description or ""
    assert "license_allows_use on raw/tickets" in description
    assert "other thresholds, policy or license terms than those in force" in description
    assert store.head(RELEASE) == before

    # Judged again, it fails for the reason itself.
    running.check(plan_of(file), instance, "raw/tickets")
    assert "relicensed" in refusal(file, instance)
