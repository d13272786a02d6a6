"""closure_complete: is everything there, does every reference lead to bytes that re-hash, and will it hold elsewhere? (SPEC M1)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.closure.lint import Finding, lint
from ftplatform.closure.manifest import SCHEMA
from ftplatform.errors import NotMaterialized, StoreError, StoreUnavailable
from ftplatform.rows.masking import excerpt
from ftplatform.store import Store
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: What every closure must say, as JSON pointers. A list or mapping must not be empty, except those in `_MAY_BE_EMPTY`.
REQUIRED: tuple[str, ...] = (
    "/schema",
    "/asset",
    "/subject/files",
    "/subject/tensors/digest",
    "/base_model/asset",
    "/base_model/snapshot",
    "/base_model/files",
    "/base_model/tokenizer/files",
    "/base_model/chat_template/sha256",
    "/rows/snapshot",
    "/rows/count",
    "/rows/order/sha256",
    "/inputs",
    "/code/package/version",
    "/code/package/tree/digest",
    "/code/package/archive/sha256",
    "/code/project/vcs",
    "/code/project/file/sha256",
    "/environment/python",
    "/environment/packages",
    "/environment/lock/sha256",
    "/runtime/capability_class",
    "/runtime/device",
    "/runtime/dtype",
    "/runtime/threads",
    "/runtime/deterministic_algorithms",
    "/runtime/variables",
    "/hyperparameters",
    "/seeds/data_order",
    "/seeds/adapter_init",
    "/licenses/ledger/snapshot",
    "/licenses/policy/sha256",
    "/licenses/uses",
    "/checks",
    "/waivers",
    "/human_steps",
)
_MAY_BE_EMPTY = frozenset({"/waivers", "/human_steps", "/runtime/variables"})

#: Gets a digest; returns None if bytes with that hash (or a snapshot with all of its bytes) are there, else what is wrong.
Resolver = Callable[[str], str | None]


def closure_complete(manifest: Mapping[str, Any], resolve: Resolver, *, name: str | None = None) -> Verdict:
    """Every required field is there, every reference resolves to bytes that re-hash, and the lint finds nothing.

    Args:
        manifest: the closure.
        resolve: looks up a digest and re-hashes what it finds; `store_resolver` for a store.
        name: the hash the closure is known by, if it must match.

    Returns:
        Pass only if all of it holds. `n` counts required fields and references, `estimate` is the share that is there. A manifest
        without references can never pass, because the required fields include some.
    """
    problems: list[dict[str, str]] = [_problem(pointer, "missing-field", "") for pointer in missing_fields(manifest)]
    listed = references(manifest)
    outcome = {digest: resolve(digest) for digest in dict.fromkeys(digest for _, digest in listed)}
    unresolved = [
        _problem(pointer, "unresolved-reference", f"{digest[:16]}: {outcome[digest]}")
        for pointer, digest in listed
        if outcome[digest]
    ]
    findings = lint(manifest)
    inconsistent = [_problem(pointer, rule, value) for pointer, rule, value in _inconsistencies(manifest, name)]
    required = len(REQUIRED) + len(listed)
    absent = len(problems) + len(unresolved)
    problems += inconsistent + unresolved + [_lint_problem(finding) for finding in findings]
    common: dict[str, Any] = {
        "statistic": "share of required fields and references that are there and re-hash",
        "estimate": (required - absent) / required,
        "n": required,
        "n_required": len(REQUIRED) + 1,
        "threshold": 1.0,
        "check_version": CHECK_VERSION,
        "config": {"required": list(REQUIRED), "schema": SCHEMA},
        "tier": "rules",
        "evidence": problems[:MAX_EVIDENCE],
        "plot": _plot(len(REQUIRED), len(listed), problems),
        "details": {
            "closure": _name(manifest),
            "references": len(listed),
            "distinct_references": len(outcome),
            "problems": len(problems),
            "lint": len(findings),
        },
    }
    if problems:
        first = problems[0]
        return Verdict(
            decision=Decision.FAIL,
            summary=(
                f"{len(problems)} problem(s), first {first['rule']} at {first['field']} {first['value']!r}; "
                f"{required - absent} of {required} required items are there."
            ),
            remedy=first["remedy"],
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"All {len(REQUIRED)} required fields and {len(listed)} references are there and re-hash; the lint found nothing.",
        remedy="Nothing to do.",
        **common,
    )


def references(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(JSON pointer, digest) of everything the manifest refers to: values of ``sha256`` and ``snapshot`` that are hashes."""
    return [(pointer, value) for pointer, value in _hashes(manifest, "")]


def missing_fields(manifest: Mapping[str, Any]) -> list[str]:
    """Required fields that are absent, null or empty."""
    return [pointer for pointer in REQUIRED if _is_missing(pointer, _at(manifest, pointer))]


def store_resolver(store: Store, snapshot: str) -> Resolver:
    """Resolve digests in a store, starting from the adapter's snapshot and everything upstream of it.

    All bytes of the lineage are hashed again, past every cache, on the first look-up; other snapshots (eval sets that a check
    judged) when they are asked for.

    Raises:
        StoreUnavailable: from the resolver, if the store cannot be asked; that is no verdict on the closure.
    """
    verified: dict[str, str | None] = {}

    def resolve(digest: str) -> str | None:
        if not verified:
            _verify(store, snapshot, verified)
        if digest not in verified:
            _verify(store, digest, verified)
        return verified[digest]

    return resolve


def _verify(store: Store, start: str, verified: dict[str, str | None]) -> None:
    """Enter what is wrong with `start`, everything upstream of it and all of their files; None for what is right."""
    try:
        problems = store.verify(start)
    except NotMaterialized:
        verified[start] = "there are no bytes with this hash in the store"
        return
    except StoreUnavailable:
        raise
    except StoreError as error:
        verified[start] = error.message
        return
    damaged = {problem.blob: problem.message for problem in problems}
    owners = {problem.snapshot: problem.message for problem in problems}
    queue, seen = [start], {start}
    while queue:
        digest = queue.pop()
        verified[digest] = damaged.get(digest) or owners.get(digest)
        try:
            found = store.snapshot(digest)
        except StoreUnavailable:
            raise
        except StoreError as error:
            verified[digest] = error.message
            continue
        verified.update((file.sha256, damaged.get(file.sha256)) for file in found.files)
        fresh = [ref.snapshot for ref in found.inputs if ref.snapshot not in seen]
        seen.update(fresh)
        queue.extend(fresh)


def _inconsistencies(manifest: Mapping[str, Any], name: str | None) -> Iterator[tuple[str, str, str]]:
    """What the fields say against each other."""
    actual = _name(manifest)
    if actual is None:
        yield "", "not-canonical", "the manifest has no RFC 8785 form"
    elif name is not None and actual != name:
        yield "", "other-name", f"known as {name[:16]}, hashes to {actual[:16]}"
    if (schema := manifest.get("schema")) is not None and schema != SCHEMA:
        yield "/schema", "unknown-schema", str(schema)
    project = _at(manifest, "/code/project")
    if (
        isinstance(project, Mapping)
        and project.get("vcs") == "git"
        and (project.get("commit") is None or project.get("dirty") is None)
    ):
        yield "/code/project/commit", "missing-field", "a tracked project has a commit and a state"
    count = _at(manifest, "/rows/count")
    if isinstance(count, int) and count <= 0:
        yield "/rows/count", "no-rows", str(count)
    known = {(i.get("asset"), i.get("snapshot")) for i in _entries(_at(manifest, "/inputs"))}
    for pointer in ("/base_model", "/rows"):
        part = _at(manifest, pointer)
        if isinstance(part, Mapping) and part.get("snapshot") and (part.get("asset"), part.get("snapshot")) not in known:
            yield f"{pointer}/snapshot", "not-an-input", str(part.get("asset"))


_REMEDIES: Mapping[str, str] = {
    "missing-field": "Materialize the adapter again with the current version; it records every required field.",
    "unresolved-reference": "Restore the bytes from a backup, or materialize the asset they belong to again.",
    "not-canonical": "Materialize the adapter again; numbers must be finite and text valid Unicode.",
    "other-name": "The manifest was edited after it was named; materialize the adapter again.",
    "unknown-schema": "Use the version of ftplatform that wrote the closure.",
    "no-rows": "Train on rows.",
    "not-an-input": "Name the snapshot among the adapter's inputs.",
}


def _problem(pointer: str, rule: str, value: str) -> dict[str, str]:
    return {"field": pointer or "/", "rule": rule, "value": excerpt(value, 200), "remedy": _REMEDIES[rule]}


def _lint_problem(finding: Finding) -> dict[str, str]:
    return {"field": finding.path, "rule": finding.rule, "value": excerpt(finding.value, 200), "remedy": finding.remedy}


def _name(manifest: Mapping[str, Any]) -> str | None:
    try:
        return sha256_hex(canonical_json(dict(manifest)))
    except (ValueError, TypeError, RecursionError):
        return None


def _hashes(node: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            place = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if key in {"sha256", "snapshot"} and isinstance(value, str) and len(value) == 64:
                yield place, value
            else:
                yield from _hashes(value, place)
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for index, value in enumerate(node):
            yield from _hashes(value, f"{pointer}/{index}")


def _at(node: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return (
        [item for item in value if isinstance(item, Mapping)] if isinstance(value, Sequence) and not isinstance(value, str) else []
    )


def _is_missing(pointer: str, value: Any) -> bool:
    if value is None or value == "":
        return True
    return pointer not in _MAY_BE_EMPTY and isinstance(value, Mapping | list | tuple) and not value


def _plot(fields: int, listed: int, problems: Sequence[Mapping[str, str]]) -> str:
    from ftplatform.plots import bars

    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem["rule"]] = counts.get(problem["rule"], 0) + 1
    rows = [("required fields", float(fields)), ("references", float(listed))]
    rows += [(rule, float(count)) for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return bars(rows, title="Closure: what is required, and what is wrong", highlight=tuple(counts))
