"""`ftplatform serving analyze` on a plain file, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from ftplatform.cli import serving_commands
from ftplatform.errors import InputDataError, ProjectError
from ftplatform_tests.unit.serving.simulated import arrivals, served

CALM = np.where(np.isin(np.arange(24), (2, 3, 4, 5)), 0.05, 1.5)

app = typer.Typer()
serving_commands.register(app)
# With a single command typer would take `serving` for an argument of it.
app.command("other")(lambda: None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["serving", *arguments])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "requests.parquet"
    rng = np.random.default_rng(0)
    pl.DataFrame(pl.from_arrow(served(rng, arrivals(rng, 7, CALM)))).write_parquet(path)
    return path


def test_tables_and_page(log: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = run("analyze", str(log), "--ping-cost", "0.001", "--cold-cost", "0.1", "--html", str(page))
    assert said.exit_code == 0, said.output
    for words in ("Cold, % of requests", "First token after an idle gap", "paying hours", "cold_start_exposure"):
        assert words in said.output
    html = page.read_text()
    assert html.count("<svg") == 2
    assert "default-src 'none'" in html


def test_json_names_threshold_plan_and_checks(log: Path) -> None:
    said = run("analyze", str(log), "--ping-cost", "0.001", "--cold-cost", "0.1", "--json")
    record = json.loads(said.output)
    assert record["idle_threshold"]["low"] <= 300 <= record["idle_threshold"]["high"]
    assert record["checks"]["cold_start_exposure"]["decision"] == "warn"
    assert record["keep_warm_plan"]["class"] in record["keep_warm_plan"]["classes"]
    assert len(record["hours"]) == 168
    what_if = json.loads(run("analyze", str(log), "--idle-threshold", "60", "--json").output)
    assert what_if["idle_threshold"] == {"seconds": 60, "low": 60, "high": 60, "fitted": False, "safe_ping_period": 48}
    assert what_if["cold_starts"]["per_day"]["estimate"] > record["cold_starts"]["per_day"]["estimate"]
    assert what_if["keep_warm_plan"] is None


def test_a_public_trace_has_no_first_tokens(shared_data: Path) -> None:
    trace = str(shared_data / "azure_llm_2023" / "AzureLLMInferenceTrace_code.csv.gz")
    plain = json.loads(run("analyze", trace, "--layout", "azure", "--json").output)
    assert plain["requests"] == 8_819
    assert plain["idle_threshold"] is None
    assert {check["decision"] for check in plain["checks"].values()} == {"insufficient_evidence"}
    assert run("analyze", trace, "--layout", "azure", "--idle-threshold", "60").exit_code == 0


def test_an_empty_log_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    assert run("analyze", str(path), "--html", str(tmp_path / "page.html")).exit_code == 0
    assert json.loads(run("analyze", str(path), "--idle-threshold", "60", "--json").output)["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("--ping-cost", "1"), InputDataError, "cold-cost"),
        (("--field", "time"), InputDataError, "COLUMN=KEY"),
        (("--timezone", "Mars"), InputDataError, "IANA"),
        (("--user-hours", "always"), InputDataError, "mon-fri"),
        (("--layout", "gcp"), ProjectError, "azure"),
    ],
)
def test_mistakes_are_named(log: Path, arguments: tuple[str, ...], error: type[Exception], words: str) -> None:
    said = run("analyze", str(log), *arguments)
    assert isinstance(said.exception, error)
    assert words in str(said.exception)
