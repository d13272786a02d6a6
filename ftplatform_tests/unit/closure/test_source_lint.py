"""The lint for training code: small files with known faults, and the labeled facts of 22 public repositories."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ftplatform.closure.source_lint import lint_source
from ftplatform.errors import InputDataError

COMMIT = "0123456789" * 4


def rules(path: str, text: str) -> list[tuple[str, str]]:
    return [(f.path, f.rule) for f in lint_source(path, text)]


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ('AutoModel.from_pretrained("org/name")', True),
        ('AutoModel.from_pretrained("org/name", revision="main")', True),
        ('AutoModel.from_pretrained("org/name", revision=None)', True),
        ("AutoModel.from_pretrained(name, **options)", True),
        (f'AutoModel.from_pretrained("org/name", revision="{COMMIT}")', False),
        ("AutoModel.from_pretrained(name, revision=args.revision)", False),
        ('from_pretrained("org/name")', True),
        ("model.save_pretrained(out)", False),
        ('text = "AutoModel.from_pretrained(name)"', False),
        ("# AutoModel.from_pretrained(name)", False),
    ],
)
def test_models_without_a_commit(call: str, found: bool) -> None:
    assert rules("load.py", f"import transformers\n{call}\n") == ([("/2", "branch-name")] if found else [])


@pytest.mark.parametrize(
    ("line", "seeded"),
    [
        ("set_seed(42)", True),
        ("torch.manual_seed(args.seed)", True),
        ("random.seed(0)", True),
        ("np.random.seed(0)", True),
        ("seed = 7", True),
        ("config.seed = 7", True),
        ("x = Trainer(seed=1)", True),
        ("parser.add_argument('--random-seed', default=3)", True),
        ("class C:\n    seed: int = 42", True),
        ("class C:\n    seed: int", False),
        ("random.seed()", False),
        ("seeds_of_change = 1", False),
        ("proceed = 1", False),
        ("print('seed')", False),
        ("# set_seed(42)", False),
    ],
)
def test_training_code_without_a_seed(line: str, seeded: bool) -> None:
    assert rules("src/anything.py", f"loss.backward()\n{line}\n") == ([] if seeded else [("/1", "unset-seed")])


def test_code_that_does_not_train_needs_no_seed() -> None:
    assert rules("train_reports.py", "print(1)\n") == []
    assert rules("anything.py", "SFTTrainer(model).train()\n") == [("/1", "unset-seed")]


@pytest.mark.parametrize(
    ("line", "seeded"),
    [
        ("python train.py --seed 42", True),
        ("python train.py --seed=42", True),
        ("torchrun train.py --data_seed 1", True),
        ("SEED=3 python train.py", True),
        ("python train.py --lr 1e-4", False),
        ("# python train.py --seed 42", False),
    ],
)
def test_shell_scripts(line: str, seeded: bool) -> None:
    assert rules("scripts/finetune.sh", f"#!/bin/bash\n{line}\n") == ([] if seeded else [("/1", "unset-seed")])


def test_dockerfiles_and_their_stages() -> None:
    text = "\n".join(
        [
            "FROM --platform=linux/amd64 python:3.11 AS build",
            f"FROM python@sha256:{'a' * 64}",
            "from nvidia/cuda:latest",
            "COPY --from=build /x /x",
            "FROM build",
            "FROM scratch",
        ]
    )
    assert rules("docker/Dockerfile.gpu", text) == [("/1", "unpinned-image"), ("/3", "unpinned-image"), ("/3", "latest")]


def test_requirements_and_other_files() -> None:
    assert rules("requirements-dev.txt", "numpy\ntorch==2.13.0\n") == [("/1", "unpinned-package")]
    assert rules("README.md", "AutoModel.from_pretrained('x')") == []


def test_python_that_does_not_parse_is_named() -> None:
    with pytest.raises(InputDataError, match=r"old/train\.py does not parse"):
        lint_source("old/train.py", "print 'python 2'")


def test_our_own_trainer_is_clean(repository: Path) -> None:
    """It sets its seeds; where it loads a model, it does so from a verified folder, which has no revision."""
    folder = repository / "ftplatform" / "training"
    found = [f for file in sorted(folder.rglob("*.py")) for f in lint_source(file.name, file.read_text())]
    assert {f.rule for f in found} == {"branch-name"}
    assert all("from_pretrained(folder" in f.value or "from_pretrained(model, adapter" in f.value for f in found)


# ---- real repositories: 146 files of 22, labeled


def _facts(shared_data: Path) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "closure_facts" / "closure_facts.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def _requirement(d: dict[str, Any]) -> str:
    joined = d["spec"].startswith(("=", ">", "<", "~", "!", "+"))
    return d["name"] + d["spec"] if joined else f"{d['name']} {d['spec']}".strip()


def as_file(fact: dict[str, Any]) -> str:
    """A file with the facts of a real one: the data names what stands in a file, not its text."""
    match fact["kind"]:
        case "requirements":
            return "".join(f"{_requirement(d)}\n" for d in fact["deps"])
        case "dockerfile":
            return "".join(f"FROM {image}\nRUN true\n" for image in fact["base_images"])
        case "training-script" if fact["path"].endswith(".py"):
            names = fact["base_models"] or ["org/name"]
            pins = [", revision=args.revision" if n < fact["with_revision"] else "" for n in range(fact["from_pretrained_calls"])]
            calls = [f"m{n} = AutoModel.from_pretrained({names[n % len(names)]!r}{pin})" for n, pin in enumerate(pins)]
            seed = ["transformers.set_seed(1)"] if fact["sets_seed"] else []
            return "\n".join(["import transformers", *calls, *seed, "transformers.Trainer(model).train()", ""])
        case "training-script":
            return f"python train.py --lr 1e-4{' --seed 1' if fact['sets_seed'] else ''}\n"
    return ""


def labels(fact: dict[str, Any]) -> dict[str, list[bool]]:
    """By kind of fact, for every place in the file: does it violate?"""
    calls = fact.get("from_pretrained_calls", 0)
    return {
        "requirement": [not d["pinned"] for d in fact.get("deps", [])],
        "image": ["@sha256:" not in image for image in fact.get("base_images", [])],
        "model": [n >= fact.get("with_revision", 0) for n in range(calls)],
        "seed": [not fact["sets_seed"]] if fact["kind"] == "training-script" else [],
    }


RULES_OF = {
    "requirement": {"unpinned-package", "vcs-package", "editable-package"},
    "image": {"unpinned-image"},
    "model": {"branch-name"},
    "seed": {"unset-seed"},
}


def confusion(facts: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Hits, misses, false alarms and places by kind of fact."""
    counts = {kind: {"hit": 0, "miss": 0, "false": 0, "places": 0} for kind in RULES_OF}
    for fact in facts:
        findings = lint_source(fact["path"], as_file(fact))
        for kind, expected in labels(fact).items():
            if not expected:
                continue
            found = {f.path for f in findings if f.rule in RULES_OF[kind]}
            first = {"requirement": 1, "image": 1, "model": 2, "seed": 1}[kind]
            step = 2 if kind == "image" else 1
            for n, violates in enumerate(expected):
                hit = f"/{first + n * step}" in found
                outcome = "hit" if violates and hit else "miss" if violates else "false" if hit else None
                counts[kind]["places"] += 1
                if outcome:
                    counts[kind][outcome] += 1
    return counts


def test_precision_and_recall_on_the_facts_of_real_repositories(shared_data: Path) -> None:
    """The figures of docs/guide/closure.md."""
    facts = _facts(shared_data)
    assert (len(facts), len({f["repo"] for f in facts})) == (146, 22)
    counts = confusion(facts)
    assert {kind: c["places"] for kind, c in counts.items()} == {"requirement": 1061, "image": 31, "model": 59, "seed": 68}
    for kind, c in counts.items():
        precision, recall = c["hit"] / (c["hit"] + c["false"]), c["hit"] / (c["hit"] + c["miss"])
        assert (precision, recall) == (1.0, 1.0), (kind, c)
    assert {kind: c["hit"] for kind, c in counts.items()} == {"requirement": 274, "image": 31, "model": 54, "seed": 50}
