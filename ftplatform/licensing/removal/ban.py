"""What may no longer be in a model, and how far that reaches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import polars as pl

from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import InputDataError

_SHA256 = r"^[0-9a-f]{64}$"


class Reach(StrEnum):
    """What a notice takes away."""

    GRANT = "grant"
    """The grant of a source ended (relicensed, deleted, rows withdrawn by an opt-out). Independent origins are alternatives, so a
    row that also came from elsewhere stays."""
    CONTENT = "content"
    """Somebody claims the words. Every copy falls, wherever it came from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ban:
    """Rows, sources and models that a notice bans. Two bans are the same if their `digest` is.

    Attributes:
        notice: id of the notice.
        reach: see `Reach`.
        names: sources and teachers as rows carry them in `origins` and `parents`.
        row_ids: with `CONTENT`, rows that fall besides those of `names`; with `GRANT`, the only rows of `names` that lose it.
        artifacts: snapshots that may not be an ancestor.
        originals: sources whose own rows have no parents. With `GRANT`, parents found on a row that one of them also holds were
            merged in from another origin and do not bind the row. Leaving a source out is the safe assumption.
        cleared: rows that resemble banned ones and that a person looked at and kept.
        claim: digest of the claim it came from (`claim.Claimed`); None if it bans no words.

    Raises:
        InputDataError: on an id that is no SHA-256, on a ban of nothing (it would pass everything), on withdrawn rows of no source,
            and on a claim of words under `GRANT`.
    """

    notice: str
    reach: Reach
    names: frozenset[str] = frozenset()
    row_ids: pl.Series = field(default_factory=lambda: hashes((), "row id"))
    artifacts: frozenset[str] = frozenset()
    originals: frozenset[str] = frozenset()
    cleared: frozenset[str] = frozenset()
    claim: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reach", Reach(self.reach))
        object.__setattr__(self, "row_ids", hashes(self.row_ids, "row id"))
        if not (self.names or len(self.row_ids) or self.artifacts or self.claim):
            raise InputDataError(f"notice {self.notice} bans nothing.", remedy="Name sources, rows, models or texts.")
        if self.reach is Reach.GRANT and len(self.row_ids) and not self.names:
            raise InputDataError(
                f"notice {self.notice} withdraws rows of no source.", remedy="Name the source, or ban the rows by content."
            )
        if self.reach is Reach.GRANT and self.claim is not None:
            raise InputDataError(f"notice {self.notice} claims words and ends a grant.", remedy="Write two bans.")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, object]:
        """JSON-able form; rows by count and by the SHA-256 of their sorted ids, one per line."""
        return {
            "notice": self.notice,
            "reach": str(self.reach),
            "names": sorted(self.names),
            "rows": len(self.row_ids),
            "rows_sha256": lines_sha256(self.row_ids),
            "artifacts": sorted(self.artifacts),
            "originals": sorted(self.originals),
            "cleared": len(self.cleared),
            "cleared_sha256": lines_sha256(pl.Series(sorted(self.cleared), dtype=pl.String)),
            "claim": self.claim,
        }


def hashes(values: Iterable[str] | pl.Series, what: str) -> pl.Series:
    """SHA-256s as a sorted string series without repeats.

    Raises:
        InputDataError: on a value that is not 64 lower-case hexadecimal digits. It would match nothing, silently.
    """
    series = (values if isinstance(values, pl.Series) else pl.Series(list(values), dtype=pl.String)).unique().sort()
    wrong = series.filter(~series.str.contains(_SHA256).fill_null(False))
    if len(wrong):
        raise InputDataError(f"{wrong[0]!r} is no {what}.", remedy="Give SHA-256s as 64 lower-case hexadecimal digits.")
    return series


def lines_sha256(sorted_lines: pl.Series) -> str:
    """SHA-256 of the values joined by line breaks; they must hold none."""
    return sha256_hex("\n".join(sorted_lines.to_list()).encode())
