"""CLO-06: a real adapter is rehearsed on other real bases, and the report says what a user of it would want to know."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from playwright.sync_api import expect, sync_playwright
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform.evaluation.retention import refusal_retention
from ftplatform.migration.ledger import migrations
from ftplatform.store import access_log
from ftplatform.training.encode import encode_rows
from ftplatform.training.loading import load_base
from ftplatform.training.loop import Optimization, fit
from ftplatform.verdict import Decision
from ftplatform_tests.projects import BASE_MODEL, dialogues, plan_of, small_project, write_jsonl
from ftplatform_tests.tables import row, table

ADAPTER = "adapters/first"
PROBES = BASE_MODEL.parent / "data" / "eval" / "refusal_probes.jsonl"
HOSTILE = "<script>document.title='owned'</script>"
TEMPLATE = (
    "{%- for message in messages -%}{{ '<|turn|>' + message['role'] + ':' + message['content'] + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|turn|>assistant:' }}{%- endif -%}"
)


def lax_base(folder: Path) -> None:
    """The bundled base with another template and two more tokens, trained on until it has forgotten to refuse."""
    model, tokenizer = load_base(BASE_MODEL, device="cpu", precision="fp32")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|turn|>", "<|reserved|>"]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = TEMPLATE
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)  # pyright: ignore[reportCallIssue]
    rows = table(row(*(m["content"] for m in d["messages"])) for d in dialogues(200, seed=9))
    examples = encode_rows(rows, tokenizer, max_tokens=128).examples
    fit(model, examples, Optimization(steps=60, batch_size=8, learning_rate=2e-3), pad_token=tokenizer.pad_token_id, bf16=False)
    model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    tokenizer.save_pretrained(folder)


def mute_base(folder: Path) -> None:
    """The bundled base without a chat template."""
    shutil.copytree(BASE_MODEL, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An adapter on the lax base, trained, and three bases to move to; its task set is a vault."""
    root = tmp_path_factory.mktemp("migrate")
    lax_base(root / "lax_model")
    mute_base(root / "mute_model")
    shutil.copytree(root / "lax_model", root / "copy_model")
    probes = [json.loads(line) for line in PROBES.read_text().splitlines()[::12]]
    write_jsonl(root / "data" / "probes.jsonl", probes)
    write_jsonl(
        root / "data" / "exam.jsonl",
        [
            {"prompt": d["messages"][0]["content"], "completion": d["messages"][1]["content"], "group": d["group"],
             "intent": HOSTILE if i % 2 else "devices"}
            for i, d in enumerate(dialogues(60, seed=3))
        ],
    )  # fmt: skip

    def change(spec: dict[str, Any]) -> None:
        license_ = spec["base_models"]["base"]["license"]
        del spec["adapters"]["second"], spec["datasets"]["two"], spec["sources"]["chats"]
        spec["adapters"]["first"] |= {
            "base": "lax",
            "training": {
                "steps": 40, "batch_size": 8, "learning_rate": 0.004, "lora": {"rank": 8, "alpha": 16}, "precision": "fp32",
                "max_tokens": 128,
            },
        }  # fmt: skip
        spec["base_models"] = {
            "lax": {"path": "lax_model", "license": license_},
            "strict": {"path": "base_model", "license": {"declared": "MIT"}},
            "copy": {"path": "copy_model", "license": license_},
            "mute": {"path": "mute_model", "license": license_},
        }
        # The exam is written by the generator of the training rows, on purpose: forty steps have to show on it.
        spec["gates"] = {name: {"severity": "warn"} for name in ("contamination_near", "contamination_paraphrase")}
        spec["eval_sets"] = {
            "exam": {
                "path": "data/exam.jsonl", "metric": "token_f1", "slice_field": "intent", "max_new_tokens": 24, "license": license_,
                "vault": True,
            },
            "probes": {
                "path": "data/probes.jsonl", "kind": "refusal_probes", "slice_field": "category", "max_new_tokens": 24,
                "license": license_,
            },
        }  # fmt: skip

    file = small_project(root, change)
    (root / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(root / "home")) as instance:
        needed = f'+key:"{ADAPTER}" or key:"eval_sets/*" or key:"base_models/*"'
        outcome = running.materialize(plan_of(file), instance, needed)
        assert ADAPTER in outcome.materialized, (outcome.errors, outcome.refusals)
        yield file


def migrate(file: Path, *arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, ["migrate", "first", *arguments, "--by", "ann", "--project", str(file), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def test_a_copy_of_the_base_gives_the_same_adapter_and_shows_no_difference(project: Path) -> None:
    """The recipe, the rows and their order are those of the closure: on the same bytes they give the same answers."""
    code, said = migrate(project, "--to", "copy", "--learning-rates", "1")
    assert said["gains"] == [0.0]
    assert all((part["better"], part["worse"]) == (0, 0) for part in said["parts"])
    assert said["runs"][0]["last_loss"] == pytest.approx(sum(_losses(project)[-10:]) / 10, abs=0)
    differences = said["differences"]
    assert (differences["template_changed"], differences["rendering_changed"], differences["missing"]) == (False, False, [])
    assert (said["new_encoding"], said["rates"]) == (said["old_encoding"], [])
    # 84 probes and no helpfulness set cannot show that alignment was kept, so nobody moves on them.
    assert (code, said["verdict"]["decision"]) == (1, "insufficient_evidence")


def test_a_stricter_base_is_rehearsed_and_the_page_reads_well(project: Path, tmp_path: Path) -> None:
    store = plan_of(project).open_store()
    before = {asset: store.head(asset) for asset in store.assets()}
    page = tmp_path / "report.html"
    code, said = migrate(project, "--to", "strict", "--seeds", "2", "--learning-rates", "0.25", "--html", str(page))

    assert (code, said["migrate"], said["verdict"]["decision"]) == (1, False, "fail")
    differences = said["differences"]
    assert differences["template_changed"]
    assert differences["rendering_changed"]
    assert any(line.startswith("-") and "<|turn|>" in line for line in differences["template_diff"])
    facts = {fact["what"]: fact for fact in differences["facts"]}
    assert facts["vocabulary (tokens)"]["new"] == "2,048 (-2)"
    assert len(facts["chat template (SHA-256)"]["old"]) == 64
    assert "<|turn|>" in {token["old"] for token in differences["special_tokens"]}
    # Nobody has concluded the license of the new base.
    assert {m["field"] for m in differences["missing"] if m["blocks"]} >= {
        "base_models: license.concluded", "base_models: license.evidence", "base_models: license.concluded_by",
    }  # fmt: skip

    assert said["parts"][0]["part"] == "overall"
    assert {HOSTILE, "devices"} <= {part["part"] for part in said["parts"]}
    assert all(part["low"] <= part["gain"] <= part["high"] for part in said["parts"])
    assert [(r["multiple"], r["paired"] is None) for r in said["rates"]] == [(0.25, False), (1.0, True)]
    assert [(run["multiple"], run["replicate"], run["steps"]) for run in said["runs"]] == [
        (1.0, 0, 40),
        (1.0, 1, 40),
        (0.25, 0, 40),
    ]
    assert all(run["tokens_per_second"] > 0 for run in said["runs"])
    assert said["runs"][0]["last_loss"] != said["runs"][1]["last_loss"], "the second replicate has seeds of its own"

    store = plan_of(project).open_store()
    assert {asset: store.head(asset) for asset in store.assets()} == before, "a rehearsal publishes nothing"
    assert migrations(store.backend, ADAPTER)[-1]["id"] == said["record"]
    looked = [r for r in access_log.of_set(store.backend, "exam") if r.kind is access_log.AccessKind.DECISION and r.by == "ann"]
    assert "strict" in looked[-1].purpose
    prompts = [record["prompt"] for record in map(json.loads, (project.parent / "data" / "exam.jsonl").read_text().splitlines())]
    assert not any(prompt in page.read_text() for prompt in prompts), "the page shows no item of the vault"
    _read(page, said)


def test_alignment_is_judged_against_the_new_base(project: Path, tmp_path: Path) -> None:
    """ADV: the old base had little to lose, so the comparison with it does not see what fine-tuning took from the new one."""
    from ftplatform.cli.migrate_command import _stage

    stage = _stage(plan_of(project), "first", "strict", tmp_path)
    new = stage.examine(stage.new, stage.train(1.0, 0).folder)
    old = stage.examine(stage.old, stage.snapshot.local_folder("adapter"))
    assert new.alignment["refusals"].decision is Decision.FAIL
    assert new.alignment["refusals"].baseline == f"base_models/strict@{stage.new.digest[:12]}"

    ours, theirs = (pl.DataFrame(pl.from_arrow(exam.answers)).filter(kind="refusal_probes") for exam in (new, old))
    mixed = ours.drop("base_label").join(theirs.select("item_id", "condition", "base_label"), on=["item_id", "condition"])
    naive = refusal_retention(mixed.to_arrow(), conditions=("plain",))
    assert naive.decision is not Decision.FAIL


def test_a_base_on_which_the_recipe_cannot_run_is_an_answer(project: Path) -> None:
    code, said = migrate(project, "--to", "mute", "--learning-rates", "1")
    assert (code, said["verdict"]["decision"]) == (1, "fail")
    assert "chat template" in said["verdict"]["summary"]
    assert "/base_model/chat_template" in {m["field"] for m in said["differences"]["missing"]}
    assert said["parts"] == []


def _losses(file: Path) -> list[float]:
    return plan_of(file).open_store().current(ADAPTER).read_json("training/loss.json")["loss"]


def _read(page: Path, said: dict[str, Any]) -> None:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "install chromium: make test does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        asked: list[str] = []
        complaints: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(page.as_uri())
        assert tab.title() == "Migration of adapters/first to base_models/strict"
        expect(tab.locator("p.verdict b")).to_have_text("fail")
        expect(tab.locator("#task tbody tr")).to_have_count(len(said["parts"]))
        assert HOSTILE in tab.locator("#task tbody").inner_text(), "shown as text, and not run"
        expect(tab.locator("#alignment tbody tr")).to_have_count(3)
        expect(tab.locator("#missing tbody td.yes")).to_have_count(sum(m["blocks"] for m in said["differences"]["missing"]))
        assert "<|turn|>" in tab.locator("#bases pre").inner_text()
        assert tab.locator("#rates svg").count() == tab.locator("#task svg").count() == 1
        assert tab.locator("#task svg").bounding_box()["width"] > 300  # pyright: ignore[reportOptionalSubscript]
        expect(tab.locator("#cost tbody tr")).to_have_count(3)
        assert said["closure"] in tab.locator("footer").inner_text()
        tab.emulate_media(color_scheme="dark")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
        assert (asked, complaints) == ([page.as_uri()], [])
        browser.close()
