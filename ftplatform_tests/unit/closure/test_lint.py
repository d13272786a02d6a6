"""The lint: planted violations, a clean manifest, and real repositories with known answers."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ftplatform.closure.lint import RULES, lint, lint_requirements, requirement_rule
from ftplatform.closure.packages import DirectInstall, Packages
from ftplatform_tests.unit.closure.factories import clean_closure, small_package


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(clean_closure(small_package(tmp_path_factory.mktemp("closure")))[0].document)


def test_a_clean_manifest_has_no_findings(clean: dict[str, Any]) -> None:
    assert lint(clean) == []


PLANTED: list[tuple[str, tuple[Any, ...], Any, str]] = [
    # rule, where, what, the pointer of the finding
    ("home-path", ("hyperparameters", "data"), "/home/alice/data.parquet", "/hyperparameters/data"),
    ("home-path", ("hyperparameters", "cache"), "~/.cache/rows", "/hyperparameters/cache"),
    ("absolute-path", ("rows", "path"), "/mnt/disk1/train.parquet", "/rows/path"),
    ("windows-path", ("rows", "path"), "C:\\Users\\alice\\train.parquet", "/rows/path"),
    ("branch-name", ("base_model", "revision"), "main", "/base_model/revision"),
    ("branch-name", ("base_model", "hub"), "org/name", "/base_model/revision"),
    ("latest", ("hyperparameters", "judge"), "registry.example.org/judge:latest", "/hyperparameters/judge"),
    ("unpinned-image", ("runtime", "image"), "python:3.11-slim", "/runtime/image"),
    ("unpinned-package", ("environment", "packages", "transformers"), ">=4", "/environment/packages/transformers"),
    ("unpinned-package", ("environment", "packages", "trl"), "~=1.16", "/environment/packages/trl"),
    ("vcs-package", ("environment", "direct"), [{"name": "x", "kind": "vcs", "pin": None}], "/environment/direct/0"),
    ("editable-package", ("environment", "direct"), [{"name": "x", "kind": "editable", "pin": None}], "/environment/direct/0"),
    ("dirty-tree", ("code", "project", "dirty"), True, "/code/project/dirty"),
    ("undeclared-variable", ("hyperparameters", "data"), "${DATA_ROOT}/rows", "/hyperparameters/data"),
    ("notebook-code", ("code", "project", "path"), "experiments/final_v3.ipynb", "/code/project/path"),
    ("missing-hash", ("rows", "order", "sha256"), None, "/rows/order/sha256"),
    ("missing-hash", ("base_model", "files", 0), {"path": "model.safetensors", "size": 3}, "/base_model/files/0/sha256"),
    ("unresolved-setting", ("hyperparameters", "precision"), "auto", "/hyperparameters/precision"),
    ("unset-seed", ("seeds", "adapter_init"), None, "/seeds/adapter_init"),
    ("unrecorded-step", ("human_steps",), [{"what": "removed bad rows by hand"}], "/human_steps/0/sha256"),
]


@pytest.mark.parametrize(("rule", "where", "value", "pointer"), PLANTED)
def test_each_planted_violation_is_the_one_finding(
    clean: dict[str, Any], rule: str, where: tuple[Any, ...], value: Any, pointer: str
) -> None:
    planted = copy.deepcopy(clean)
    node = planted
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    findings = lint(planted)
    assert [(f.rule, f.path) for f in findings] == [(rule, pointer)]
    assert findings[0].remedy == RULES[rule]


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, *_ in PLANTED} == set(RULES)


def test_all_twelve_kinds_at_once(clean: dict[str, Any]) -> None:
    """Twelve things the bus-factor list of the specification names, planted together: all found, nothing else."""
    planted = copy.deepcopy(clean)
    expected = set()
    seen_places: set[tuple[Any, ...]] = set()
    for rule, where, value, pointer in PLANTED:
        if where in seen_places or any(where[: len(s)] == s or s[: len(where)] == where for s in seen_places):
            continue
        seen_places.add(where)
        node = planted
        for key in where[:-1]:
            node = node[key]
        node[where[-1]] = value
        expected.add((rule, pointer))
    assert len(expected) >= 12
    assert {(f.rule, f.path) for f in lint(planted)} == expected


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/prefix/rows.parquet",
        "hf://org/name",
        "https://example.org/data/raw/rows.jsonl",
        "https://github.com/org/name/blob/0123456789012345678901234567890123456789/train.py",
        "splits/support",
        "raw/main",
        "main",
        "and/or",
        "model.layers.0.self_attn.q_proj",
        "x86_64/AVX512+bf16",
        "cuda/9.0/NVIDIA H200",
        ":4096:8",
        "1/2",
        "latest_checkpoint_policy",
        "$5 off",
        "100 %",
        "/refund",
    ],
)
def test_values_that_look_suspicious_and_are_not(clean: dict[str, Any], value: str) -> None:
    harmless = copy.deepcopy(clean)
    harmless["hyperparameters"]["note_to_trainer"] = value
    assert lint(harmless) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/org/name/blob/main/train.py",
        "https://github.com/org/name/raw/main/rows.jsonl",
        "https://raw.githubusercontent.com/org/name/main/rows.jsonl",
        "https://huggingface.co/datasets/org/name/resolve/main/rows.jsonl",
        "hf://datasets/org/name@main/rows.jsonl",
        "refs/heads/release",
    ],
)
def test_addresses_that_move(clean: dict[str, Any], url: str) -> None:
    moving = copy.deepcopy(clean)
    moving["hyperparameters"]["data"] = url
    assert [(f.rule, f.path) for f in lint(moving)] == [("branch-name", "/hyperparameters/data")]


def test_prose_is_not_read_as_references(clean: dict[str, Any]) -> None:
    prose = copy.deepcopy(clean)
    prose["hyperparameters"]["system_prompt"] = "Type /home/ to go home. Fees are ${AMOUNT}; see C:\\ for details."
    assert lint(prose) == []


def test_a_declared_variable_may_be_used(clean: dict[str, Any]) -> None:
    declared = copy.deepcopy(clean)
    declared["runtime"]["variables"]["DATA_ROOT"] = "bucket"
    declared["hyperparameters"]["data"] = "s3://${DATA_ROOT}/rows"
    assert lint(declared) == []


def test_our_own_editable_install_is_pinned_by_its_tree_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftplatform_tests.unit.closure import factories

    two = Packages(
        "3.11.9",
        "cpython",
        {"ftplatform": "0.1.0", "mine": "0.1"},
        (*factories.PACKAGES.direct, DirectInstall("mine", "editable", None)),
    )
    monkeypatch.setattr(factories, "PACKAGES", two)
    closure, _ = clean_closure(small_package(tmp_path))
    assert [(f.rule, f.value) for f in lint(closure.manifest)] == [("editable-package", "mine (editable)")]


@pytest.mark.parametrize(
    ("requirement", "rule"),
    [
        ("numpy==2.3.1", None),
        ("numpy == 2.3.1", None),
        ("torch==2.13.0+cpu", None),
        ("uvicorn[standard]==0.30.1 ; python_version > '3.8'", None),
        ("numpy===2.3.1", None),
        ("numpy==2.3.1 --hash=sha256:" + "a" * 64, None),
        ("numpy", "unpinned-package"),
        ("numpy>=2", "unpinned-package"),
        ("numpy~=2.3", "unpinned-package"),
        ("numpy==2.*", "unpinned-package"),
        ("numpy>=2,==2.3.1", "unpinned-package"),
        ("numpy!=2.0", "unpinned-package"),
        ("numpy==", "unpinned-package"),
        ("git+https://example.org/x.git", "vcs-package"),
        ("git+https://example.org/x.git@main", "vcs-package"),
        ("git+https://example.org/x.git@" + "a" * 40, None),
        ("x @ git+https://example.org/x@v1.0", "vcs-package"),
        ("x @ https://example.org/x.whl", "unpinned-package"),
        ("x @ https://example.org/x.whl#sha256=" + "a" * 64, None),
        ("-e .", "editable-package"),
        ("--editable=../lib", "editable-package"),
        ("--extra-index-url https://example.org/simple", None),
    ],
)
def test_requirement_lines(requirement: str, rule: str | None) -> None:
    assert requirement_rule(requirement) == rule


def test_requirement_files_are_read_with_comments_and_line_numbers() -> None:
    lines = ["# header", "numpy==2.3.1  # pinned", "", "torch", "x @ https://h/x.whl#sha256=" + "a" * 64]
    assert [(f.path, f.rule, f.value) for f in lint_requirements(lines)] == [("/4", "unpinned-package", "torch")]


def _facts(shared_data: Path) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "closure_facts" / "closure_facts.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def test_requirements_of_22_real_repositories(shared_data: Path) -> None:
    """1,061 requirement lines, 787 of them labeled pinned: the lint agrees on every one, VCS lines included."""
    listed = [d for fact in _facts(shared_data) for d in fact.get("deps") or []]
    assert (len(listed), sum(d["pinned"] for d in listed)) == (1061, 787)
    disagreements = []
    for d in listed:
        line = d["name"] + d["spec"] if d["spec"].startswith(("=", ">", "<", "~", "!", "+")) else f"{d['name']} {d['spec']}".strip()
        if (requirement_rule(line) is None) != d["pinned"]:
            disagreements.append(line)
    assert disagreements == []


def test_hub_models_of_real_training_scripts(shared_data: Path) -> None:
    """59 from_pretrained calls, 54 of which name no revision: the lint finds exactly those."""
    scripts = [fact for fact in _facts(shared_data) if fact.get("from_pretrained_calls")]
    calls = []
    for script in scripts:
        names = script["base_models"] or ["org/name"]
        for number in range(script["from_pretrained_calls"]):
            revision = "0123456789" * 4 if number < script["with_revision"] else None
            calls.append({"hub": names[number % len(names)], "revision": revision})
    assert len(calls) == 59
    findings = lint({"models": calls})
    assert len([f for f in findings if f.rule == "branch-name"]) == 54
    assert len(findings) == 54


def test_base_images_of_real_dockerfiles(shared_data: Path) -> None:
    images = [image for fact in _facts(shared_data) for image in fact.get("base_images") or []]
    findings = [lint({"image": image}) for image in images]
    assert len(images) == 31
    assert sum(any(f.rule == "unpinned-image" for f in found) for found in findings) == 31, "none names a digest"
    latest = sorted(image for image, found in zip(images, findings, strict=True) if any(f.rule == "latest" for f in found))
    assert len(latest) == 3
    assert all(":latest" in image for image in latest)
