"""The closure manifest: one canonical JSON document whose hash is the adapter's name.

Two keys carry references, wherever they stand: ``sha256`` names bytes and ``snapshot`` names a manifest of the store. Every one of
them must resolve (`complete.py`). Other hashes, of things that are not stored as bytes of their own, are called ``digest``. It
holds no time, host, path of a machine, user or run: the same closure has the same hash wherever it is written.

The small things it refers to that no snapshot holds yet (project file, package, lock, row order, policy, verdicts) come back as
attachments; the adapter's snapshot stores them next to the weights, so that the store alone is enough to start again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import polars as pl
import pyarrow as pa

from ftplatform.canonical import canonical_json, digest, sha256_hex
from ftplatform.closure.code_identity import ProjectIdentity, TreeIdentity
from ftplatform.closure.packages import Packages
from ftplatform.errors import FtplatformError
from ftplatform.verdict import Verdict

SCHEMA = "ftplatform.closure/1"

#: Folder of the adapter's snapshot that holds the manifest and its attachments.
FOLDER = "closure"

_TOKENIZER_FILE = re.compile(
    r"(?:^|/)(?:tokenizer[^/]*|special_tokens_map\.json|added_tokens\.json|vocab\.(?:json|txt)|merges\.txt|spiece\.model|chat_template[^/]*)$"
)


class FileFact(Protocol):
    """A stored file; `ftplatform.store.FileEntry` is one."""

    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


class InputFact(Protocol):
    """A reference to a snapshot; `ftplatform.store.InputRef` is one."""

    @property
    def role(self) -> str: ...
    @property
    def asset(self) -> str: ...
    @property
    def snapshot(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The base model.

    Attributes:
        files: all files of the model, weights and tokenizer included.
        chat_template: the template's text, as rendered with.
        hub, revision: where it came from, if from a hub; the revision is a commit.
    """

    asset: str
    snapshot: str
    files: Sequence[FileFact]
    chat_template: str
    hub: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """The rows in the order in which the trainer got them. `row_ids` is a string array of SHA-256s."""

    asset: str
    snapshot: str
    path: str
    row_ids: pa.Array | pa.ChunkedArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFact:
    """What a check concluded about which snapshots (`judged`: asset to digest)."""

    asset: str
    check: str
    judged: Mapping[str, str]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseFacts:
    """The license decision: ledger snapshot, the policy's canonical bytes with its name and version, and the declared uses."""

    ledger_asset: str
    ledger_snapshot: str
    policy_name: str
    policy_version: str
    policy: bytes
    uses: Sequence[str]


@dataclass(frozen=True)
class Closure:
    """A closure manifest and the bytes it refers to that are not in the store yet.

    Attributes:
        manifest: the JSON document.
        attachments: file name below `FOLDER` to bytes.
    """

    manifest: Mapping[str, Any]
    attachments: Mapping[str, bytes]

    @cached_property
    def document(self) -> bytes:
        """RFC 8785 bytes of the manifest."""
        return canonical_json(self.manifest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the document: the name of the adapter."""
        return sha256_hex(self.document)


def build_closure(
    *,
    asset: str,
    subject: Sequence[FileFact],
    tensors: str,
    base_model: ModelFacts,
    rows: RowFacts,
    inputs: Iterable[InputFact | Mapping[str, str]],
    package: TreeIdentity,
    package_version: str,
    project: ProjectIdentity,
    packages: Packages,
    runtime: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    seeds: Mapping[str, int],
    licenses: LicenseFacts,
    checks: Iterable[CheckFact],
    waivers: Sequence[Mapping[str, Any]] = (),
    human_steps: Sequence[Mapping[str, Any]] = (),
) -> Closure:
    """Write down everything an adapter depends on.

    Args:
        asset: e.g. ``adapters/support``.
        subject: the adapter's own files (weights and configuration).
        tensors: digest of the adapter's tensors, independent of the file's header.
        inputs: every snapshot upstream, transitively (`transitive_inputs`).
        package: files of the installed `ftplatform` package.
        project: the project file.
        runtime: hardware class, device, dtype, threads, determinism flags, numeric environment variables
            (`training.environment.describe_environment` and the resolved dtype).
        hyperparameters: every setting as resolved; nothing left to a default.
        seeds: by purpose; `data_order` and `adapter_init` at least.
        checks: the evaluations the gate relied on. Times and run ids stay outside, so that the same evidence has the same hash.
        human_steps: ``{"what": ..., "sha256": hash of the record}`` for every step a person did by hand.

    Raises:
        FtplatformError: if something has no canonical JSON form, or a row id is no SHA-256.
    """
    order = row_order_bytes(rows.row_ids)
    ids = sorted(order.decode().split())
    checks = sorted(checks, key=lambda fact: (fact.asset, fact.check))
    verdicts = {f"checks/{fact.asset}/{fact.check}.json": _check_bytes(fact) for fact in checks}
    attachments = {
        "project.yaml": project.data,
        "package.tar": package.archive,
        "lock.txt": packages.lock,
        "row_order.txt": order,
        "chat_template.txt": base_model.chat_template.encode(),
        "policy.json": licenses.policy,
        **verdicts,
    }
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "adapter",
        "asset": asset,
        "subject": {"files": _files(subject), "tensors": {"digest": tensors}},
        "base_model": {
            "asset": base_model.asset,
            "snapshot": base_model.snapshot,
            "hub": base_model.hub,
            "revision": base_model.revision,
            "files": _files(base_model.files),
            "tokenizer": {"files": _files(tokenizer_files(base_model.files))},
            "chat_template": {"sha256": sha256_hex(attachments["chat_template.txt"])},
        },
        "rows": {
            "asset": rows.asset,
            "snapshot": rows.snapshot,
            "path": rows.path,
            "count": len(ids),
            "order": {"sha256": sha256_hex(order)},
            "set": {"digest": sha256_hex("\n".join(ids).encode())},
        },
        "inputs": _inputs(inputs),
        "code": {
            "package": {
                "name": "ftplatform",
                "version": package_version,
                "tree": {"digest": package.digest},
                "archive": {"sha256": sha256_hex(package.archive)},
            },
            "project": {
                "vcs": project.vcs,
                "commit": project.commit,
                "dirty": project.dirty,
                "path": project.path,
                "file": {"sha256": sha256_hex(project.data)},
            },
        },
        "environment": {
            "python": packages.python,
            "implementation": packages.implementation,
            "packages": dict(packages.versions),
            "direct": [
                # Our own package is pinned by its tree, wherever it was installed from.
                {"name": d.name, "kind": d.kind, "pin": f"tree={package.digest}" if d.name == "ftplatform" else d.pin}
                for d in packages.direct
            ],
            "lock": {"sha256": sha256_hex(packages.lock)},
        },
        "runtime": {key: value for key, value in runtime.items() if key != "packages"},
        "hyperparameters": dict(hyperparameters),
        "seeds": dict(seeds),
        "licenses": {
            "ledger": {"asset": licenses.ledger_asset, "snapshot": licenses.ledger_snapshot},
            "policy": {"name": licenses.policy_name, "version": licenses.policy_version, "sha256": sha256_hex(licenses.policy)},
            "uses": sorted(licenses.uses),
        },
        "checks": [_check_entry(fact, sha256_hex(verdicts[f"checks/{fact.asset}/{fact.check}.json"])) for fact in checks],
        "waivers": [dict(waiver) for waiver in waivers],
        "human_steps": [dict(step) for step in human_steps],
    }
    closure = Closure(manifest, attachments)
    try:
        _ = closure.document
    except (ValueError, TypeError, RecursionError) as error:
        raise FtplatformError(
            f"The closure of {asset} has no canonical JSON form: {error}.",
            remedy="Hyper-parameters and runtime facts must be finite numbers, text, lists or mappings.",
        ) from error
    return closure


def row_order_bytes(row_ids: pa.Array | pa.ChunkedArray) -> bytes:
    """The sequence of row ids, one per line: the bytes whose hash stands for the order of the rows.

    Raises:
        FtplatformError: naming the position of an id that is no SHA-256.
    """
    ids = pl.Series(row_ids.to_pylist(), dtype=pl.String)
    valid = ids.str.contains(r"\A[0-9a-f]{64}\z").fill_null(False)
    if not valid.all():
        position = int(valid.arg_min() or 0)
        raise FtplatformError(f"Row {position} has the id {ids[position]!r}.", remedy="Row ids are SHA-256 (rows.schema.row_id).")
    return "".join(f"{row_id}\n" for row_id in ids).encode()


def ordered_rows_digest(row_ids: pa.Array | pa.ChunkedArray) -> str:
    """SHA-256 (hex) of the *sequence* of row ids: the same rows in another order give another adapter and another digest."""
    return sha256_hex(row_order_bytes(row_ids))


def transitive_inputs(lineage: Iterable[Any]) -> list[dict[str, str]]:
    """Role, asset and snapshot of every input in a lineage of store snapshots (`Store.lineage`), each once, sorted."""
    return _inputs(ref for snapshot in lineage for ref in snapshot.inputs)


def tokenizer_files(files: Iterable[FileFact]) -> list[FileFact]:
    """The files of a model that decide how text becomes tokens."""
    return [file for file in files if _TOKENIZER_FILE.search(file.path)]


def recipe_digest(manifest: Mapping[str, Any]) -> str:
    """Hash of the closure without its result: two replays of one recipe agree here even if their bits differ."""
    return digest({key: value for key, value in manifest.items() if key != "subject"})


def _files(files: Iterable[FileFact]) -> list[dict[str, Any]]:
    return sorted(({"path": f.path, "sha256": f.sha256, "size": f.size} for f in files), key=lambda entry: str(entry["path"]))


def _inputs(inputs: Iterable[Any]) -> list[dict[str, str]]:
    """Accepts `InputFact`s and the mappings that `transitive_inputs` returns."""
    found = {(i["role"], i["asset"], i["snapshot"]) if isinstance(i, Mapping) else (i.role, i.asset, i.snapshot) for i in inputs}
    return [{"role": role, "asset": asset, "snapshot": snapshot} for role, asset, snapshot in sorted(found)]


def _check_entry(fact: CheckFact, sha256: str) -> dict[str, Any]:
    return {
        "asset": fact.asset,
        "check": fact.check,
        "version": fact.verdict.check_version,
        "decision": str(fact.verdict.decision),
        "judged": [{"asset": asset, "snapshot": snapshot} for asset, snapshot in sorted(fact.judged.items())],
        "sha256": sha256,
    }


def _check_bytes(fact: CheckFact) -> bytes:
    """What was concluded about what; without the picture, the time and the run."""
    record = {key: value for key, value in fact.verdict.to_record().items() if key != "plot"}
    return canonical_json({"asset": fact.asset, "check": fact.check, "judged": dict(fact.judged), "verdict": record})
