"""Which of our rows are what a notice claims: by place, by row id, by words, and nearly by words.

Near duplicates are found by a function the caller passes in. A row at `certain` similarity falls by default; one between `candidate`
and `certain` is listed for a person, and so is an equal text too short to be anybody's.

A claimed text that stands inside a much longer one is found only if it is a message of its own; containment is not searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.removal.ban import Ban, Reach, hashes
from ftplatform.licensing.removal.claim import Claimed, unit_texts
from ftplatform.licensing.removal.closure import RowSet
from ftplatform.progress import advance

#: Why a row matches, the strongest reason first; a row gets one.
REASONS = ("source", "row_id", "text", "near")
BANNED, CANDIDATE = "banned", "candidate"

_SCHEMA = {
    "asset": pl.String,
    "row_id": pl.String,
    "reason": pl.String,
    "similarity": pl.Float64,
    "claimed": pl.String,
    "decision": pl.String,
}


class SimilarTexts(Protocol):
    """Finds near duplicates between two lists of texts."""

    def __call__(
        self, claimed: pl.Series, texts: pl.Series, threshold: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Pairs (position in `claimed`, position in `texts`, similarity) with similarity from `threshold` to 1.

        Each text needs its most similar claimed text only. It is called once per chunk of rows, with the same `claimed`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What counts as the same words.

    Attributes:
        certain: similarity from which a row is banned.
        candidate: similarity from which it is listed.
        min_words: shorter texts are nobody's: equal ones are listed if they are whole rows or were claimed outright, and near ones are
            not looked for.

    Raises:
        ValueError: unless 0 < candidate <= certain <= 1.
    """

    certain: float = 0.9
    candidate: float = 0.5
    min_words: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.candidate <= self.certain <= 1:
            raise ValueError(f"thresholds out of order: candidate {self.candidate}, certain {self.certain}")

    def to_json(self) -> dict[str, Any]:
        """The three numbers."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Matches:
    """Rows that match a claim.

    Attributes:
        table: `asset`, `row_id`, `reason` (see `REASONS`), `similarity` (1 if equal), `claimed` (id of the claimed row, ``text 1``, a
            hash, or the source), `decision` (``banned`` or ``candidate``); one line per asset and row.
        scanned: rows looked at, by asset.
        near: whether near duplicates were looked for.
    """

    table: pl.DataFrame
    scanned: Mapping[str, int]
    near: bool

    @property
    def banned(self) -> pl.Series:
        """Ids of the rows that fall, sorted."""
        return hashes(self.table.filter(pl.col("decision") == BANNED)["row_id"], "row id")

    def counts(self) -> list[dict[str, Any]]:
        """Rows per asset, reason and decision."""
        groups = self.table.group_by("asset", "decision", "reason").agg(pl.len().alias("rows"))
        return groups.sort("asset", "decision", "reason").to_dicts()

    def ban(self, notice: str, claimed: Claimed, *, cleared: Iterable[str] = ()) -> Ban:
        """The ban by content that follows: claimed rows, banned matches, and everything from claimed sources.

        Args:
            cleared: near matches that a person looked at and keeps.
        """
        kept = frozenset(cleared)
        spared = (pl.col("reason") == "near") & pl.col("row_id").is_in(list(kept))
        rows = self.table.filter((pl.col("decision") == BANNED) & ~spared)["row_id"]
        return Ban(
            notice=notice,
            reach=Reach.CONTENT,
            names=frozenset(claimed.names),
            row_ids=pl.concat([claimed.row_ids, rows]),
            cleared=kept,
            claim=claimed.digest,
        )


def find(
    claimed: Claimed, row_sets: Iterable[RowSet], *, near: SimilarTexts | None = None, thresholds: Thresholds | None = None
) -> Matches:
    """Look for claimed rows in row sets, chunk by chunk.

    Args:
        near: finds near duplicates; without it only equal rows and texts are found, and the result says so.

    Raises:
        InputDataError: if a row set lacks a column. CorruptArtifact: if a file is damaged.
    """
    search = _Search(claimed, near, thresholds or Thresholds())
    parts: list[pl.DataFrame] = [pl.DataFrame(schema=_SCHEMA)]
    scanned: dict[str, int] = {}
    for rows in row_sets:
        scanned.setdefault(rows.name, 0)
        for table in rows.tables(search.columns):
            parts.append(search.matches(rows.name, table))
            scanned[rows.name] += table.num_rows
            advance(f"match {rows.name}", scanned[rows.name])
    return Matches(_strongest(pl.concat(parts)), scanned, near is not None)


class _Search:
    """One claim, prepared: which columns it needs, and the matches of a table."""

    def __init__(self, claimed: Claimed, near: SimilarTexts | None, thresholds: Thresholds) -> None:
        self.claimed, self.near, self.thresholds = claimed, near, thresholds
        self.long = claimed.texts.filter(pl.col("words") >= thresholds.min_words)
        self.by_words = bool(claimed.texts.height or len(claimed.text_hashes))
        self.columns = ["row_id", "origins", *(["messages"] if self.by_words else [])]

    def matches(self, asset: str, table: pa.Table) -> pl.DataFrame:
        frame = pl.DataFrame(pl.from_arrow(table.select(["row_id", "origins"])))
        parts = [*self._named(frame), *(self._worded(table) if self.by_words else ())]
        return pl.concat([part.with_columns(asset=pl.lit(asset)).select(list(_SCHEMA)) for part in parts])

    def _named(self, frame: pl.DataFrame) -> Iterable[pl.DataFrame]:
        sources = frame.select("row_id", claimed=pl.col("origins").list.set_intersection(list(self.claimed.names)).list.first())
        yield sources.filter(pl.col("claimed").is_not_null()).with_columns(*_labels("source", BANNED))
        ids = self.claimed.row_ids.alias("row_id").to_frame()
        yield frame.select("row_id").join(ids, on="row_id", how="semi").with_columns(*_labels("row_id", BANNED), claimed="row_id")

    def _worded(self, table: pa.Table) -> Iterable[pl.DataFrame]:
        units = unit_texts(table, system=True)
        equal = units.join(self.claimed.texts.select("text", "claimed", of="span"), on="text", how="inner")
        long = pl.col("words") >= self.thresholds.min_words
        telling = long | (pl.col("of") == "given") | ((pl.col("of") == "whole") & (pl.col("span") == "whole"))
        decision = pl.when(long).then(pl.lit(BANNED)).otherwise(pl.lit(CANDIDATE))
        yield equal.filter(telling).with_columns(*_labels("text", decision))
        if len(self.claimed.text_hashes):
            hashed = self._hashed(units)
            yield hashed.with_columns(*_labels("text", decision))
        if self.near is not None and self.long.height:
            yield self._near(units.filter(long).join(self.claimed.texts, on="text", how="anti"))

    def _hashed(self, units: pl.DataFrame) -> pl.DataFrame:
        # No column engine computes SHA-256; only claims by hash pay for this loop over distinct texts.
        texts = units["text"].unique()
        digests = pl.Series([sha256_hex(text.encode()) for text in texts], dtype=pl.String)
        found = pl.DataFrame({"text": texts, "claimed": digests}).filter(digests.is_in(self.claimed.text_hashes.implode()))
        return units.join(found, on="text", how="inner")

    def _near(self, units: pl.DataFrame) -> pl.DataFrame:
        assert self.near is not None
        texts = units["text"].unique(maintain_order=True)
        i, j, similarity = self.near(self.long["text"], texts, self.thresholds.candidate)
        pairs = pl.DataFrame({"text": texts.gather(j), "claimed": self.long["claimed"].gather(i), "close": similarity})
        pairs = pairs.filter(pl.col("close") >= self.thresholds.candidate)
        decision = pl.when(pl.col("close") >= self.thresholds.certain).then(pl.lit(BANNED)).otherwise(pl.lit(CANDIDATE))
        return units.join(pairs, on="text", how="inner").with_columns(*_labels("near", decision, pl.col("close")))


def _labels(reason: str, decision: str | pl.Expr, similarity: float | pl.Expr = 1.0) -> list[pl.Expr]:
    return [
        pl.lit(reason).alias("reason"),
        (pl.lit(decision) if isinstance(decision, str) else decision).alias("decision"),
        (similarity if isinstance(similarity, pl.Expr) else pl.lit(similarity)).alias("similarity"),
    ]


def _strongest(matches: pl.DataFrame) -> pl.DataFrame:
    """One line per asset and row: banned before candidate, then the strongest reason, then the most similar."""
    rank = pl.col("reason").replace_strict({reason: k for k, reason in enumerate(REASONS)}, return_dtype=pl.Int8)
    return (
        matches.with_columns(rank.alias("_rank"))
        .sort(
            ["asset", "row_id", "decision", "_rank", "similarity", "claimed"], descending=[False, False, False, False, True, False]
        )
        .unique(["asset", "row_id"], keep="first", maintain_order=True)
        .select(list(_SCHEMA))
    )
