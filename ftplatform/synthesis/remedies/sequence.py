"""Remedies one after the other, each on what the one before left, recorded step by step.

Style and slips change the rows of the set only: real rows that a mix put in stay as people typed them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import ROW_SCHEMA, Surface
from ftplatform.rows.turns import turns
from ftplatform.synthesis.remedies.resample import mix
from ftplatform.synthesis.remedies.slips import SLIPS_VERSION, slip
from ftplatform.synthesis.remedies.style import STYLE_VERSION, condition_style

SEQUENCE_VERSION = f"1/{STYLE_VERSION}/{SLIPS_VERSION}"

#: Key of a changed row's metadata: the id it had when it was written.
WRITTEN_AS = "written_as"
#: Writes that many new rows from real seeds, with a seed of its own for what is drawn.
WriteAgain = Callable[[int, int], pa.Table]


class RemedyKind(StrEnum):
    """What is done."""

    STYLE = "style"
    RESAMPLE = "resample"
    MIX = "mix"
    SLIPS = "slips"


@dataclass(frozen=True, slots=True)
class RemedyStep:
    """One remedy: which, for what share of the rows (user turns for slips; None for style, which has none), and its seed."""

    kind: RemedyKind
    share: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Applied:
    """The rows after all steps, and a record of each: the step, rows then, and rows that were not there before it."""

    rows: pa.Table
    steps: Sequence[dict[str, Any]]


def apply_remedies(
    candidate: pa.Table, learn: pa.Table, steps: Sequence[RemedyStep], *, write_again: WriteAgain | None = None
) -> Applied:
    """Apply `steps` in order.

    Args:
        candidate: rows of the synthetic set.
        learn: real rows to learn from and to mix in; measure the result on others. Only those with a trainable turn are mixed into a
            set that has them.
        write_again: the teacher of the set, for `resample`.

    Raises:
        InputDataError: too few real rows for a share, or nobody to write again.
    """
    rows, records = candidate, []
    for step in steps:
        before = pc.unique(rows["row_id"])
        rows = _applied(rows, learn, step, write_again)
        new = rows.num_rows - (pc.sum(pc.is_in(rows["row_id"], value_set=before)).as_py() or 0)
        records.append({**asdict(step), "kind": str(step.kind), "rows": rows.num_rows, "new": new})
    return Applied(rows, records)


def without_origins_of(written: pa.Table, applied: pa.Table, kept: pa.Table) -> pa.Table:
    """`written` without the rows whose form after the remedies is in `applied` and not in `kept`."""
    gone = applied.filter(pc.invert(pc.is_in(applied["row_id"], value_set=kept["row_id"].combine_chunks())))
    if not gone.num_rows:
        return written
    before = [
        orjson.loads(meta).get(WRITTEN_AS, id_)
        for meta, id_ in zip(*(gone[c].to_pylist() for c in ("meta", "row_id")), strict=True)
    ]
    return written.filter(pc.invert(pc.is_in(written["row_id"], value_set=pa.array(before, pa.string()))))


def _applied(rows: pa.Table, learn: pa.Table, step: RemedyStep, write_again: WriteAgain | None) -> pa.Table:
    share = step.share or 0.0
    match step.kind:
        case RemedyKind.STYLE:
            return _in_place(rows, lambda own: condition_style(own, learn, step.seed))
        case RemedyKind.SLIPS:
            return _in_place(rows, lambda own: slip(own, share, step.seed))
        case RemedyKind.MIX:
            return mix(rows, _trainable(learn) if _trainable(rows).num_rows else learn, share, step.seed)
        case RemedyKind.RESAMPLE:
            if write_again is None:
                raise InputDataError("A recorded set has nobody to write again.", remedy="Leave out 'resample', or use 'mix'.")
            n = rows.num_rows
            new = write_again(round(share * n), step.seed)
            kept = np.sort(np.random.default_rng(step.seed).permutation(n)[: n - new.num_rows])
            return pa.concat_tables([rows.take(pa.array(kept)), new])


def _in_place(rows: pa.Table, change: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """`rows` with those of the set changed, in their places; real rows are left alone."""
    own = pc.equal(rows["surface"], str(Surface.SYNTHETIC)).to_numpy(zero_copy_only=False)
    places = np.concatenate([np.flatnonzero(own), np.flatnonzero(~own)])
    before = rows.filter(pa.array(own))
    changed = pa.concat_tables([_traced(before, change(before)), rows.filter(pa.array(~own))])
    return changed.take(pa.array(np.argsort(places)))


def _traced(before: pa.Table, after: pa.Table) -> pa.Table:
    """`after` with the parents of `before`, and the id of the row as the teacher wrote it in the metadata of changed rows.

    Parents are rows that somebody else can find, to learn their terms or to withdraw them; a row that never left the set is none.
    """
    meta, old = after["meta"].to_pylist(), before["row_id"].to_pylist()
    for row in np.flatnonzero(pc.not_equal(before["row_id"], after["row_id"]).to_numpy()):
        meta[row] = orjson.dumps({WRITTEN_AS: old[row]} | orjson.loads(meta[row])).decode()
    named = {"parents": before["parents"], "meta": pa.array(meta, pa.string())}
    return pa.table({name: named.get(name, after[name]) for name in ROW_SCHEMA.names}, schema=ROW_SCHEMA)


def _trainable(rows: pa.Table) -> pa.Table:
    """Rows with a turn whose loss is taken."""
    return rows.take(pc.unique(turns(rows, trainable_only=True)["row"]))
