"""A complete, clean closure over real files, for tests that break one thing at a time."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ftplatform.canonical import sha256_hex
from ftplatform.closure.code_identity import ProjectIdentity, tree_identity
from ftplatform.closure.manifest import CheckFact, Closure, LicenseFacts, ModelFacts, RowFacts, build_closure
from ftplatform.closure.packages import DirectInstall, Packages
from ftplatform.store import FileEntry, InputRef
from ftplatform.verdict import Decision, Verdict


def hex_of(text: str) -> str:
    return sha256_hex(text.encode())


@dataclass
class World:
    """Bytes by hash: everything a test closure may refer to."""

    blobs: dict[str, bytes]

    def file(self, path: str, data: bytes) -> FileEntry:
        self.blobs[sha256_hex(data)] = data
        return FileEntry(path, sha256_hex(data), len(data))

    def resolve(self, digest: str) -> str | None:
        if digest not in self.blobs:
            return "there are no bytes with this hash"
        return None if sha256_hex(self.blobs[digest]) == digest else "the bytes hash to something else"


ROW_IDS = pa.array([hex_of(f"row {i}") for i in range(5)])

PACKAGES = Packages(
    python="3.11.9",
    implementation="cpython",
    versions={"ftplatform": "0.1.0", "numpy": "2.3.1", "torch": "2.13.0+cpu", "tzdata": "2025.2"},
    direct=(DirectInstall("ftplatform", "editable", None),),
)
RUNTIME = {
    "capability_class": "x86_64/AVX512+bf16",
    "device": "cpu",
    "dtype": "bf16",
    "threads": 1,
    "deterministic_algorithms": True,
    "variables": {"OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
    "gpu": None,
    "packages": {"torch": "2.13.0+cpu"},
}


def verdict(check: str = "contamination_exact") -> Verdict:
    return Verdict(
        decision=Decision.PASS,
        summary=f"{check} is fine.",
        statistic="hits",
        n=10,
        n_required=1,
        remedy="Nothing to do.",
        check_version="1",
    )


def clean_closure(package: Path, *, row_ids: pa.Array = ROW_IDS, project: ProjectIdentity | None = None) -> tuple[Closure, World]:
    """A closure without a fault, and the world in which it resolves."""
    world = World({})
    snapshots = {
        asset: world.file(asset, f"manifest of {asset}".encode()).sha256
        for asset in ("base_models/tiny", "splits/support", "raw/a")
    }
    ledger = world.file("ledger", b"manifest of the ledger").sha256
    closure = build_closure(
        asset="adapters/support",
        subject=[world.file("adapter_model.safetensors", b"weights"), world.file("adapter_config.json", b"{}")],
        tensors=hex_of("tensors"),
        base_model=ModelFacts(
            asset="base_models/tiny",
            snapshot=snapshots["base_models/tiny"],
            files=[
                world.file("model/model.safetensors", b"base weights"),
                world.file("model/tokenizer.json", b"{}"),
                world.file("model/config.json", b"{'a': 1}"),
            ],
            chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}",
        ),
        rows=RowFacts(asset="splits/support", snapshot=snapshots["splits/support"], path="train.parquet", row_ids=row_ids),
        inputs=[
            InputRef("rows", "splits/support", snapshots["splits/support"]),
            InputRef("base_model", "base_models/tiny", snapshots["base_models/tiny"]),
            InputRef("rows", "raw/a", snapshots["raw/a"]),
        ],
        package=tree_identity(package),
        package_version="0.1.0",
        project=project or ProjectIdentity("git", "0123456789abcdef" * 2 + "01234567", False, "ftplatform.yaml", b"name: demo\n"),
        packages=PACKAGES,
        runtime=RUNTIME,
        hyperparameters={"lora": {"rank": 16, "alpha": 32.0}, "optimization": {"steps": 375, "learning_rate": 0.0002}},
        seeds={"data_order": 0, "adapter_init": 7},
        licenses=LicenseFacts(
            ledger_asset="license_ledger",
            ledger_snapshot=ledger,
            policy_name="default",
            policy_version="1",
            policy=b'{"name":"default"}',
            uses=["train"],
        ),
        checks=[
            CheckFact(
                asset="splits/support",
                check="contamination_exact",
                judged={"splits/support": snapshots["splits/support"]},
                verdict=verdict(),
            )
        ],
    )
    for data in closure.attachments.values():
        world.blobs[sha256_hex(data)] = data
    return closure, world


def small_package(folder: Path) -> Path:
    """A package of two files."""
    root = folder / "package"
    (root / "inner").mkdir(parents=True)
    (root / "__init__.py").write_text("VERSION = 1\n")
    (root / "inner" / "code.py").write_text("def f():\n    return 1\n")
    return root


def git(folder: Path, *arguments: str) -> str:
    """Run git for a test, with an identity of its own."""
    command = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "init.defaultBranch=main",
        "-C",
        str(folder),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
