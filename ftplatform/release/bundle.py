"""The release bundle, first form: a folder that carries its own evidence, and its verification.

    adapter/...      weights (safetensors only) and their configuration
    closure.json     what they were made from; its hash is the adapter's name
    checks.json      the full record of every check the release relied on, failed ones included
    waivers.json     who let failed checks through, why, and until when
    obligations.json whether what the licenses ask of this release was found in it
    licenses.json    the license ledger at that time       notices.json, NOTICE.md, licenses/   what is owed, and the texts
    README.md        the model card, rendered from the above
    bundle.json      path, size and SHA-256 of every file; its own hash is the release's name

Bundles are not signed yet, and the card says so: verification shows that nothing in the folder was changed by accident or alone.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, FtplatformError, UnsafeModel
from ftplatform.release.card import render_card, render_notice
from ftplatform.release.records import Notice, cite_evaluation, cite_waiver, notice_record, refused_without_waiver, text_name
from ftplatform.store import Evaluation
from ftplatform.store.waivers import Waiver
from ftplatform.verdict import Verdict

SCHEMA = "ftplatform.release/2"
INDEX = "bundle.json"

#: What an adapter consists of. Anything else (pickles above all) has no place in a release.
_ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".model", ".md"})

# Columns of the ledger that a reader of the bundle can use; the rest is bookkeeping of the store it came from.
_LEDGER_COLUMNS = (
    "source", "kind", "status", "license", "declared_raw", "declared", "concluded", "evidence_path", "evidence_sha256", "rights",
    "problems",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Release:
    """A built bundle: its folder and the SHA-256 of its `bundle.json`."""

    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a bundle that does not verify: which file, and what about it."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def build_release(
    out: Path,
    *,
    name: str,
    adapter_folder: Path,
    closure: bytes,
    evaluations: Sequence[Evaluation],
    ledger: pa.Table,
    notices: Sequence[Notice],
    obligations: Callable[[str, Mapping[str, bytes]], Verdict],
    waivers: Sequence[Waiver] = (),
    license_texts: Mapping[str, bytes] | None = None,
    description: str = "",
) -> Release:
    """Write a bundle. The folder appears complete or not at all.

    Args:
        out: must not exist yet.
        adapter_folder: weights and configuration of the adapter.
        closure: bytes of its closure manifest.
        evaluations: finished evaluations the release relies on.
        ledger: the license ledger (columns of `licensing.ledger.LEDGER_SCHEMA`).
        notices: what is owed for everything that was used.
        obligations: judges model card and files, by path, before anything is written; raises to refuse.
        waivers: those that failed evaluations were let through under.
        license_texts: evidence files by the path that notices name them by; they are shipped with the bundle.

    Raises:
        UnsafeModel: for a file that is no safetensors, configuration or text, or names code to run.
        CorruptArtifact: if the weights are not those of the closure, or an evaluation's record does not hash to its name.
        FtplatformError: if `out` exists, there is no evaluation to cite, or one refuses and no waiver is about it.
        Exception: whatever `obligations` raises.
    """
    if out.exists():
        raise FtplatformError(f"{out.name} exists already.", remedy="Give a new folder; a release is never changed in place.")
    manifest = json.loads(closure)
    weights = _adapter_files(adapter_folder)
    _match_subject(manifest, {sha256_hex(data) for data in weights.values()})
    checks = [cite_evaluation(evaluation) for evaluation in sorted(evaluations, key=lambda e: (e.asset, e.check))]
    if not checks:
        raise FtplatformError(f"The release of {name} cites no evaluation.", remedy="Run the checks first.")
    waived = [cite_waiver(waiver) for waiver in sorted(waivers, key=lambda w: (w.asset, w.check, w.id))]
    if refusing := refused_without_waiver(checks, waived):
        raise FtplatformError(
            f"The release of {name} cites what refuses it: {', '.join(refusing)}.", remedy="Mend it, or cite the waiver."
        )
    texts = {path: text_name(path, data) for path, data in (license_texts or {}).items()}
    owed = [notice_record(notice, texts) for notice in sorted(notices, key=lambda n: (n.kind, n.name))]
    known = [column for column in _LEDGER_COLUMNS if column in ledger.column_names]
    files: dict[str, bytes] = {f"adapter/{path}": data for path, data in weights.items()}
    files |= {texts[path]: data for path, data in (license_texts or {}).items()}
    files |= {
        "closure.json": closure,
        "checks.json": canonical_json(checks),
        "waivers.json": canonical_json(waived),
        "licenses.json": canonical_json(ledger.select(known).to_pylist()),
        "notices.json": canonical_json(owed),
    }
    head = {"schema": SCHEMA, "name": name, "description": description, "closure": sha256_hex(closure), "signature": None}
    files |= _rendered(head, files)
    verdict = obligations(files["README.md"].decode(), files)
    files["obligations.json"] = canonical_json(verdict.to_record())
    files |= _rendered(head, files)
    listed = [{"path": path, "sha256": sha256_hex(files[path]), "size": len(files[path])} for path in sorted(files)]
    index = canonical_json({**head, "files": listed})
    _write(out, {**files, INDEX: index})
    return Release(out, sha256_hex(index))


def verify_release(folder: Path, *, digest: str | None = None) -> list[Problem]:
    """Check a bundle: every file re-hashed, nothing added, closure and records hash to their names, card and NOTICE as rendered.

    Args:
        digest: the release's name, if it must match.

    Returns:
        All problems; an empty list means that the bundle is intact. It says nothing about who made it (bundles are unsigned).
    """
    index_path = folder / INDEX
    if index_path.is_symlink() or not index_path.is_file():
        return [Problem(INDEX, "is missing; this is no release bundle")]
    data = index_path.read_bytes()
    problems = (
        [] if digest is None or sha256_hex(data) == digest else [Problem(INDEX, f"hashes to {sha256_hex(data)}, not to {digest}")]
    )
    try:
        index = json.loads(data)
        listed = {str(entry["path"]): (str(entry["sha256"]), int(entry["size"])) for entry in index["files"]}
        head = {key: index[key] for key in ("schema", "name", "description", "closure", "signature")}
    except (ValueError, KeyError, TypeError) as error:
        return [*problems, Problem(INDEX, f"is malformed: {error}")]
    if head["schema"] != SCHEMA:
        return [*problems, Problem(INDEX, f"has the schema {head['schema']!r}; this version reads {SCHEMA!r}")]
    if canonical_json(index) != data:
        problems.append(Problem(INDEX, "is not in canonical form"))
    files, found = _read_listed(folder, listed)
    problems += found
    problems += [Problem(path, "is not listed in bundle.json") for path in _walk(folder) if path not in listed and path != INDEX]
    return problems + list(_inner_problems(head, files))


def _read_listed(folder: Path, listed: Mapping[str, tuple[str, int]]) -> tuple[dict[str, bytes], list[Problem]]:
    """Bytes of the files that verify, and the problems of those that do not."""
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    for path, (sha256, size) in listed.items():
        place = folder / path
        if path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in path.split("/")):
            problems.append(Problem(path, "is no path inside the bundle"))
        elif any((folder / parent).is_symlink() for parent in (path, *_parents(path))):
            problems.append(Problem(path, "is a link"))
        elif not place.is_file():
            problems.append(Problem(path, "is missing"))
        else:
            data = place.read_bytes()
            if len(data) != size or sha256_hex(data) != sha256:
                problems.append(
                    Problem(path, f"has {len(data):,} bytes and hashes to {sha256_hex(data)}, not {size:,} and {sha256}")
                )
            else:
                files[path] = data
    return files, problems


def _inner_problems(head: Mapping[str, Any], files: Mapping[str, bytes]) -> Iterator[Problem]:
    """What the files of an otherwise intact bundle say against each other."""
    needed = (
        "closure.json", "checks.json", "waivers.json", "obligations.json", "licenses.json", "notices.json", "README.md", "NOTICE.md",
    )  # fmt: skip
    absent = [path for path in needed if path not in files]
    if absent:
        yield from (Problem(path, "is needed to verify the rest") for path in absent)
        return
    if sha256_hex(files["closure.json"]) != head["closure"]:
        yield Problem("closure.json", f"is not the closure {head['closure']} that bundle.json names")
    try:
        cited = {path: json.loads(files[path]) for path in ("checks.json", "waivers.json")}
        for path, records in cited.items():
            for record in records:
                if sha256_hex(canonical_json(record["document"])) != record["record"]:
                    yield Problem(path, f"the record of {record['document']['check']} does not hash to {record['record']}")
        for refusing in refused_without_waiver(cited["checks.json"], cited["waivers.json"]):
            yield Problem("waivers.json", f"names no waiver of {refusing}, which did not pass")
        _match_subject(
            json.loads(files["closure.json"]), {sha256_hex(data) for path, data in files.items() if path.startswith("adapter/")}
        )
        for path, data in _rendered(head, files).items():
            if files[path] != data:
                yield Problem(path, "says something else than the evidence in the bundle")
    except CorruptArtifact as error:
        yield Problem("adapter", error.message)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield Problem("bundle", f"cannot be read: {type(error).__name__}: {error}")


def _rendered(head: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Card and NOTICE from the other files; the card without the verdict on obligations is what that verdict is about."""
    notices = json.loads(files["notices.json"])
    obligations = files.get("obligations.json")
    card = render_card(
        name=head["name"],
        description=head["description"],
        closure=json.loads(files["closure.json"]),
        closure_digest=head["closure"],
        checks=json.loads(files["checks.json"]),
        ledger=json.loads(files["licenses.json"]),
        notices=notices,
        waivers=json.loads(files["waivers.json"]),
        obligations=json.loads(obligations) if obligations is not None else None,
    )
    return {"README.md": card.encode(), "NOTICE.md": render_notice(head["name"], notices).encode()}


def _adapter_files(folder: Path) -> dict[str, bytes]:
    """Files of the adapter, checked to be what a loader can read without running anything."""
    files: dict[str, bytes] = {}
    for path in _walk(folder):
        place = folder / path
        if place.is_symlink() or place.suffix not in _ALLOWED_SUFFIXES:
            raise UnsafeModel(
                f"{path} has no place in a release.", remedy="Release safetensors weights with their JSON configuration only."
            )
        files[path] = place.read_bytes()
        if place.suffix == ".safetensors":
            _check_safetensors(place, path)
        elif place.suffix == ".json" and b'"auto_map"' in files[path]:
            raise UnsafeModel(
                f"{path} names code to run (auto_map).", remedy="Remove auto_map; the platform never trusts remote code."
            )
    if not any(path.endswith(".safetensors") for path in files):
        raise UnsafeModel("The adapter has no safetensors weights.", remedy="Materialize the adapter again.")
    return files


def _check_safetensors(place: Path, path: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(place), framework="np") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise UnsafeModel(
            f"{path} is no well-formed safetensors file: {error}.", remedy="Materialize the adapter again."
        ) from error


def _match_subject(manifest: Mapping[str, Any], found: set[str]) -> None:
    """The weights are those the closure was written for."""
    for entry in manifest["subject"]["files"]:
        if entry["sha256"] not in found:
            raise CorruptArtifact(
                f"{entry['path']} is not the file the closure names ({entry['sha256'][:16]}).",
                remedy="Release the adapter of this closure, or build the closure of this adapter.",
            )


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _walk(folder: Path) -> list[str]:
    """Paths of everything in a folder that is not a folder itself, links to folders included, sorted."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        found.extend(Path(root, name).relative_to(folder).as_posix() for name in [*names, *links])
    return sorted(found)


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for path, data in files.items():
            place = temporary / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        temporary.chmod(0o755)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
