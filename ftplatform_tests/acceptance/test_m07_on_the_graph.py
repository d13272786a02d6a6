"""M7 as a user meets it: run, browse what went, read a sample, sign; and an adapter on rows that weigh less where they repeat."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform.training.manifest import read_rows, sequence_sha256
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl

SPLIT, ADAPTER = "splits/one", "adapters/first"
WORDS = [f"word{i}" for i in range(300)]


def repetitive(project: dict[str, Any]) -> None:
    """One adapter on tickets and sixty forms that say nearly the same."""
    project["sources"]["forms"] = {**project["sources"]["tickets"], "path": "data/forms.jsonl"}
    project["datasets"] = {"one": {"sources": ["tickets", "forms"], "hardness_model": "base"}}
    project["adapters"] = {"first": {**project["adapters"]["first"], "release": False}}


def forms(count: int) -> list[dict[str, Any]]:
    rng = random.Random(3)
    base = rng.choices(WORDS, k=40)
    made = []
    for number in range(count):
        words = list(base)
        words[rng.randrange(40)] = f"customer{number}"
        messages = [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": "We have sent you the form."}]
        made.append({"messages": messages, "group": f"form-{number}", "slices": ["form"]})
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("m07")
    file = small_project(root, repetitive)
    write_jsonl(root / "data" / "forms.jsonl", forms(60))
    with dg.DagsterInstance.ephemeral() as instance:
        yield file, instance


def cli(file: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--project", str(file), "--json"])
    assert done.exit_code in (0, 1), done.output
    return json.loads(done.stdout)


def decisions(file: Path, asset: str) -> dict[str, str]:
    return {row["check"]: row["decision"] for row in cli(file, "status")["checks"] if row["asset"] == asset}


def test_by_default_repeated_rows_stay_and_count_less_in_training(world):
    file, instance = world
    outcome = running.materialize(plan_of(file), instance)
    assert outcome.errors == {}
    assert ADAPTER in outcome.materialized, outcome.refusals
    store = plan_of(file).open_store()
    split, adapter = store.current(SPLIT), store.current(ADAPTER)
    weight = {w["row_id"]: w["weight"] for w in split.read_table("weights.parquet").to_pylist()}
    train = split.read_table("train.parquet").to_pylist()
    assert weight.keys() == {row["row_id"] for row in train}
    form = [weight[row["row_id"]] for row in train if "form" in row["slices"]]
    assert len(form) > 40
    assert 5 <= sum(form) < 15, "they weigh as much as a few rows, and not less than their slice's floor"
    assert all(weight[row["row_id"]] == 1.0 for row in train if row["source"] == "raw/tickets")
    # The trainer has read them: other weights are another manifest and another adapter.
    rows = adapter.read_table("rows.parquet")
    assert rows["weight"].to_pylist() == [weight[row] for row in rows["row_id"].to_pylist()]
    recorded = adapter.read_json("training/training_manifest.json")["rows_sha256"]
    folder = adapter.local_folder()
    assert recorded == sequence_sha256(read_rows(folder / "rows.parquet")) != sequence_sha256(rows.drop_columns(["weight"]))


def test_every_check_of_the_mode_has_judged_the_split(world):
    found = decisions(world[0], SPLIT)
    for check in ("slice_survival", "hard_row_survival", "threshold_sensitivity", "dedup_reviewed", "provenance_union"):
        assert check in found, found
    assert found["slice_survival"] == found["provenance_union"] == "pass"
    assert found["representative_bias"] in ("pass", "insufficient_evidence")


def test_what_counts_less_can_be_browsed(world, tmp_path: Path):
    page = tmp_path / "one.html"
    shown = cli(world[0], "dedup", "diff", "one", "--html", str(page))
    assert shown["counts"]["counts_for_less"] > 40
    assert shown["pairs"][0]["similarity"] <= shown["pairs"][-1]["similarity"]
    assert "customer" in page.read_text()
    only = cli(world[0], "dedup", "diff", "one", "--slice", "nothing")
    assert only["counts"] == {}
    plain = CliRunner().invoke(app, ["dedup", "diff", "one", "--project", str(world[0])])
    assert "counts_for_less" in plain.stdout


def test_removing_instead_asks_for_a_reader_and_takes_the_signature(world, tmp_path: Path):
    file, instance = world
    edit(file, lambda project: project["datasets"]["one"].update(dedup={"method": "remove", "threshold": 0.6}))
    running.materialize(plan_of(file), instance, SPLIT)
    assert decisions(file, SPLIT)["dedup_reviewed"] == "warn", "nobody has read it"

    sheet = tmp_path / "sheet.csv"
    asked = cli(file, "dedup", "review", "one", "--out", str(sheet))
    rows = list(csv.DictReader(sheet.open()))
    assert asked["pairs"] == len(rows) >= 5
    refused = CliRunner().invoke(app, ["dedup", "sign", "one", str(sheet), "--by", "kim", "--project", str(file)])
    assert refused.exit_code != 0, "an empty sheet is no reading"
    assert cli(file, "status")["checks"], "and nothing was recorded"

    with sheet.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows({**row, "judgment": "duplicate"} for row in rows)
    signed = cli(file, "dedup", "sign", "one", str(sheet), "--by", "kim@example.com", "--note", "forms only")
    assert signed["reviewer"] == "kim@example.com"
    assert decisions(file, SPLIT)["dedup_reviewed"] == "warn", "a signature is no judgment"
    running.check(plan_of(file), instance, SPLIT)
    assert decisions(file, SPLIT)["dedup_reviewed"] == "pass"


def test_nothing_is_lost_from_small_sources(world):
    file, _ = world
    store = plan_of(file).open_store()
    split = store.current(SPLIT)
    parts = [split.read_table(f"{name}.parquet") for name in ("train", "eval", "removed")]
    assert sum(part.num_rows for part in parts) == store.current("corpora/one").read_table("rows.parquet").num_rows
    assert len(dialogues(120, seed=1)) == 120


def complaints() -> list[dict[str, Any]]:
    """Eleven customers whose refund was taken back, in nearly the same words; no tag says that they belong together."""
    adverbs = ("never", "just", "secretly", "still", "calmly", "wrongly", "also", "somehow", "twice", "again", "today")
    made = []
    for number, adverb in enumerate(adverbs):
        asked = f"you people {adverb} reversed my refund for the broken juicer, this is theft, give the whole amount back at once"
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": "You are right, and you get it back."}]
        made.append({"messages": messages, "group": f"complaint-{number}"})
    return made


def test_a_slice_nobody_declared_is_found_and_survives(tmp_path: Path):
    def removing(project: dict[str, Any]) -> None:
        repetitive(project)
        project["datasets"]["one"] |= {"dedup": {"method": "remove", "threshold": 0.5}, "reserve": {"fraction": 0.0}}
        project["adapters"]["first"]["release"] = False

    file = small_project(tmp_path, removing)
    write_jsonl(tmp_path / "data" / "tickets.jsonl", dialogues(400, seed=1))
    write_jsonl(tmp_path / "data" / "forms.jsonl", complaints())
    survivors = {}
    for discover in (False, True):
        plan = edit(file, lambda project, on=discover: project["datasets"]["one"].update(discover_slices=on))
        with dg.DagsterInstance.ephemeral() as instance:
            running.materialize(plan, instance, f'+key:"{SPLIT}"')
        train = plan.open_store().current(SPLIT).read_table("train.parquet").to_pylist()
        survivors[discover] = [row for row in train if row["source"] == "raw/forms"]
        assert decisions(file, SPLIT)["slice_survival"] == "pass"
    assert len(survivors[False]) == 1, "undeclared, ten of eleven go and no check has anything to say"
    assert len(survivors[True]) == 5
    (name,) = {tag for row in survivors[True] for tag in row["slices"] if tag != "high loss"}
    assert "reversed" in name

    corpus = plan.open_store().current("corpora/one")
    assert {ref.asset: ref.role for ref in corpus.inputs}["base_models/base"] == "selection"
    losses = corpus.read_table("losses.parquet").to_pylist()
    assert len(losses) == corpus.read_table("rows.parquet").num_rows
    found = set(corpus.read_table("discovered_slices.parquet")["slice"].to_pylist())
    assert {"high loss", name} <= found
