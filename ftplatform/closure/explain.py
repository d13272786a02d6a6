"""Closures for people: what an adapter is made of, and what a difference between two of them means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ftplatform.closure.contents import ROWS_FILE
from ftplatform.closure.diff import Change, diff
from ftplatform.closure.finding import Found
from ftplatform.closure.lint import lint
from ftplatform.errors import StoreError
from ftplatform.store import Store
from ftplatform.store.names import blob_key

#: What a difference in a part of the closure means, by the first part of its path; in the order in which to look.
MEANINGS: Mapping[str, str] = {
    "schema": "Written by versions that record other things.",
    "kind": "Not the same kind of thing.",
    "asset": "Another adapter, or another name for it.",
    "base_model": "Another base: other tokens, other template, other behavior to keep. Compare as a migration, not as a repetition.",
    "rows": "Other training rows, or the same in another order: other weights either way.",
    "inputs": "Something upstream was built anew; the rows may be the same all the same.",
    "hyperparameters": "Another recipe: other weights by intention.",
    "seeds": "A replicate: other weights, and scores that scatter around the same mean.",
    "shards": "Sources were dealt to other shards, or a shard was trained again.",
    "code": "Other code of this platform, or another project file.",
    "environment": "Other packages: kernels may round differently, and tokenizers may split differently.",
    "runtime": "Another machine or other switches: last bits differ, behavior should not.",
    "licenses": "Decided under another policy, ledger or use; the weights do not depend on it.",
    "checks": "Other evidence at the gate; the weights do not depend on it.",
    "waivers": "Other exceptions were signed for; the weights do not depend on it.",
    "human_steps": "People did other things by hand.",
    "subject": "Other weights: the result, not a cause.",
}

_SHA256 = r"\A[0-9a-f]{64}\z"
_MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class RowChanges:
    """How two sequences of rows differ: counts of rows that only one has, and of common rows at another place among the common ones."""

    added: int
    removed: int
    moved: int
    common: int


def grouped(changes: Sequence[Change]) -> list[tuple[str, str, list[Change]]]:
    """(part, meaning, changes) for every part of the closure that differs, causes first and the result last."""
    parts: dict[str, list[Change]] = {}
    for change in changes:
        parts.setdefault(change.path.split("/")[1], []).append(change)
    known = [part for part in MEANINGS if part in parts]
    return [
        (part, MEANINGS.get(part, "A part this version does not know."), parts[part]) for part in dict.fromkeys([*known, *parts])
    ]


def difference(before: Found, after: Found) -> list[Change]:
    """All fields in which two closures differ, by path."""
    return diff(before.manifest, after.manifest)


def row_order(found: Found, store: Store) -> list[str] | None:
    """Ids of the rows a closure was trained on, in their order; None if the store does not have the list."""
    named = found.manifest.get("rows", {}).get("order", {}).get("sha256")
    try:
        stored = store.backend.get(blob_key(named))
    except StoreError:
        return None
    return stored.data.decode().split() if stored is not None else None


def row_changes(before: Sequence[str], after: Sequence[str]) -> RowChanges:
    """Compare two sequences of row ids; a row that stands there twice is two rows."""
    left, right = _numbered(before, "before"), _numbered(after, "after")
    common = left.join(right, on=["row", "copy"])
    ranks = common.select(pl.col("before").rank("ordinal"), pl.col("after").rank("ordinal"))
    moved = int((ranks["before"] != ranks["after"]).sum())
    return RowChanges(len(after) - common.height, len(before) - common.height, moved, common.height)


def composition(found: Found) -> dict[str, Any]:
    """What an adapter is made of, short enough to read: part by part, with hashes cut to 12 digits and lists counted."""
    m = found.manifest
    base, rows, code, licenses = (m.get(part, {}) for part in ("base_model", "rows", "code", "licenses"))
    environment, runtime = m.get("environment", {}), m.get("runtime", {})
    package, project = code.get("package", {}), code.get("project", {})
    made: dict[str, Any] = {
        "closure": found.digest,
        "adapter": found.origin,
        "rows": {
            "from": _reference(rows),
            "count": rows.get("count"),
            "order": _short(rows.get("order", {}).get("sha256")),
            **_teachers(found),
        },
        "inputs": [f"{i.get('role')}: {_reference(i)}" for i in m.get("inputs", [])],
        "base model": {
            "from": _reference(base),
            "hub": f"{base['hub']}@{_short(base.get('revision'))}" if base.get("hub") else None,
            "files": len(base.get("files", [])),
            "chat template": _short(base.get("chat_template", {}).get("sha256")),
        },
        "code": {
            "package": f"{package.get('name')} {package.get('version')}, tree {_short(package.get('tree', {}).get('digest'))}",
            "project": f"{project.get('vcs')} {_short(project.get('commit'))}{' (dirty)' if project.get('dirty') else ''}".strip(),
        },
        "environment": {
            "python": environment.get("python"),
            "packages": len(environment.get("packages", {})),
            "lock": _short(environment.get("lock", {}).get("sha256")),
            "not from an index": [d.get("name") for d in environment.get("direct", [])],
        },
        "runtime": {k: runtime.get(k) for k in ("capability_class", "device", "dtype", "threads", "deterministic", "variables")},
        "hyperparameters": m.get("hyperparameters", {}),
        "seeds": m.get("seeds", {}),
        "shards": sorted(m.get("shards", {}).get("members", {})),
        "licenses": {
            "policy": f"{licenses.get('policy', {}).get('name')} {licenses.get('policy', {}).get('version')}",
            "ledger": _reference(licenses.get("ledger", {})),
            "uses": licenses.get("uses", []),
        },
        "checks": [f"{c.get('asset')}: {c.get('check')} {c.get('version')}, {c.get('decision')}" for c in m.get("checks", [])],
        "waivers": [f"{w.get('asset')}: {w.get('check')}, signed by {w.get('by')}" for w in m.get("waivers", [])],
        "human steps": [s.get("what") for s in m.get("human_steps", [])],
        "findings": [f"{f.path}: {f.rule} {f.value}" for f in lint(m)],
    }
    return {part: value for part, value in made.items() if value not in (None, [], {})}


def _teachers(found: Found) -> dict[str, Any]:
    """Models that rows were derived from: a row names them among its parents, beside rows."""
    if found.snapshot is None or "parents" not in found.snapshot.read_schema(ROWS_FILE).names:
        return {}
    parents = pl.Series(found.snapshot.read_table(ROWS_FILE, ["parents"])["parents"]).explode().drop_nulls().cast(pl.String)
    named = parents.filter(~parents.str.contains(_SHA256)).unique().sort()
    return {"teachers": named.head(_MAX_NAMED).to_list()} if len(named) else {}


def _numbered(ids: Sequence[str], place: str) -> pl.DataFrame:
    frame = pl.DataFrame({"row": ids}, schema={"row": pl.String}).with_row_index(place)
    return frame.with_columns(copy=pl.col("row").cum_count().over("row"))


def _reference(part: Mapping[str, Any]) -> str:
    return f"{part.get('asset')}@{_short(part.get('snapshot'))}"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{13,}", value) else str(value or "")
