"""`ftplatform realism`: the view of one set in its three forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.errors import FtplatformError, InputDataError, NotMaterialized
from ftplatform.synthesis.surface_features import FEATURES
from ftplatform.synthesis.tails import TAILS
from ftplatform_tests.graph.test_synthetic import Built, by_grammar, every, project_file, with_remedies
from ftplatform_tests.projects import edit, plan_of

SIX = {
    "input_surface_match",
    "input_feature_gaps",
    "input_tail_coverage",
    "content_mix_match",
    "reference_health",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("realism")
    written = project_file(root, every(by_grammar, with_remedies("style")))
    assert Built(plan_of(written), everything=True).snapshot
    return written


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["realism", *arguments], catch_exceptions=True)
    if isinstance(result.exception, FtplatformError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_record_holds_all_that_is_known(file: Path) -> None:
    record = json.loads(run("made", "--project", str(file), "--json"))
    assert (record["asset"], record["reference"]) == ("synthetic/made", "raw/measuring")
    checks = {c["check"]: c for c in record["checks"]}
    assert checks.keys() == SIX
    assert all(c["recorded"] for c in checks.values())
    surface = checks["input_surface_match"]
    assert surface["ci_low"] < surface["estimate"] < surface["ci_high"]
    effects = [abs(feature["d"]) for feature in record["features"]]
    assert effects == sorted(effects, reverse=True)
    assert {feature["feature"] for feature in record["features"]} == set(FEATURES)
    assert all(feature["candidate_example"] and feature["reference_example"] for feature in record["features"])
    assert [tail["tail"] for tail in record["tails"]] == list(TAILS)
    assert record["topics"]
    before, after = record["remedies"]["steps"]
    assert (before["name"], after["name"]) == ("as written", "with remedies")
    assert after["ci_high"] < before["ci_low"]


def test_the_tables_for_a_terminal(file: Path) -> None:
    shown = run("synthetic/made", "--project", str(file))
    for text in (
        "synthetic/made beside raw/measuring",
        "input_surface_match",
        "Surface features",
        "Tails",
        "Topics",
        "with remedies",
    ):
        assert text in shown


def test_the_page_is_one_file_that_runs_nothing(file: Path, tmp_path: Path) -> None:
    run("made", "--project", str(file), "--html", str(tmp_path / "one.html"))
    run("made", "--project", str(file), "--html", str(tmp_path / "two.html"))
    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 4
    for anchor in ("features", "tails", "topics", "remedies"):
        assert f'<section id="{anchor}">' in page


def test_what_is_not_on_record_is_judged_for_the_view(file: Path) -> None:
    """ADV: the last verdict on record may be about other limits than those in force."""
    edit(file, lambda p: p.update(gates={"input_surface_match": {"threshold": 0.99}}))
    try:
        checks = {c["check"]: c for c in json.loads(run("made", "--project", str(file), "--json"))["checks"]}
        assert (checks["input_surface_match"]["recorded"], checks["input_surface_match"]["threshold"]) == (False, 0.99)
        assert checks["input_tail_coverage"]["recorded"]
    finally:
        edit(file, lambda p: p.pop("gates"))


def test_a_set_that_cannot_be_compared_is_named(file: Path) -> None:
    with pytest.raises(InputDataError, match=r"no synthetic set and no dataset 'maed'.*synthetic/made, splits/one"):
        run("maed", "--project", str(file))
    with pytest.raises(InputDataError, match="splits/one names no production inputs"):
        run("one", "--project", str(file))


def test_a_set_that_was_never_built(tmp_path: Path) -> None:
    with pytest.raises(NotMaterialized):
        run("made", "--project", str(project_file(tmp_path, by_grammar)))
