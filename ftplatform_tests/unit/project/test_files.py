from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ftplatform.project.files import expand
from ftplatform.project.loading import load_project
from ftplatform.project.problems import Problem
from ftplatform.project.references import check_files
from ftplatform.project.uris import parse_source_uri
from ftplatform_tests.unit.project.sample import VALID, changed, line_with, write, write_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose files all exist."""
    root = tmp_path / "a [strange] folder"
    root.mkdir()
    write_files(root)
    return root


def problems_of(folder: Path, text: str = VALID) -> list[Problem]:
    return check_files(load_project(write(folder, text)))


def test_a_complete_project_has_no_problems(folder: Path) -> None:
    assert problems_of(folder) == []


def test_everything_missing_is_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems_of(tmp_path)
    assert [p.key.removesuffix("[0]") for p in found] == [
        "sources.tickets.path",
        "sources.tickets.license.evidence",
        "sources.refusals.path",
        "sources.production.path",
        "synthetic.paraphrases.path",
        "feedback.thumbs.path",
        "eval_sets.task.path",
        "eval_sets.probes.path",
        "base_models.tiny.path",
        "base_models.tiny.license.evidence",
        "rewards.ledger.path",
        "endpoints.chat.path",
    ]
    assert [p.line for p in found] == sorted(p.line for p in found)
    assert found[0].line == line_with(VALID, "path: data/tickets.jsonl")


def break_(folder: Path, how: str) -> None:
    tickets, model = folder / "data/tickets.jsonl", folder / "models/tiny"
    if how == "empty":
        tickets.write_bytes(b"")
    elif how == "folder":
        tickets.unlink()
        tickets.mkdir()
    elif how == "dead link":
        tickets.unlink()
        tickets.symlink_to(folder / "nothing")
    elif how == "pipe":
        tickets.unlink()
        os.mkfifo(tickets)
    elif how == "misspelled":
        tickets.rename(folder / "data/ticket.jsonl")
    elif how == "no match":
        (folder / "data/production-2026.jsonl.gz").unlink()
    elif how == "no evidence":
        (folder / "LICENSES/MIT.txt").unlink()
    elif how == "no config":
        (model / "config.json").unlink()
    elif how == "broken config":
        (model / "config.json").write_text("{")
    elif how == "deep config":
        (model / "config.json").write_text("[" * 100_000)
    elif how == "list as config":
        (model / "config.json").write_text("[]")
    elif how == "own code":
        (model / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    elif how == "no tokenizer":
        (model / "tokenizer.json").unlink()
    elif how == "pickle":
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
    elif how == "no model":
        shutil.rmtree(model)


@pytest.mark.parametrize(
    ("how", "key", "part"),
    [
        ("empty", "sources.tickets.path", "is empty"),
        ("folder", "sources.tickets.path", "is a folder"),
        ("dead link", "sources.tickets.path", "a link to nothing"),
        ("pipe", "sources.tickets.path", "not a regular file"),
        ("misspelled", "sources.tickets.path", "did you mean 'ticket.jsonl'?"),
        ("no match", "sources.production.path", "matches no file"),
        ("no evidence", "sources.tickets.license.evidence", "there is no file"),
        ("no config", "base_models.tiny.path", "config.json"),
        ("broken config", "base_models.tiny.path", "not JSON"),
        ("deep config", "base_models.tiny.path", "not JSON"),
        ("list as config", "base_models.tiny.path", "not a JSON object"),
        ("own code", "base_models.tiny.path", "auto_map"),
        ("no tokenizer", "base_models.tiny.path", "no tokenizer"),
        ("pickle", "base_models.tiny.path", "pytorch_model.bin is a pickle"),
        ("no model", "base_models.tiny.path", "no folder"),
    ],
)
def test_each_defect_is_named(folder: Path, how: str, key: str, part: str) -> None:
    break_(folder, how)
    (problem,) = problems_of(folder)
    assert problem.key.removesuffix("[0]") == key
    assert part in problem.message


def test_an_unreadable_file(folder: Path) -> None:
    # Reading fails for every user, root included, because the file is a directory entry of a process that does not exist.
    text = changed("path: data/tickets.jsonl", "path: /proc/self/mem")
    (problem,) = problems_of(folder, text)
    assert "cannot be read" in problem.message


def test_remote_files_are_not_contacted(folder: Path) -> None:
    text = changed("path: data/tickets.jsonl", "path: https://host.invalid/x.jsonl")
    text = text.replace("path: data/refusals.jsonl", "path: s3://no-such-bucket/x.jsonl")
    assert problems_of(folder, text) == []


def test_a_reader_that_is_not_installed(folder: Path) -> None:
    text = changed("path: data/tickets.jsonl", "path: data/tickets.jsonl\n    reader: starr")
    (problem,) = problems_of(folder, text)
    assert problem.key == "sources.tickets.reader"
    assert "did you mean 'star'?" in problem.message
    assert problems_of(folder, changed("path: data/tickets.jsonl", "path: data/tickets.jsonl\n    reader: star")) == []


@pytest.mark.parametrize("path", ["eval/*.jsonl", "link.jsonl", "**/task.jsonl"])
def test_exam_files_are_found_behind_patterns_and_links(folder: Path, path: str) -> None:
    (folder / "link.jsonl").symlink_to(folder / "eval/task.jsonl")
    text = changed("path: data/tickets.jsonl", f"path: '{path}'")
    found = problems_of(folder, text)
    assert {p.key.removesuffix("[0]") for p in found} == {"sources.tickets.path"}
    assert any("belongs to eval set 'task'" in p.message for p in found)


def test_patterns_expand_below_a_folder_with_strange_characters(folder: Path) -> None:
    (folder / "data/deep").mkdir()
    (folder / "data/deep/z.jsonl").write_text("x")
    names = [str(path.relative_to(folder)) for path in expand(parse_source_uri("data/**/*.jsonl"), folder)]
    assert names == sorted(names)
    assert "data/deep/z.jsonl" in names
    assert "data/tickets.jsonl" in names
    assert expand(parse_source_uri("data/none.jsonl"), folder) == [folder / "data/none.jsonl"]
