"""A set written by a teacher: rows under the set's own name, and a quarantine of what the teacher said that is no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ftplatform.rows.quarantine import QUARANTINE_SCHEMA, raw_excerpt
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.synthesis.teachers.interface import Refused, Teacher, TeacherError, Unusable

_EXCERPT = 2000
_MEANING = {
    Unusable.EMPTY: "the teacher said nothing",
    Unusable.TOO_LONG: "longer than any message a user would type",
    Unusable.COPIED: "a copy of an input the teacher was shown",
    Unusable.REPEATED: "written before",
    Unusable.UNANSWERED: "an input without an answer",
}


@dataclass(frozen=True, slots=True)
class Generated:
    """What a teacher wrote.

    Attributes:
        rows: `ROW_SCHEMA`; `source` and `origins` name the set, `parents` the teacher, the sources of its seeds and the seed rows.
        quarantine: `QUARANTINE_SCHEMA`.
        counts: read (all that was said), kept, quarantined, by_reason, and wanted.
    """

    rows: pa.Table
    quarantine: pa.Table
    counts: Mapping[str, Any]


def generate(teacher: Teacher, seeds: pa.Table, n: int, seed: int, *, asset: str) -> Generated:
    """`n` rows of `teacher` as the set `asset`; fewer where it said nothing usable.

    Args:
        seeds: rows the teacher may show itself.
        seed: of everything that is drawn; equal arguments give equal rows.

    Raises:
        TeacherError: if nothing usable was written; whatever the teacher raises.
    """
    refused: list[Refused] = []
    rows = under_name(teacher.write(seeds, n, seed, refused=refused), asset)
    if n and not rows.num_rows:
        raise TeacherError(f"The teacher {teacher.identity.id!r} wrote no usable row.", remedy="Correct its prompt or grammar.")
    by_reason = dict(sorted(Counter(str(r.reason) for r in refused).items()))
    counts = {
        "read": rows.num_rows + len(refused),
        "kept": rows.num_rows,
        "quarantined": len(refused),
        "by_reason": by_reason,
        "wanted": n,
    }
    return Generated(rows, _quarantine(refused, asset, teacher.identity.parent), counts)


def under_name(rows: pa.Table, asset: str) -> pa.Table:
    """`rows` with the set as their source and only origin, as rows read from a file have it."""
    constant = {"source": pa.repeat(pa.scalar(asset), rows.num_rows), "origins": _lists_of(asset, rows.num_rows)}
    return pa.table({name: constant.get(name, rows[name]) for name in ROW_SCHEMA.names}, schema=ROW_SCHEMA)


def _lists_of(text: str, n: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(range(n + 1), pa.int32()), pa.repeat(pa.scalar(text), n))


def _quarantine(refused: list[Refused], asset: str, teacher: str) -> pa.Table:
    columns = {
        "source": [asset] * len(refused),
        "file": [teacher] * len(refused),
        "position": range(1, len(refused) + 1),
        "reason": [str(r.reason) for r in refused],
        "message": [_MEANING[r.reason] for r in refused],
        "excerpt": [raw_excerpt(r.text, _EXCERPT) for r in refused],
    }
    return pa.table(
        {name: pa.array(columns[name], QUARANTINE_SCHEMA.field(name).type) for name in columns}, schema=QUARANTINE_SCHEMA
    )
