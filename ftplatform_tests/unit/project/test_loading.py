from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.errors import ProjectError
from ftplatform.project.loading import load_project, project_path
from ftplatform.project.models import EvalKind, Project, Use
from ftplatform.project.problems import Problem, ProjectFileError
from ftplatform_tests.unit.project.sample import VALID, changed, line_with, write


def problems_of(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ProjectFileError) as caught:
        load_project(write(folder, text))
    return caught.value.problems


def test_a_valid_file_becomes_typed_models(tmp_path: Path) -> None:
    loaded = load_project(write(tmp_path, VALID))
    project = loaded.project
    assert project.use == [Use.TRAIN, Use.EVALUATE, Use.COMMERCIAL_MODEL]
    assert project.sources["tickets"].path == ["data/tickets.jsonl"]
    assert project.sources["refusals"].license.declared == "CC0-1.0"
    assert project.sources["refusals"].license.concluded is None
    assert project.eval_sets["probes"].kind is EvalKind.REFUSAL_PROBES
    assert project.eval_sets["probes"].vault is True
    assert project.datasets["support"].slices["refunds"].must_keep is True
    assert project.adapters["support"].training.learning_rate == 1e-3
    assert project.adapters["support"].training.lora.rank == 8
    assert project.gates["task_regression"].threshold == 0.02
    assert loaded.warnings == ()


def test_facts_about_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, VALID)
    monkeypatch.chdir(tmp_path)
    for given_path in (path, tmp_path, Path("ftplatform.yaml"), Path(".")):
        loaded = load_project(given_path)
        assert loaded.path == path
        assert loaded.root == tmp_path
        assert loaded.digest == hashlib.sha256(VALID.encode()).hexdigest()
    assert loaded.line_of(("sources", "tickets", "license")) == line_with(VALID, "concluded: MIT,")
    assert loaded.line_of(("sources", "tickets", "license", "evidence")) == line_with(VALID, "concluded: MIT,")
    assert loaded.line_of(("sources", "tickets", "description")) == line_with(VALID, "  tickets:")
    assert loaded.resolve("data/x.jsonl") == str(tmp_path / "data/x.jsonl")
    assert loaded.resolve("/elsewhere/x.jsonl") == "/elsewhere/x.jsonl"
    assert loaded.resolve("s3://bucket/x.jsonl") == "s3://bucket/x.jsonl"


def test_which_project_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FTPLATFORM_PROJECT", raising=False)
    assert project_path() == Path("ftplatform.yaml")
    monkeypatch.syspath_prepend(str(write(tmp_path / "elsewhere", VALID).parent))
    assert project_path() == tmp_path / "elsewhere" / "ftplatform.yaml"
    write(tmp_path, VALID)
    assert project_path() == Path("ftplatform.yaml")
    monkeypatch.setenv("FTPLATFORM_PROJECT", "elsewhere/my.yaml")
    assert project_path() == Path("elsewhere/my.yaml")
    assert project_path(tmp_path) == tmp_path / "ftplatform.yaml"
    assert project_path(Path("other.yaml")) == Path("other.yaml")


def test_license_no_and_version_1_10_stay_what_they_are(tmp_path: Path) -> None:
    text = changed("    license: CC0-1.0\n", "    license: no\n    description: 1.10\n")
    source = load_project(write(tmp_path, text)).project.sources["refusals"]
    assert source.license.declared == "no"
    assert source.description == "1.10"


@pytest.mark.parametrize(
    ("old", "new", "key", "part", "suggestion", "allowed"),
    [
        pytest.param(
            "license: CC0", "lisense: CC0", "sources.refusals.lisense", "unknown key", "license", "surface", id="unknown key"
        ),
        pytest.param(
            "evals: [task", "eval: [task", "adapters.support.eval", "unknown key", "evals", "dataset", id="unknown key of adapter"
        ),
        pytest.param(
            "{rank: 8", "{rnak: 8", "adapters.support.training.lora.rnak", "unknown key", "rank", "alpha", id="deep unknown key"
        ),
        pytest.param(
            "tag: billing", "tga: billing", "datasets.support.slices.billing.tga", "unknown key", "tag", "regex", id="in a dict"
        ),
        pytest.param("gates:", "gate:", "gate", "unknown key", "gates", "schedules", id="unknown section"),
        pytest.param(
            "surface: production",
            "surface: prodution",
            "sources.production.surface",
            "'prodution'",
            "production",
            "debug",
            id="enum",
        ),
        pytest.param("purpose: eval", "purpose: Eval", "rubrics.helpful.purpose", "'Eval'", "eval", "reward", id="literal"),
        pytest.param(
            "commercial_model]", "comercial]", "use[2]", "'comercial'", "commercial_model", "teacher", id="enum in a list"
        ),
        pytest.param(
            "severity: error", "severity: eror", "gates.task_regression.severity", "'eror'", "error", "warn", id="optional literal"
        ),
        pytest.param(
            "[q_proj, v_proj]",
            "all_linear",
            "adapters.support.training.lora.target_modules",
            "'all_linear'",
            "all-linear",
            "all-linear",
            id="union",
        ),
        pytest.param(
            "vault: true", "vault: maybe", "eval_sets.probes.vault", "true or false; got 'maybe'", None, "true", id="truth"
        ),
        pytest.param(
            "steps: 20", "steps: 2.5", "adapters.support.training.steps", "whole number; got '2.5'", None, None, id="integer"
        ),
        pytest.param(
            "steps: 20",
            "steps: 0",
            "adapters.support.training.steps",
            "greater than or equal to 1; got '0'",
            None,
            None,
            id="limit",
        ),
        pytest.param(
            "1e-3", "fast", "adapters.support.training.learning_rate", "should be a number; got 'fast'", None, None, id="number"
        ),
        pytest.param("1e-3", "nan", "adapters.support.training.learning_rate", "finite number; got 'nan'", None, None, id="nan"),
        pytest.param(
            "share: 0.1", "share: 1.5", "adapters.support.safety_mix.share", "less than or equal to 1", None, None, id="share"
        ),
        pytest.param("  tickets:\n", "  Tickets:\n", "sources.Tickets", "not a valid name", None, None, id="name"),
        pytest.param("  ledger:", "  a__b:", "rewards.a__b", "not a valid name", None, None, id="double underscore"),
        pytest.param(
            "owner: team:data", "owner: data", "sources.tickets.owner", "e-mail address or 'team:name'", None, None, id="owner"
        ),
        pytest.param(
            "{tag: billing}", "{tag: a, regex: b}", "datasets.support.slices.billing", "exactly one of", None, None, id="rule"
        ),
        pytest.param(
            "(?i)refund", "(refund", "datasets.support.slices.refunds", "does not compile", None, None, id="regular expression"
        ),
        pytest.param(
            "path: models/tiny", "hub: o/n\n    revision: main", "base_models.tiny", "40-digit commit", None, None, id="revision"
        ),
        pytest.param(
            "sources: [tickets]",
            "sources: tickets",
            "datasets.support.sources",
            "should be a list; got 'tickets'",
            None,
            None,
            id="list",
        ),
        pytest.param(
            "  lora: {rank: 8, target_modules: [q_proj, v_proj]}",
            "  lora: 8",
            "adapters.support.training.lora",
            "mapping",
            None,
            None,
            id="mapping",
        ),
        pytest.param(
            "path: data/refusals.jsonl", "path: []", "sources.refusals.path", "at least 1 item", None, None, id="empty list"
        ),
        pytest.param(
            "path: data/refusals.jsonl", "path: ''", "sources.refusals.path", "must not be empty", None, None, id="empty path"
        ),
        pytest.param(
            "judge: rules", "judge: [rules]", "rubrics.helpful.judge", "should be text; got a list", None, None, id="text"
        ),
        pytest.param(
            "ALERT_WEBHOOK", "alert-hook", "alerts.webhook_env", "name of an environment variable", None, None, id="variable"
        ),
        pytest.param(
            "ALERT_WEBHOOK", "xALERT_WEBHOOK", "alerts.webhook_env", "name of an environment variable", None, None, id="anchored"
        ),
    ],
)
def test_each_error_names_line_key_suggestion_and_allowed_values(
    tmp_path: Path, old: str, new: str, key: str, part: str, suggestion: str | None, allowed: str | None
) -> None:
    text = changed(old, new)
    problem = next(p for p in problems_of(tmp_path, text) if p.key == key and p.severity == "error")
    assert part in problem.message
    assert problem.suggestion == suggestion
    assert (allowed in problem.allowed) if allowed else problem.allowed == ()
    # What is wrong with a block as a whole stands at the block's key.
    place = "  tiny:" if key == "base_models.tiny" else next(line for line in new.splitlines() if line.strip())
    assert problem.line == line_with(text, place)


def test_a_missing_key_stands_at_its_block(tmp_path: Path) -> None:
    text = changed("    base: tiny\n", "")
    (problem,) = problems_of(tmp_path, text)
    assert problem.line == line_with(text, "    dataset: support") - 1
    assert str(problem).endswith("adapters.support.base: missing: the key 'base' is required here")
    (problem,) = problems_of(tmp_path, changed("name: support\n", ""))
    assert (problem.key, problem.line) == ("name", 1)


def test_the_printed_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = changed("    license: CC0-1.0\n", "    lisense: CC0-1.0\n")
    with pytest.raises(ProjectFileError) as caught:
        load_project(write(tmp_path, text))
    line = line_with(text, "lisense")
    assert str(caught.value) == (
        "ftplatform.yaml has 1 problem:\n"
        f"  ftplatform.yaml:{line}: sources.refusals.lisense: unknown key; did you mean 'license'?"
        " allowed: path, format, reader, fields, owner, description, license, surface, mask_personal_data"
    )
    (problem,) = caught.value.problems
    assert problem.to_record() == {
        "file": "ftplatform.yaml",
        "line": line,
        "column": 5,
        "key": "sources.refusals.lisense",
        "message": "unknown key",
        "allowed": ["path", "format", "reader", "fields", "owner", "description", "license", "surface", "mask_personal_data"],
        "suggestion": "license",
        "severity": "error",
    }


def test_everything_is_reported_at_once_syntax_types_and_references(tmp_path: Path) -> None:
    text = VALID
    for old, new in (
        ("use: [train", "use: [trian"),
        ("    license: CC0-1.0\n", "    lisense: CC0-1.0\n    lisense: x\n"),
        ("    base: tiny\n", "    bse: tinny\n"),
        ("    dataset: support\n", "    dataset: suport\n"),
        ("steps: 20", "steps: many"),
        ("  task_regression:", "  task_regresion:"),
        ("Europe/Paris", "Europe/Pariss"),
        ("alerts: {webhook_env: ALERT_WEBHOOK}", "alerts:"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    assert [(p.line, p.key) for p in problems_of(tmp_path, text)] == [
        (line_with(text, "trian"), "use[0]"),
        (line_with(text, "lisense: CC0"), "sources.refusals.lisense"),
        (line_with(text, "lisense: x"), "sources.refusals.lisense"),
        (line_with(text, "bse:") - 1, "adapters.support.base"),
        (line_with(text, "bse:"), "adapters.support.bse"),
        (line_with(text, "suport"), "adapters.support.dataset"),
        (line_with(text, "many"), "adapters.support.training.steps"),
        (line_with(text, "task_regresion"), "gates.task_regresion"),
        (line_with(text, "Pariss"), "schedules.timezone"),
        (line_with(text, "alerts:"), "alerts"),
    ]


@pytest.mark.parametrize("text", ["[a, b]\n", "just text\n", "- name: x\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert "must be a mapping" in problem.message


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="ftplatform init"):
        load_project(tmp_path)
    with pytest.raises(ProjectError, match="There is no project file"):
        load_project(tmp_path / "nothing" / "ftplatform.yaml")
    with pytest.raises(ProjectError, match="is not a file"):
        load_project("/dev/null")


def test_messages_neither_repeat_credentials_nor_control_characters(tmp_path: Path) -> None:
    secret = "AKIAABCDEFGHIJKLMNOP"
    text = changed("steps: 20", f"steps: {secret}").replace("surface: production", f"surface: {secret}")
    text = text.replace("owner: team:data", f"owner: {secret}").replace("  refusals:\n", f"  {secret}:\n")
    text = text.replace("base: tiny", f"base: {secret}").replace("task_regression:", f"{secret}:")
    text = text.replace("name: support", 'name: "a\\e[31mb"')
    with pytest.raises(ProjectFileError) as caught:
        load_project(write(tmp_path, text))
    assert secret not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "an AWS access key id" in str(caught.value)


WORDS = st.sampled_from(
    ["", "x", "no", "1.10", "-1", "{}", "[]", "[a]", "{a: b}", "nan", "s3://b/../c", "${HOME}", "tickets", "~", "'~'"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, len(VALID.splitlines()) - 1), word=WORDS, where=st.sampled_from(["key", "value", "delete", "double"]))
def test_every_change_gives_a_project_or_problems_with_lines_of_the_file(tmp_path: Path, line: int, word: str, where: str) -> None:
    lines = VALID.splitlines()
    head, colon, tail = lines[line].partition(":")
    indent = head[: len(head) - len(head.lstrip())]
    replaced = {
        "key": [f"{indent}{word or 'q'}:{tail}"],
        "value": [f"{head}{colon} {word}"],
        "delete": [],
        "double": [lines[line], lines[line]],
    }[where]
    text = "\n".join([*lines[:line], *replaced, *lines[line + 1 :]]) + "\n"
    loaded, problems = None, ()
    try:
        loaded = load_project(write(tmp_path, text))
    except ProjectFileError as error:
        problems = error.problems
    assert (loaded is None) == any(problem.severity == "error" for problem in problems)
    for problem in problems:
        assert 1 <= problem.line <= len(text.splitlines()) + 1
        assert problem.message
        assert str(problem).startswith(f"{problem.file}:{problem.line}: ")


def test_every_kind_of_block_can_be_misspelled_with_a_suggestion(tmp_path: Path) -> None:
    # Guards the walk from a path in the file to the model that knows its keys.
    for block in ("reserve", "dedup", "training", "lora", "safety_mix", "teacher"):
        misspelled = block.replace(block[1], "q", 1)
        found = problems_of(tmp_path, changed(f"{block}:", f"{misspelled}:"))
        assert [p.suggestion for p in found if p.key.endswith(misspelled)] == [block]


def test_a_reserve_per_source_has_no_quota_over_sources(tmp_path: Path) -> None:
    text = changed("{fraction: 0.1, seed: 7}", "{fraction: 0.1, per_source: true}")
    assert load_project(write(tmp_path, text)).project.datasets["support"].reserve.per_source
    (problem,) = problems_of(tmp_path, changed("{fraction: 0.1, seed: 7}", "{per_source: true, max_rows: 9}"))
    assert "max_rows counts rows across sources" in problem.message


def test_a_project_of_fifty_sources_loads(tmp_path: Path) -> None:
    sources = "".join(f"  s{n}:\n    path: data/s{n}.jsonl\n    license: {{concluded: MIT, evidence: L.txt}}\n" for n in range(50))
    text = changed("sources:\n  tickets:", f"sources:\n{sources}  tickets:")
    assert len(load_project(write(tmp_path, text)).project.sources) == 53


def test_loading_needs_neither_dagster_nor_torch() -> None:
    code = (
        "import sys, ftplatform.project.loading, ftplatform.project.files, ftplatform.project.schema, ftplatform.project.scaffold;"
        "print([m for m in ('dagster', 'torch', 'transformers', 'polars', 'fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_are_immutable(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, VALID)).project
    with pytest.raises(ValueError, match="frozen"):
        project.store = "elsewhere"  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(project, Project)
