"""Synthetic sets that are written when they are built: teachers, remedies and their report, on a real graph with a real server."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ftplatform.defs import running
from ftplatform.defs.assets.synthetic import seeds_of
from ftplatform.defs.build import build_defs
from ftplatform.defs.changes import changed, data_digests
from ftplatform.defs.checks import evaluate
from ftplatform.defs.keys import to_key
from ftplatform.defs.plan import Plan
from ftplatform.defs.run_tags import REBUILD_TAG
from ftplatform.store import Snapshot
from ftplatform.synthesis.teachers.transcripts import TranscriptFile
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.integration.chat_server import ChatServer, chat_server, says
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.synthesis.toy import TOPICS, clean, real

SECRET = "sk-do-not-print-me"
THINGS = sorted(thing for things in TOPICS.values() for thing in things)
GRAMMAR = {
    "shared": ["thing"],
    "rules": {
        "user": [
            "Could you please tell me where my {thing} is?{late:0.5}",
            {"text": "I would like to know the status of my {thing}.{late:0.5}", "weight": 2},
            "I am having trouble with my {thing}. Could you please help me?",
        ],
        "late": [" I have been waiting for {days} days.", " I am sorry to bother you."],
        "days": [str(n) for n in range(2, 30)],
        "assistant": ["We will look at your {thing} today."],
        "thing": THINGS,
    },
}
PROMPT = {"system": "Write one more message.", "answer": "Answer.", "examples": 3}


def typed(seed: int, n: int) -> list[Mapping[str, Any]]:
    """Conversations of a person each, with an answer, as an export of a product would hold them."""
    rng = random.Random(seed)
    return [
        {
            "messages": [
                {"role": "user", "content": f"{real(rng, rng.choice(list(TOPICS)))} {seed}{i}"},
                {"role": "assistant", "content": "on its way"},
            ],
            "group": f"{seed}-{i}",
        }
        for i in range(n)
    ]


def polite(number: int, request: dict[str, Any]) -> Any:
    """A teacher as one gets it: polite, well spelled, one question; now and then a copy of an example, or nothing."""
    if request["messages"][0]["content"] == PROMPT["answer"]:
        return says("We will look at it.")
    if request["seed"] % 40 == 0:
        return says(json.loads(request["messages"][-1]["content"])[0])
    if request["seed"] % 41 == 0:
        return says(None)
    rng = random.Random(request["seed"])
    return says(f"{clean(rng, rng.choice(list(TOPICS)))} My number is {request['seed']}.")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("WRITER_KEY", SECRET)
    with chat_server() as running_server:
        running_server.reply = polite
        yield running_server


def project_file(root: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A project with real inputs in two samples, one that seeds and one that measures, and no more stages than needed."""

    def write(project: dict[str, Any]) -> None:
        license_ = project["sources"]["tickets"]["license"]
        for name in ("seeding", "measuring"):
            project["sources"][name] = {"path": f"data/{name}.jsonl", "surface": "production", "license": dict(license_)}
        teacher = {"id": "acme/writer-2026-10-01", "license": dict(license_)}
        made = {"teacher": teacher, "seeds": ["seeding"], "production_inputs": "measuring"}
        project["synthetic"] = {"made": made}
        project["datasets"] = {"one": {"sources": ["tickets"], "synthetic": ["made"]}}
        project["adapters"] = {}
        change(project)

    file = small_project(root, write)
    write_jsonl(root / "data" / "seeding.jsonl", typed(1, 1500))
    write_jsonl(root / "data" / "measuring.jsonl", typed(2, 800))
    (root / "grammar.yaml").write_text(yaml.safe_dump(GRAMMAR))
    (root / "prompt.yaml").write_text(yaml.safe_dump(PROMPT))
    return file


def by_grammar(project: dict[str, Any]) -> None:
    project["synthetic"]["made"]["generate"] = {"grammar": {"file": "grammar.yaml"}, "rows": 700, "seed": 3}


def by_endpoint(server: ChatServer, rows: int = 300) -> Callable[[dict[str, Any]], None]:
    def change(project: dict[str, Any]) -> None:
        spec = {"url": server.url, "model": "writer-2026-10-01", "api_key_env": "WRITER_KEY"}
        project["synthetic"]["made"]["generate"] = {"endpoint": spec, "rows": rows, "prompt": "prompt.yaml"}

    return change


def test_the_sensor_sees_an_edited_grammar(tmp_path: Path) -> None:
    file = project_file(tmp_path, by_grammar)
    before = data_digests(plan_of(file))
    grammar = tmp_path / "grammar.yaml"
    grammar.touch()
    assert changed(data_digests(plan_of(file)), before) == []
    grammar.write_text(grammar.read_text().replace("today", "tomorrow"))
    assert changed(data_digests(plan_of(file)), before) == ["synthetic/made"]


def with_remedies(*remedies: Any) -> Callable[[dict[str, Any]], None]:
    return lambda project: project["synthetic"]["made"].update(remedies=list(remedies))


def every(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(project: dict[str, Any]) -> None:
        for one in changes:
            one(project)

    return change


class Built:
    """A run that makes real inputs and the synthetic set and judges its surface; with `everything`, all that it needs and all checks."""

    def __init__(self, plan: Plan, *, rebuild: bool = False, everything: bool = False) -> None:
        wanted = ("raw/seeding", "raw/measuring", "synthetic/made")
        with dg.DagsterInstance.ephemeral() as instance:
            if everything:
                self.outcome = running.materialize(
                    plan, instance, "group:raw or group:synthetic or group:eval_sets", rebuild=rebuild
                )
            else:
                checks = [c for c in plan.checks if (c.asset, c.name) == ("synthetic/made", "input_surface_match")]
                definitions, tags = build_defs(plan.loaded), {REBUILD_TAG: "true"} if rebuild else {}
                self.outcome = running._execute(plan, definitions, instance, list(wanted), checks, tags)
            event = instance.get_latest_materialization_event(to_key("synthetic/made"))
        found = event.asset_materialization if event is not None else None
        self.metadata: Mapping[str, Any] = found.metadata if found is not None else {}
        self.plan = plan
        # As it is now: later runs move the head.
        self._made = plan.open_store().current("synthetic/made") if found is not None else None

    @property
    def snapshot(self) -> Snapshot:
        assert self.outcome.errors == {}
        assert self._made is not None
        return self._made

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.snapshot.read_table("rows.parquet").to_pylist()

    def verdict(self, name: str = "input_surface_match") -> Verdict:
        found = (e.verdict for check, e in self.outcome.checks if (check.asset, check.name) == ("synthetic/made", name) and e)
        verdict = next(found)
        assert verdict is not None
        return verdict


def test_a_grammar_set_is_written_judged_and_remedied(tmp_path: Path) -> None:
    file = project_file(tmp_path, by_grammar)
    plain = Built(plan_of(file), everything=True)
    assert plain.snapshot.facts["counts"] == {"read": 700, "kept": 700, "quarantined": 0, "by_reason": {}, "wanted": 700}
    first = plain.rows[0]
    assert (first["source"], first["origins"], first["surface"]) == ("synthetic/made", ["synthetic/made"], "synthetic")
    assert first["parents"] == ["teacher:acme/writer-2026-10-01"]
    assert json.loads(first["meta"])["terms"] == "MIT"
    assert plain.verdict().decision is Decision.FAIL

    remedied = Built(edit(file, with_remedies("style", {"kind": "mix", "share": 0.3}, {"kind": "slips", "share": 0.02})))
    before, after = plain.verdict(), remedied.verdict()
    assert before.ci_low is not None
    assert after.ci_high is not None
    assert after.ci_high < before.ci_low, f"{before.summary} {after.summary}"
    steps = remedied.snapshot.facts["remedies"]
    assert [(s["kind"], s["rows"]) for s in steps] == [("style", 700), ("mix", 700), ("slips", 700)]
    assert steps[1]["new"] == 210
    assert remedied.snapshot.digest != plain.snapshot.digest
    # The report is measured on real inputs that neither the set nor its remedies have seen, and is part of what the UI shows.
    table = remedied.metadata["realism"].records
    assert [record.data["name"] for record in table] == ["as written", "with remedies"]
    assert table[1].data["auc"] < table[0].data["auc"]
    assert "svg" in remedied.metadata["realism_plot"].value
    assert remedied.snapshot.facts["learned_from"] + remedied.snapshot.facts["held"] == 1500


def test_changed_rows_lead_to_the_rows_they_were_and_real_rows_stay_real(tmp_path: Path) -> None:
    file = project_file(tmp_path, every(by_grammar, with_remedies({"kind": "mix", "share": 0.3}, "style")))
    built = Built(plan_of(file))
    written = {row["row_id"] for row in built.snapshot.read_table("written.parquet").to_pylist()}
    seeding = {row["row_id"]: row for row in built.plan.open_store().current("raw/seeding").read_table("rows.parquet").to_pylist()}
    real_rows = [row for row in built.rows if row["surface"] == "production"]
    assert len(real_rows) == 210
    assert all(row == seeding[row["row_id"]] for row in real_rows), "what people typed is not restyled"
    own = [row for row in built.rows if row["surface"] == "synthetic"]
    changed = [row for row in own if row["row_id"] not in written]
    assert changed
    assert {json.loads(row["meta"])["written_as"] for row in changed} <= written
    assert all(row["messages"][1]["content"].startswith("We will look at your") for row in changed), "answers are not touched"


def test_terms_flow_from_teacher_seeds_and_mixed_rows(server: ChatServer, tmp_path: Path) -> None:
    """Rows of a remedied set trace to what has terms, step by step up to the split that is trained on."""

    def change(project: dict[str, Any]) -> None:
        by_endpoint(server, 60)(project)
        with_remedies({"kind": "mix", "share": 0.3}, "style", {"kind": "slips", "share": 0.5})(project)

    plan = plan_of(project_file(tmp_path, change))
    decisions = licensed(plan)
    assert {decisions[asset] for asset in ("synthetic/made", "corpora/one", "splits/one")} == {Decision.PASS}
    asked = len(server.requests)
    unknown = edit(tmp_path / "ftplatform.yaml", lambda p: p["sources"]["seeding"].update(license={"declared": "MIT"}))
    assert licensed(unknown)["synthetic/made"] is Decision.FAIL, "a seed whose license nobody concluded"
    assert len(server.requests) == asked


def licensed(plan: Plan) -> dict[str, Decision]:
    """What `license_allows_use` says of each asset up to the split; nothing refuses on the way."""
    assets = [a for a in plan.lineage.assets if a.split("/")[0] in ("raw", "synthetic", "corpora", "splits")]
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running._execute(plan, build_defs(plan.loaded), instance, assets, [], {})
    assert outcome.errors == {}
    checks = [c for c in plan.checks if c.name == "license_allows_use" and c.asset in assets]
    found = {c.asset: evaluate(c, plan.open_store()).verdict for c in checks}
    return {asset: verdict.decision for asset, verdict in found.items() if verdict is not None}


def test_an_endpoint_set_is_asked_for_once(server: ChatServer, tmp_path: Path) -> None:
    file = project_file(tmp_path, by_endpoint(server))
    built = Built(plan_of(file))
    counts = built.snapshot.facts["counts"]
    assert counts["kept"] == built.snapshot.file("rows.parquet").rows == 300
    assert counts["by_reason"].keys() == {"copied_example", "empty_content"}
    assert counts["quarantined"] == sum(counts["by_reason"].values()) == counts["read"] - 300
    quarantine = built.snapshot.read_table("quarantine.parquet").to_pylist()
    assert {q["file"] for q in quarantine} == {"teacher:acme/writer-2026-10-01"}
    assert built.verdict().decision is Decision.FAIL or built.verdict().decision is Decision.WARN
    seeds = {row["row_id"] for row in built.plan.open_store().current("raw/seeding").read_table("rows.parquet").to_pylist()}
    parents = built.rows[0]["parents"]
    assert parents[:2] == ["teacher:acme/writer-2026-10-01", "raw/seeding"]
    assert set(parents[2:]) <= seeds
    said = built.snapshot.read_table("transcripts.parquet")
    assert said.num_rows == len(server.requests)

    asked = len(server.requests)
    again = Built(plan_of(file), rebuild=True)
    assert again.snapshot.digest == built.snapshot.digest
    assert len(server.requests) == asked, "a rebuild asks nobody"
    # Nor with the recording beside the snapshots gone: the snapshot holds what was said.
    for piece in (Path(built.plan.store_url) / "transcripts").rglob("*.parquet"):
        piece.unlink()
    assert Built(plan_of(file), rebuild=True).snapshot.digest == built.snapshot.digest
    assert len(server.requests) == asked

    remedied = Built(edit(file, with_remedies("style")))
    assert len(server.requests) == asked, "a remedy works on what was said"
    before, after = built.verdict(), remedied.verdict()
    assert before.ci_low is not None
    assert after.ci_high is not None
    assert after.ci_high < before.ci_low


def test_no_conversation_both_seeds_and_measures(server: ChatServer, tmp_path: Path) -> None:
    """ADV: shown all of the real inputs, a teacher would be measured on what it was shown."""
    file = project_file(tmp_path, every(by_endpoint(server, 40), with_remedies("style")))
    built = Built(plan_of(file))
    shown = {
        text
        for r in server.requests
        if r["messages"][0]["content"] == PROMPT["system"]
        for text in json.loads(r["messages"][1]["content"])
    }
    texts = {
        row["messages"][0]["content"]
        for row in built.plan.open_store().current("raw/seeding").read_table("rows.parquet").to_pylist()
    }
    measuring = {
        r["messages"][0]["content"] for r in built.plan.open_store().current("raw/measuring").read_table("rows.parquet").to_pylist()
    }
    assert shown <= texts
    assert not shown & measuring
    divided = seeds_of(built.plan, "made", [built.plan.open_store().current("raw/seeding")])
    held = {row["messages"][0]["content"] for row in divided.held.to_pylist()}
    assert len(held) > 600
    assert not shown & held
    assert texts - held >= shown


def test_what_decides_gives_another_version(server: ChatServer, tmp_path: Path) -> None:
    file = project_file(tmp_path, by_endpoint(server, 30))
    seen = {Built(plan_of(file)).snapshot.digest}

    def another_prompt(project: dict[str, Any]) -> None:
        (tmp_path / "prompt.yaml").write_text(yaml.safe_dump({**PROMPT, "examples": 2}))

    changes: list[Callable[[dict[str, Any]], None]] = [
        another_prompt,
        lambda p: p["synthetic"]["made"]["generate"].update(seed=9),
        lambda p: p["synthetic"]["made"]["generate"]["endpoint"].update(temperature=0.5),
        lambda p: p["synthetic"]["made"]["teacher"].update(id="acme/writer-2026-11-01"),
        lambda p: p["synthetic"]["made"]["teacher"]["license"].update(concluded="Apache-2.0"),
        with_remedies({"kind": "slips", "share": 0.5}),
    ]
    for number, change in enumerate(changes):
        seen.add(Built(edit(file, change)).snapshot.digest)
        assert len(seen) == number + 2
    asked = len(server.requests)
    # What does not decide gives none.
    same = Built(edit(file, lambda p: p["synthetic"]["made"]["generate"]["endpoint"].update(concurrency=1)))
    assert same.snapshot.digest in seen
    assert len(server.requests) == asked


def failing(plan: Plan) -> str:
    built = Built(plan)
    assert len(built.outcome.errors) == 1, built.outcome.errors
    return built.outcome.errors["synthetic__made"]


def test_a_bad_key_and_a_dead_server_are_one_error_that_names_the_entry(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project_file(tmp_path, by_endpoint(server, 20))
    server.reply = lambda number, request: (401, {}, f"bad key {SECRET}".encode())
    refused = failing(plan_of(file))
    assert "synthetic.made: " in refused
    assert "status 401: bad key ***" in refused
    assert SECRET not in refused
    monkeypatch.delenv("WRITER_KEY")
    assert "synthetic.made: The environment variable WRITER_KEY is not set." in failing(plan_of(file))
    with chat_server() as gone:
        pass
    monkeypatch.setenv("WRITER_KEY", SECRET)
    dead = edit(file, lambda p: p["synthetic"]["made"]["generate"]["endpoint"].update(url=gone.url))
    assert re.search(r"synthetic\.made: http://127\.0\.0\.1:\d+/v1/chat/completions gave no answer in \d tries", failing(dead))


def test_an_outage_keeps_what_was_said(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project_file(tmp_path, by_endpoint(server, 60))
    server.reply = lambda number, request: polite(number, request) if number <= 40 else (400, {}, b"gone")
    assert "synthetic.made: " in failing(plan_of(file))
    asked = {json.dumps(r, sort_keys=True) for r in server.requests[:32]}
    server.requests.clear()
    server.reply = polite
    assert Built(plan_of(file)).snapshot.file("rows.parquet").rows == 60
    assert not asked & {json.dumps(r, sort_keys=True) for r in server.requests}, "what was said is not paid for again"


def test_files_that_are_wrong_are_named_with_the_entry(tmp_path: Path) -> None:
    file = project_file(tmp_path, by_grammar)
    (tmp_path / "grammar.yaml").write_text("rules:\n  user:\n    - {text: hi, weight: none}\n")
    assert re.search(r"(?s)synthetic\.made: .*grammar\.yaml:3", failing(plan_of(file)))
    (tmp_path / "grammar.yaml").write_text("rules:\n  user: ['{nobody}']\n  assistant: [yes]\n")
    assert "synthetic.made: 'user' uses {nobody}, which has no rule." in failing(plan_of(file))
    (tmp_path / "grammar.yaml").unlink()
    assert "synthetic.made: grammar.yaml cannot be read" in failing(plan_of(file))


def test_a_grammar_needs_no_seeds(tmp_path: Path) -> None:
    built = Built(plan_of(project_file(tmp_path, every(by_grammar, lambda p: p["synthetic"]["made"].pop("seeds")))))
    assert built.snapshot.file("rows.parquet").rows == 700
    assert "realism" not in built.metadata


def test_the_key_is_nowhere(server: ChatServer, tmp_path: Path) -> None:
    built = Built(plan_of(project_file(tmp_path, by_endpoint(server, 20))))
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in repr(built.metadata)
    assert SECRET not in json.dumps(dict(built.snapshot.facts))
    assert SECRET not in str(
        [built.snapshot.read_table(f"{name}.parquet").to_pylist() for name in ("rows", "transcripts", "quarantine")]
    )
    stored = [path for path in Path(built.plan.store_url).rglob("*") if path.is_file()]
    assert stored
    assert not any(SECRET.encode() in path.read_bytes() for path in stored)


@pytest.mark.slow
def test_the_shipped_model_writes_is_judged_and_remedied(tmp_path: Path) -> None:
    def by_model(project: dict[str, Any]) -> None:
        spec = {"path": "base_model", "max_tokens": 12}
        project["synthetic"]["made"]["generate"] = {"local_model": spec, "rows": 210, "prompt": "prompt.yaml", "inputs_only": True}
        project["datasets"] = {"one": {"sources": ["tickets"]}}

    file = project_file(tmp_path, by_model)
    (tmp_path / "prompt.yaml").write_text(yaml.safe_dump({**PROMPT, "examples": 1}))
    built = Built(plan_of(file))
    counts = built.snapshot.facts["counts"]
    assert counts["kept"] >= 200
    assert built.snapshot.facts["generate"]["kind"] == "model"
    remedied = Built(edit(file, with_remedies("style", {"kind": "resample", "share": 0.2})))
    before, after = built.verdict(), remedied.verdict()
    assert before.estimate is not None
    assert after.estimate is not None
    assert after.estimate < before.estimate
    steps = remedied.snapshot.facts["remedies"]
    assert steps[1]["new"] > 0


def test_transcripts_are_replayed_by_whoever_has_them(server: ChatServer, tmp_path: Path) -> None:
    file = project_file(tmp_path / "one", by_endpoint(server, 30))
    built = Built(plan_of(file))
    asked = len(server.requests)
    elsewhere = project_file(tmp_path / "two", by_endpoint(server, 30))
    TranscriptFile(tmp_path / "two" / "said.jsonl").append(built.snapshot.read_table("transcripts.parquet"))
    replay = edit(
        elsewhere,
        lambda p: p["synthetic"]["made"].update(
            generate={"transcripts": {"path": "said.jsonl"}, "rows": 30, "prompt": "prompt.yaml"}
        ),
    )
    replayed = Built(replay)
    assert len(server.requests) == asked
    said = [row["messages"] for row in built.rows]
    assert [row["messages"] for row in replayed.rows] == said
    # What the file says is part of the version, though nothing else has changed.
    said_file = tmp_path / "two" / "said.jsonl"
    said_file.write_text(said_file.read_text().replace("We will look at it.", "We shall see."))
    assert {row["messages"][1]["content"] for row in Built(replay).rows} == {"We shall see."}
    other = edit(elsewhere, lambda p: p["synthetic"]["made"]["generate"].update(seed=5))
    assert "not among the transcripts" in failing(other)


def test_a_recorded_set_is_remedied_and_its_reading_stays(tmp_path: Path) -> None:
    rng = random.Random(4)
    made = [{"prompt": f"{clean(rng, rng.choice(list(TOPICS)))} My number is {i}.", "completion": "ok"} for i in range(600)]
    file = project_file(tmp_path, lambda p: p["synthetic"]["made"].update(path="data/made.jsonl"))
    write_jsonl(tmp_path / "data" / "made.jsonl", [*made, {"prompt": "no answer"}])
    plain = Built(plan_of(file))
    remedied = Built(edit(file, with_remedies("style")))
    assert plain.snapshot.facts["counts"]["by_reason"] == remedied.snapshot.facts["counts"]["by_reason"]
    assert remedied.snapshot.read_table("written.parquet").equals(plain.snapshot.read_table("rows.parquet"))
    before, after = plain.verdict(), remedied.verdict()
    assert before.ci_low is not None
    assert after.ci_high is not None
    assert after.ci_high < before.ci_low


def test_the_graph_of_a_generated_set_is_the_declared_one(server: ChatServer, tmp_path: Path) -> None:
    plan = plan_of(project_file(tmp_path, by_endpoint(server)))
    graph = build_defs(plan.loaded).resolve_asset_graph()
    node = graph.get(to_key("synthetic/made"))
    assert {k.path[-1] for k in node.parent_keys} == {"seeding"}
    assert set(plan.lineage.parents["synthetic/made"]) == {"raw/seeding"}
    assert node.kinds == {"generated"}
