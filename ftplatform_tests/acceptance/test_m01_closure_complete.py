"""M1, first form: a closure from real parts on a real store is complete; each thing that makes it hollow is found and named.

Everything is as in production except the training itself: real rows, the installed package and packages, a real git repository,
the environment as the trainer records it, and a store on disk. (`closure_replay` re-runs the training; that is another check.)
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from ftplatform import __version__
from ftplatform.canonical import sha256_hex
from ftplatform.closure.code_identity import package_root, project_identity, tree_identity, unpack_tree
from ftplatform.closure.complete import closure_complete, store_resolver
from ftplatform.closure.diff import diff
from ftplatform.closure.manifest import (
    CheckFact,
    Closure,
    LicenseFacts,
    ModelFacts,
    RowFacts,
    build_closure,
    ordered_rows_digest,
    transitive_inputs,
)
from ftplatform.closure.packages import DirectInstall, Packages, installed_packages
from ftplatform.licensing.checks import license_allows_use
from ftplatform.licensing.evidence import read_evidence
from ftplatform.licensing.ledger import ledger_table
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.terms import SourceTerms
from ftplatform.rows.schema import row_id
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store
from ftplatform.training.environment import describe_environment
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.unit.closure.factories import git

POLICY = default_policy()


@dataclass
class Project:
    """What stands before an adapter: a repository with the project file, and a store with everything upstream."""

    file: Path
    store: Store
    split: Snapshot
    base: Snapshot
    ledger: Snapshot
    terms: list[SourceTerms]
    environment: dict[str, Any]
    packages: Packages


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    return {**describe_environment(), "dtype": "fp32"}


@pytest.fixture
def project(tmp_path: Path, shared_data: Path, environment: dict[str, Any]) -> Project:
    home = tmp_path / "home" / "engineer" / "project"
    home.mkdir(parents=True)
    (home / "ftplatform.yaml").write_text("name: demo\n")
    git(home, "init", "-q")
    git(home, "add", "-A")
    git(home, "commit", "-q", "-m", "first")

    store = Store.open(str(tmp_path / "store"))
    license_text = (shared_data / "star" / "LICENSE.txt").read_bytes()
    terms = [SourceTerms(name="raw/star", declared="MIT", concluded="MIT", evidence=(read_evidence("LICENSE.txt", license_text),))]
    rows = _real_rows(shared_data)
    raw = _put(store, "raw/star", lambda draft: draft.add_table("rows.parquet", rows))
    split = _put(
        store, "splits/support", lambda draft: draft.add_table("train.parquet", rows), InputRef("rows", "raw/star", raw.digest)
    )

    def model(draft: SnapshotDraft) -> None:
        weights = tmp_path / "model.safetensors"
        save_file({"w": np.ones(8, dtype=np.float32)}, weights)
        draft.add_file("model/model.safetensors", weights)
        draft.add_json("model/config.json", {"model_type": "tiny"})
        draft.add_json("model/tokenizer.json", {"version": "1.0"})

    base = _put(store, "base_models/tiny", model)
    ledger = _put(store, "license_ledger", lambda draft: draft.add_table("ledger.parquet", ledger_table(terms, POLICY)))
    # Installs from folders would differ from machine to machine; what the index provides is what production has.
    installed = installed_packages()
    packages = replace(installed, direct=tuple(d for d in installed.direct if d.name == "ftplatform"))
    return Project(home / "ftplatform.yaml", store, split, base, ledger, terms, environment, packages)


def _real_rows(shared_data: Path) -> pa.Table:
    """The first turns of 200 support dialogues."""
    found: dict[str, dict[str, Any]] = {}
    with gzip.open(shared_data / "star" / "star_open.jsonl.gz", "rt") as lines:
        for line, _ in zip(lines, range(200), strict=False):
            texts = [str(e["Text"]) for e in json.loads(line)["Events"] if e.get("Text")][:2]
            messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=False)]
            found[row_id(messages)] = {"row_id": row_id(messages), "origins": ["raw/star"], "parents": [], "text": " ".join(texts)}
    return pa.Table.from_pylist(
        list(found.values()),
        schema=pa.schema(
            [("row_id", pa.string()), ("origins", pa.list_(pa.string())), ("parents", pa.list_(pa.string())), ("text", pa.string())]
        ),
    )


def _put(store: Store, asset: str, fill: Callable[[SnapshotDraft], Any], *inputs: InputRef) -> Snapshot:
    with SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=inputs) as draft:
        fill(draft)
        snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot


def train(project: Project, **changes: Any) -> tuple[Snapshot, Closure]:
    """An adapter snapshot with its closure; `changes` replace facts of the closure."""
    store, rows = project.store, project.split.read_table("train.parquet")
    verdict = license_allows_use(rows, project.terms, ["train"], POLICY)
    direct = [
        InputRef("rows", "splits/support", project.split.digest),
        InputRef("base_model", "base_models/tiny", project.base.digest),
    ]
    with SnapshotDraft("adapters/support", code_version="1", config_hash="c", environment="e", inputs=direct) as draft:
        entry = draft.add_bytes("adapter/adapter_model.safetensors", b"weights")
        lineage = [s for ref in direct for s in store.lineage(ref.snapshot)]
        facts: dict[str, Any] = {
            "asset": "adapters/support",
            "subject": [entry],
            "tensors": sha256_hex(b"tensors"),
            "base_model": ModelFacts(
                asset="base_models/tiny", snapshot=project.base.digest, files=project.base.files, chat_template="{{ messages }}"
            ),
            "rows": RowFacts(asset="splits/support", snapshot=project.split.digest, path="train.parquet", row_ids=rows["row_id"]),
            "inputs": [*direct, *transitive_inputs(lineage)],
            "package": tree_identity(package_root()),
            "package_version": __version__,
            "project": project_identity(project.file),
            "packages": project.packages,
            "runtime": project.environment,
            "hyperparameters": {"steps": 30, "learning_rate": 0.0002, "lora": {"rank": 16, "alpha": 32.0}},
            "seeds": {"data_order": 0, "adapter_init": 0},
            "licenses": LicenseFacts(
                ledger_asset="license_ledger",
                ledger_snapshot=project.ledger.digest,
                policy_name=POLICY.name,
                policy_version=POLICY.version,
                policy=POLICY.document,
                uses=["train"],
            ),
            "checks": [
                CheckFact(
                    asset="splits/support",
                    check="license_allows_use",
                    judged={"splits/support": project.split.digest},
                    verdict=verdict,
                )
            ],
        }
        closure = build_closure(**{**facts, **changes})
        for path, data in closure.attachments.items():
            draft.add_bytes(f"closure/{path}", data)
        draft.add_bytes("closure/closure.json", closure.document)
        return store.write(draft), closure


def judge(project: Project, adapter: Snapshot, closure: Closure) -> Verdict:
    manifest = adapter.read_json("closure/closure.json")
    return closure_complete(manifest, store_resolver(project.store, adapter.digest), name=closure.digest)


def findings(verdict: Verdict) -> set[tuple[str, str]]:
    return {(str(row["rule"]), str(row["field"])) for row in verdict.evidence}


def test_a_real_closure_is_complete_and_its_name_is_stable(project: Project) -> None:
    adapter, closure = train(project)
    verdict = judge(project, adapter, closure)
    assert verdict.decision is Decision.PASS, [dict(row) for row in verdict.evidence]
    assert verdict.estimate == 1.0
    again, second = train(project)
    assert (again.digest, second.digest) == (adapter.digest, closure.digest)


def test_nothing_of_the_engineer_or_the_machine_is_in_it(project: Project) -> None:
    _, closure = train(project)
    assert str(project.file.parent) not in closure.document.decode()
    assert "engineer" not in closure.document.decode()


def test_the_same_rows_in_another_order(project: Project) -> None:
    """ADV: the storage layer returned the rows in another order; a hash of the row set does not notice."""
    rows = project.split.read_table("train.parquet")["row_id"]
    shuffled = pa.array(rows.to_pylist()[::-1])
    naive = {sha256_hex("".join(sorted(ids.to_pylist())).encode()) for ids in (rows, shuffled)}
    assert len(naive) == 1
    assert ordered_rows_digest(rows) != ordered_rows_digest(shuffled)
    _, first = train(project)
    _, second = train(
        project, rows=RowFacts(asset="splits/support", snapshot=project.split.digest, path="train.parquet", row_ids=shuffled)
    )
    assert first.digest != second.digest
    assert [change.path for change in diff(first.manifest, second.manifest)] == ["/rows/order/sha256"]


def test_an_absolute_path(project: Project) -> None:
    adapter, closure = train(project, hyperparameters={"steps": 30, "data": str(project.file.parent / "rows.parquet")})
    verdict = judge(project, adapter, closure)
    assert verdict.decision is Decision.FAIL
    assert {pointer for _, pointer in findings(verdict)} == {"/hyperparameters/data"}


def test_a_dirty_tree_and_after_the_commit(project: Project) -> None:
    project.file.write_text("name: demo\ndescription: tried something\n")
    adapter, closure = train(project)
    verdict = judge(project, adapter, closure)
    assert findings(verdict) == {("dirty-tree", "/code/project/dirty")}
    assert "Commit" in verdict.remedy
    git(project.file.parent, "commit", "-q", "-a", "-m", "second")
    assert judge(project, *train(project)).decision is Decision.PASS


def test_a_project_outside_git_is_pinned_by_its_bytes(project: Project) -> None:
    shutil.rmtree(project.file.parent / ".git")
    adapter, closure = train(project)
    assert judge(project, adapter, closure).decision is Decision.PASS
    assert closure.manifest["code"]["project"]["vcs"] == "none"
    assert adapter.read_bytes("closure/project.yaml") == b"name: demo\n"


def test_an_unpinned_package_and_somebodys_working_copy(project: Project) -> None:
    loose = replace(project.packages, versions={**project.packages.versions, "transformers": ">=4"})
    assert findings(judge(project, *train(project, packages=loose))) == {("unpinned-package", "/environment/packages/transformers")}
    mine = replace(project.packages, direct=(DirectInstall("helpers", "editable", None),))
    assert findings(judge(project, *train(project, packages=mine))) == {("editable-package", "/environment/direct/0")}


def test_a_corrupted_blob_upstream(project: Project, tmp_path: Path) -> None:
    adapter, closure = train(project)
    assert judge(project, adapter, closure).passed
    victim = project.store.lineage(adapter.digest)[-1].files[0]
    blob = next((tmp_path / "store" / "blobs").rglob(victim.sha256))
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(bytes(data))
    verdict = judge(project, adapter, closure)
    assert verdict.decision is Decision.FAIL
    assert {rule for rule, _ in findings(verdict)} == {"unresolved-reference"}


def test_bytes_that_were_never_stored(project: Project) -> None:
    lost = replace(project.packages, versions={**project.packages.versions, "numpy": "2.0.0"})
    adapter, _ = train(project)
    _, other = train(project, packages=lost)
    resolve = store_resolver(project.store, adapter.digest)
    verdict = closure_complete(other.manifest, resolve)
    assert findings(verdict) == {("unresolved-reference", "/environment/lock/sha256")}


def test_an_empty_manifest_never_passes(project: Project) -> None:
    adapter, _ = train(project)
    for manifest in ({}, {"schema": "ftplatform.closure/1"}, {"checks": [], "inputs": []}):
        assert closure_complete(manifest, store_resolver(project.store, adapter.digest)).decision is Decision.FAIL
        assert closure_complete(manifest, lambda _: None).decision is Decision.FAIL


def test_the_engineer_left_and_only_the_store_remains(project: Project, tmp_path: Path) -> None:
    """The project folder is gone; code, project file, lock and row order come out of the store, and the code runs."""
    adapter, closure = train(project)
    shutil.rmtree(tmp_path / "home")
    store = Store.open(str(tmp_path / "store"))
    found = store.snapshot(adapter.digest)
    assert judge(replace(project, store=store), found, closure).decision is Decision.PASS
    unpack_tree(found.read_bytes("closure/package.tar"), tmp_path / "code" / "ftplatform")
    script = (
        "import sys, pyarrow as pa, ftplatform; from ftplatform.closure.manifest import ordered_rows_digest;"
        "assert ftplatform.__file__.startswith(sys.argv[1]), ftplatform.__file__;"
        "print(ordered_rows_digest(pa.array(open(sys.argv[2]).read().split())))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "code"), str(found.local_path("closure/row_order.txt"))]
    environment = {"PYTHONPATH": str(tmp_path / "code")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == closure.manifest["rows"]["order"]["sha256"]
    assert found.read_bytes("closure/project.yaml") == b"name: demo\n"
    assert f"ftplatform=={__version__}" in found.read_bytes("closure/lock.txt").decode().splitlines()
