"""The license ledger, first form: what is known about all terms now, as one table.

Each snapshot of the `license_ledger` asset is such a table; the sequence of snapshots is the history so far. The bitemporal ledger
replaces the writer, not the columns: it adds the two clocks, the remaining states, and notices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from ftplatform.canonical import canonical_json, digest
from ftplatform.licensing.policy import Policy
from ftplatform.licensing.rights import USES
from ftplatform.licensing.terms import Assessment, SourceTerms, assess

#: `rights` is a JSON object: use -> {"level", "alternatives"}; `problems` and `derived_from` are lists. `license` is for people.
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("known", pa.bool_(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("declared_raw", pa.string()),
        pa.field("declared", pa.string()),
        pa.field("concluded", pa.string()),
        pa.field("concluded_by", pa.string()),
        pa.field("evidence_path", pa.list_(pa.string()), nullable=False),
        pa.field("evidence_sha256", pa.list_(pa.string()), nullable=False),
        pa.field("evidence_text", pa.list_(pa.string()), nullable=False),
        pa.field("derived_from", pa.list_(pa.string()), nullable=False),
        pa.field("rights", pa.string(), nullable=False),
        pa.field("problems", pa.list_(pa.string()), nullable=False),
        pa.field("terms", pa.string(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
    ]
)


def ledger_table(terms: Iterable[SourceTerms], policy: Policy) -> pa.Table:
    """One row per source, model and teacher, sorted by kind and name.

    Raises:
        ValueError: if two different terms have the same kind and name.
    """
    rows: dict[tuple[str, str], tuple[SourceTerms, dict[str, Any]]] = {}
    for item in terms:
        key = (str(item.kind), item.name)
        if key in rows and rows[key][0] != item:
            raise ValueError(f"two different terms of the {item.kind} {item.name!r}")
        rows[key] = (item, _row(assess(item, policy), policy))
    return pa.Table.from_pylist([rows[key][1] for key in sorted(rows)], schema=LEDGER_SCHEMA)


def ledger_digest(ledger: pa.Table) -> str:
    """SHA-256 of the ledger's content; the order of its rows does not count.

    Evidence counts by its words (`evidence_text`), its bytes do not: a new copyright year is no change of terms.
    """
    columns = [name for name in LEDGER_SCHEMA.names if name != "evidence_sha256"]
    rows = ledger.select(columns).to_pylist()
    return digest(sorted(rows, key=lambda row: (row["kind"], row["source"])))


def rights_column(ledger: pa.Table) -> list[dict[str, Any]]:
    """For previews: source, license, status and the level of each use, per row."""
    return [
        {"source": row["source"], "kind": row["kind"], "license": row["license"], "status": row["status"]}
        | _levels(json.loads(row["rights"]))
        for row in ledger.to_pylist()
    ]


def _levels(rights: Mapping[str, Any]) -> dict[str, str]:
    return {str(use): rights[use]["level"] for use in USES}


def _row(found: Assessment, policy: Policy) -> dict[str, Any]:
    terms = found.terms
    evidence = sorted(terms.evidence, key=lambda e: (e.path, e.sha256))
    return {
        "source": terms.name,
        "kind": str(terms.kind),
        "status": str(found.status),
        "known": found.known,
        "license": found.license,
        "declared_raw": found.declared.raw,
        "declared": found.declared.expression,
        "concluded": found.concluded.expression,
        "concluded_by": terms.concluded_by,
        "evidence_path": [e.path for e in evidence],
        "evidence_sha256": [e.sha256 for e in evidence],
        "evidence_text": [e.identity for e in evidence],
        "derived_from": sorted(terms.derived_from),
        "rights": canonical_json(found.rights.to_json()).decode(),
        "problems": list(found.problems),
        "terms": terms.digest,
        "policy": policy.digest,
    }
