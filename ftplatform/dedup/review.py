"""People read what was removed: a stratified sample of the removal diff, and the record that somebody judged it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.dedup.diff import EXACT_COPY
from ftplatform.errors import InputDataError

#: Removed pairs to read in all, and of every small slice (or all it has).
SAMPLE = 50
PER_SMALL_SLICE = 5
#: A slice that lost at most this many rows is small: a sample of all removals would hardly meet it.
SMALL_SLICE = 20
_DIGEST_ROWS = 1 << 16
_VERSION = 1
_MAX_NOTE = 2000


class Judgment(StrEnum):
    """What a reader says of one removed row."""

    DUPLICATE = "duplicate"
    """The kept row says all it said."""
    KEEP = "keep"
    """It should have been kept."""
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class SignOff:
    """One person's reading of a sample of one removal diff. Append-only: a second opinion is a second record.

    Attributes:
        reviewer: who read it; a name or account, never empty.
        signed_at: when, with a time zone.
        diff_digest: of the diff that was read (`diff_digest`).
        threshold: similarity threshold that made it.
        judgments: (row_id, kept_row_id) to verdict, for every pair of the sample.
        slices: the slices that had lost rows when it was read.
        removed: near-duplicates removed then.
        note: free text.
    """

    reviewer: str
    signed_at: datetime
    diff_digest: str
    threshold: float
    judgments: Mapping[tuple[str, str], Judgment]
    slices: frozenset[str]
    removed: int
    note: str = ""

    def __post_init__(self) -> None:
        if not self.reviewer.strip():
            raise InputDataError("a sign-off has no reviewer.", remedy="Name the person who read the pairs.")
        if self.signed_at.tzinfo is None:
            raise InputDataError(f"the sign-off of {self.reviewer} has no time zone.", remedy="Give the time in UTC.")
        if len(self.note) > _MAX_NOTE:
            raise InputDataError(f"the note of {self.reviewer} has {len(self.note)} characters.", remedy=f"Keep to {_MAX_NOTE}.")

    def count(self, judgment: Judgment) -> int:
        """Pairs with this verdict."""
        return sum(value is judgment for value in self.judgments.values())

    def to_record(self) -> dict[str, Any]:
        """A JSON document: the same sign-off gives the same document."""
        return {
            "version": _VERSION,
            "reviewer": self.reviewer,
            "signed_at": self.signed_at.astimezone(UTC).isoformat(),
            "diff_digest": self.diff_digest,
            "threshold": self.threshold,
            "judgments": [
                {"row_id": row_id, "kept_row_id": kept, "judgment": str(value)}
                for (row_id, kept), value in sorted(self.judgments.items())
            ],
            "slices": sorted(self.slices),
            "removed": self.removed,
            "note": self.note,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `to_record`.

        Raises:
            InputDataError: a field is missing or has another type, or the version is not known.
        """
        try:
            if record["version"] != _VERSION:
                raise ValueError(f"version {record['version']!r} is not {_VERSION}")
            judgments = {(str(j["row_id"]), str(j["kept_row_id"])): Judgment(j["judgment"]) for j in record["judgments"]}
            if len(judgments) != len(record["judgments"]):
                raise ValueError("a pair is judged twice")
            return cls(
                reviewer=str(record["reviewer"]),
                signed_at=datetime.fromisoformat(record["signed_at"]),
                diff_digest=str(record["diff_digest"]),
                threshold=float(record["threshold"]),
                judgments=judgments,
                slices=frozenset(str(name) for name in record["slices"]),
                removed=int(record["removed"]),
                note=str(record["note"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputDataError(
                f"this is not a sign-off of a removal diff: {error}.", remedy="Write it with SignOff.to_record."
            ) from error


def reviewable(removal_diff: pa.Table) -> pa.Table:
    """The removals a person must look at: all but exact copies."""
    return removal_diff.filter(pc.not_equal(removal_diff["reason"], EXACT_COPY))


def diff_digest(removal_diff: pa.Table) -> str:
    """SHA-256 (hex) of which rows left, why, and in favor of which, whatever their order."""
    columns = {name: removal_diff[name] for name in ("row_id", "kept_row_id", "reason")}
    lines = pl.DataFrame(columns).select(pl.concat_str("row_id", "kept_row_id", "reason", separator="\x1f")).to_series().sort()
    hashed = hashlib.sha256()
    for start in range(0, len(lines), _DIGEST_ROWS):
        hashed.update(("\n".join(lines.slice(start, _DIGEST_ROWS).to_list()) + "\n").encode())
    return hashed.hexdigest()


def review_sample(
    removal_diff: pa.Table, *, size: int = SAMPLE, per_slice: int = PER_SMALL_SLICE, small_slice: int = SMALL_SLICE
) -> pa.Table:
    """The pairs to read: `size` of all removals, and at least `per_slice` of every slice that lost at most `small_slice` rows.

    The same diff gives the same sample: pairs are taken in the order of their row ids, which are hashes and thus in no order that
    content could choose. Exact copies need no reading.

    Returns:
        Rows of the diff (`diff.REMOVAL_SCHEMA`), in that order; all of it where it has fewer than `size`.
    """
    pairs = reviewable(removal_diff)
    frame = pl.DataFrame({"row_id": pairs["row_id"], "kept_row_id": pairs["kept_row_id"], "slice": pl.Series(pairs["slices"])})
    ordered = frame.with_row_index("at").sort("row_id", "kept_row_id")
    small = (
        ordered.explode("slice")
        .drop_nulls("slice")
        .with_columns(lost=pl.len().over("slice"), place=pl.int_range(pl.len()).over("slice"))
        .filter((pl.col("lost") <= small_slice) & (pl.col("place") < per_slice))
    )
    chosen = small["at"].unique()
    # Pairs read for a slice count towards the whole.
    rest = ordered.filter(~pl.col("at").is_in(chosen.implode())).head(max(0, size - len(chosen)))
    taken = ordered.filter(pl.col("at").is_in(pl.concat([chosen, rest["at"]]).implode()))
    return pairs.take(taken["at"].to_arrow())


def sign_off(
    removal_diff: pa.Table,
    judgments: Mapping[tuple[str, str], Judgment],
    *,
    reviewer: str,
    signed_at: datetime,
    threshold: float,
    note: str = "",
    sample: pa.Table | None = None,
) -> SignOff:
    """The record of one reading.

    Args:
        removal_diff: the whole diff.
        judgments: of every pair (row_id, kept_row_id) of the sample; further pairs may be judged as well.
        sample: what was to be read, `review_sample` by default.

    Raises:
        InputDataError: a pair of the sample is not judged, or a judged pair is not in the diff.
    """
    pairs = reviewable(removal_diff)
    known, wanted = _pairs(pairs), _pairs(review_sample(removal_diff) if sample is None else sample)
    for missing, said in ((wanted - judgments.keys(), "not judged"), (judgments.keys() - known, "judged and not in the diff")):
        if missing:
            raise InputDataError(
                f"{len(missing)} pairs are {said}, such as row {min(missing)[0]}.", remedy="Judge every pair of the review sample."
            )
    slices = pl.Series(pairs["slices"]).explode().drop_nulls().unique().to_list()
    return SignOff(
        reviewer, signed_at, diff_digest(removal_diff), threshold, dict(judgments), frozenset(slices), pairs.num_rows, note
    )


def covers(signed: SignOff, sample: pa.Table) -> bool:
    """Whether every pair of the sample was judged."""
    return _pairs(sample) <= signed.judgments.keys()


def slices_of(removal_diff: pa.Table) -> set[str]:
    """Slices that lost rows a person must look at."""
    return set(pl.Series(reviewable(removal_diff)["slices"]).explode().drop_nulls().to_list())


def _pairs(pairs: pa.Table) -> set[tuple[str, str]]:
    return set(zip(pairs["row_id"].to_pylist(), pairs["kept_row_id"].to_pylist(), strict=True))
