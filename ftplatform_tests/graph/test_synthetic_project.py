"""What a project file may not say about synthetic sets: each problem with its line, each rule with the file that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftplatform.project.loading import load_project
from ftplatform.project.problems import ProjectFileError
from ftplatform.project.references import check_files
from ftplatform.project.synthesis import GrammarFile, PromptFile, load_side_file

HEAD = """\
name: small
sources:
  seeding: {path: data/seeding.jsonl, surface: production}
  measuring: {path: data/measuring.jsonl, surface: production}
  notes: {path: data/notes.jsonl}
  probes: {path: data/probes.jsonl, surface: eval}
  leaked: {path: data/exam.jsonl, surface: production}
  twice: {path: ./data/measuring.jsonl, surface: production}
eval_sets:
  exam: {path: data/exam.jsonl}
datasets:
  mix: {sources: [notes], synthetic: [made]}
synthetic:
  made:
    teacher: {id: t}
    production_inputs: measuring
"""
#: Lines before the first one of a case.
BEFORE = HEAD.count("\n")
ENDPOINT = "endpoint: {url: 'https://models.example.com/v1', model: m}"


def problems(tmp_path: Path, block: str) -> list[tuple[int, str]]:
    """Line (1 is the first of `block`) and message of every error."""
    file = tmp_path / "ftplatform.yaml"
    file.write_text(HEAD + block)
    try:
        load_project(file)
    except ProjectFileError as error:
        return [(p.line - BEFORE, p.message) for p in error.problems if p.severity == "error"]
    return []


@pytest.mark.parametrize(
    "block",
    [
        "    path: data/made.jsonl\n",
        "    path: data/made.jsonl\n    seeds: [seeding]\n    remedies: [style, {kind: mix, share: .3}, {kind: slips, share: 0.1}]\n",
        "    generate: {grammar: {file: grammar.yaml}, rows: 10}\n",
        f"    seeds: [seeding, notes]\n    generate: {{{ENDPOINT}, rows: 10, prompt: p.yaml}}\n"
        "    remedies: [{kind: resample, share: 1}]\n",
        "    seeds: [seeding]\n    generate: {transcripts: {path: said.jsonl}, rows: 10, prompt: p.yaml}\n",
    ],
)
def test_what_may_be_said(tmp_path: Path, block: str) -> None:
    assert problems(tmp_path, block) == []


@pytest.mark.parametrize(
    ("line", "said", "block"),
    [
        (-2, "give either 'path' (recorded output) or 'generate'", "    seeds: [seeding]\n"),
        (-2, "give either 'path'", "    path: a.jsonl\n    generate: {grammar: {file: g.yaml}, rows: 10}\n"),
        (-2, "format says how files are read", "    format: messages\n    generate: {grammar: {file: g.yaml}, rows: 10}\n"),
        (
            2,
            "give exactly one of 'grammar'",
            f"    seeds: [seeding]\n    generate: {{grammar: {{file: g}}, {ENDPOINT}, rows: 9, prompt: p}}\n",
        ),
        (1, "give exactly one of 'grammar'", "    generate: {rows: 10}\n"),
        (1, "missing: the key 'rows'", "    generate:\n      grammar: {file: g.yaml}\n"),
        (3, "greater than or equal to 1", "    generate:\n      grammar: {file: g.yaml}\n      rows: 0\n"),
        (2, "unknown key", "    generate:\n      grammer: {file: g.yaml}\n      grammar: {file: g.yaml}\n      rows: 3\n"),
        (1, "a grammar is told nothing", "    generate: {grammar: {file: g.yaml}, rows: 10, prompt: p.yaml}\n"),
        (2, "needs a 'prompt' file", f"    seeds: [seeding]\n    generate: {{{ENDPOINT}, rows: 10}}\n"),
        (1, "a model is shown real inputs", f"    generate: {{{ENDPOINT}, rows: 10, prompt: p.yaml}}\n"),
        (
            4,
            "anybody on the way could read",
            "    seeds: [seeding]\n    generate:\n      endpoint:\n        url: http://models.example.com/v1\n        model: m\n"
            "      rows: 10\n      prompt: p.yaml\n",
        ),
        (
            2,
            "is not the name of an environment variable",
            "    seeds: [seeding]\n    generate: {endpoint: {url: 'https://a.example', model: m, api_key_env: sk-1},"
            " rows: 9, prompt: p.yaml}\n",
        ),
        (2, "a local path is needed", "    generate:\n      grammar: {file: 's3://bucket/g.yaml'}\n      rows: 3\n"),
        (3, "'style' goes as far", "    path: a.jsonl\n    seeds: [seeding]\n    remedies: [{kind: style, share: .5}]\n"),
        (4, "'mix' needs a 'share'", "    path: a.jsonl\n    seeds: [seeding]\n    remedies:\n      - mix\n"),
        (5, "is not accepted", "    path: a.jsonl\n    seeds: [seeding]\n    remedies:\n      - style\n      - kind: stile\n"),
        (3, "has nobody to write again", "    path: a.jsonl\n    seeds: [seeding]\n    remedies: [{kind: resample, share: .5}]\n"),
        (3, "learns from what users typed", "    path: a.jsonl\n    seeds: [notes]\n    remedies: [style]\n"),
        (2, "must not seed it", "    path: a.jsonl\n    seeds: [seeding, measuring]\n    remedies: [style]\n"),
        (1, "must not seed it", "    seeds: [twice]\n    generate: {grammar: {file: g.yaml}, rows: 10}\n"),
        (1, "whose rows seed nothing", "    seeds: [probes]\n    generate: {grammar: {file: g.yaml}, rows: 10}\n"),
        (1, "an exam seeds nothing", "    seeds: [leaked]\n    generate: {grammar: {file: g.yaml}, rows: 10}\n"),
        (-4, "'made' has no answers to train on", "    generate: {grammar: {file: g.yaml}, rows: 10, inputs_only: true}\n"),
    ],
)
def test_what_may_not_be_said(tmp_path: Path, line: int, said: str, block: str) -> None:
    found = problems(tmp_path, block)
    assert any(at == line and said in message for at, message in found), found


def test_a_file_that_is_not_there_is_found_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "ftplatform.yaml"
    file.write_text(HEAD + "    generate: {grammar: {file: grammar.yaml}, rows: 10}\n")
    missing = [p for p in check_files(load_project(file)) if "grammar.yaml" in p.message]
    assert [(p.severity, p.line - BEFORE) for p in missing] == [("error", 1)]
    (tmp_path / "grammar.yaml").write_text("rules: {user: [hello]}\n")
    assert not [p for p in check_files(load_project(file)) if "grammar.yaml" in p.message]


def test_a_recorded_set_as_before_may_name_any_seeds(tmp_path: Path) -> None:
    assert problems(tmp_path, "    path: a.jsonl\n    seeds: [measuring]\n") == []


def test_side_files_say_where_they_are_wrong() -> None:
    with pytest.raises(ProjectFileError, match=r"grammar\.yaml:3"):
        load_side_file(GrammarFile, b"rules:\n  user:\n    - {text: hi, weight: -1}\n", file="grammar.yaml")
    with pytest.raises(ProjectFileError, match=r"prompt\.yaml:2.*unknown key"):
        load_side_file(PromptFile, b"system: Write.\nanswr: Answer.\n", file="prompt.yaml")
    with pytest.raises(ProjectFileError):
        load_side_file(PromptFile, b"!!python/object/apply:os.system ['true']\n", file="prompt.yaml")
    with pytest.raises(ProjectFileError):
        load_side_file(PromptFile, b"- a\n", file="prompt.yaml")
    grammar = load_side_file(GrammarFile, b"rules:\n  user: [hi, {text: no, weight: 2}]\n", file="g")
    assert [(p.text, p.weight) for p in grammar.rules["user"]] == [("hi", 1.0), ("no", 2.0)]
