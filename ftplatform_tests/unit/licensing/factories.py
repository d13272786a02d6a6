"""Small builders for license tests."""

from __future__ import annotations

import pyarrow as pa

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.evidence import read_evidence
from ftplatform.licensing.terms import Kind, SourceTerms

PROVENANCE = pa.schema([("row_id", pa.string()), ("origins", pa.list_(pa.string())), ("parents", pa.list_(pa.string()))])


def row_id(number: int) -> str:
    return sha256_hex(str(number).encode())


def rows(*groups: tuple[int, list[str], list[str]], start: int = 0) -> pa.Table:
    """A table with `count` rows for each (count, origins, parents)."""
    listed = []
    for count, origins, parents in groups:
        first = start + len(listed)
        listed.extend({"row_id": row_id(first + i), "origins": origins, "parents": parents} for i in range(count))
    return pa.Table.from_pylist(listed, schema=PROVENANCE)


def known(name: str, license: str, *, kind: Kind = Kind.SOURCE, text: str = "The terms, as read.", **more: object) -> SourceTerms:
    """Terms with a conclusion and neutral evidence."""
    return SourceTerms(
        name=name,
        kind=kind,
        declared=license,
        concluded=license,
        concluded_by="counsel",
        evidence=(read_evidence(f"licenses/{name}.txt", text.encode()),),
        **more,  # type: ignore[arg-type]
    )
