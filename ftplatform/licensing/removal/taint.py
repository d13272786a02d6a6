"""Which rows fall under a ban: the banned ones and everything derived from them, generation by generation.

Origins are alternatives, parents bind (`rights`). With `Reach.GRANT` a row falls if *all* its origins lost their ground, taking
together what every snapshot recorded about it; with `Reach.CONTENT` one claimed origin is enough. Either way whatever was derived
from a row that fell falls too, unless (`GRANT` only) an independent original of the same words exists.

What cannot be decided is said, never assumed: a row without origins, a parent that nobody has, a parent named by its source when
only some rows of that source fell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ftplatform.licensing.combinations import UNTRACEABLE
from ftplatform.licensing.removal.ban import Ban, Reach
from ftplatform.licensing.removal.closure import RowSet

_ROW_ID = r"^[0-9a-f]{64}$"
_FALLEN = {"row_id": pl.String, "reason": pl.String, "via": pl.String}
_PAIRS = {"row_id": pl.String, "parent": pl.String}
_ORIGINS = {"row_id": pl.String, "origin": pl.String}


@dataclass(frozen=True, eq=False)
class Taint:
    """Rows that fall.

    Attributes:
        rows: ids that fall, listed ones that stand in none of the row sets included: `row_id`, `reason` (``origin``, ``listed`` or
            ``derived``), `via` (origin, notice or parent it fell by), `generation` (0: banned itself, 1: derived from such a row, ...);
            one line per id, by the shortest way.
        kept: ids of rows with a banned origin that stay, because another origin of the same words keeps its ground.
        undecided: `row_id` and `reason` of rows of which nobody can say whether they fall (see the module docstring), and of rows
            derived from such.
    """

    rows: pl.DataFrame
    kept: pl.Series
    undecided: pl.DataFrame


def taint(row_sets: Sequence[RowSet], ban: Ban) -> Taint:
    """The taint closure of a ban over row sets; streamed, memory grows with the rows that fall or have parents that are rows.

    Args:
        row_sets: all rows that may fall or through which others may be derived, and further ones (earlier snapshots) that may show
            another origin of a row. They are read twice.

    Raises:
        InputDataError, CorruptArtifact: as `RowSet.tables`.
    """
    first = _First(ban)
    for frame in _frames(row_sets, ban):
        first.add(frame)
    direct, named, edges = first.direct(), _stack(first.named, _FALLEN), _stack(first.edges, _PAIRS)
    second = _Second(ban, direct, named, edges, _stack(first.origins, _ORIGINS))
    for frame in _frames(row_sets, ban):
        second.add(frame)

    saved = _ids(second.saved)
    if ban.reach is Reach.GRANT:
        exempt = _ids(second.original)
        direct = direct.join(saved, on="row_id", how="anti")
        named, edges = (frame.join(exempt, on="row_id", how="anti") for frame in (named, edges))
    start = pl.concat([direct.with_columns(generation=pl.lit(0)), named.with_columns(generation=pl.lit(1))])
    fallen = _spread(start.unique("row_id", keep="first", maintain_order=True), edges)
    kept = pl.concat([saved, _ids(first.mixed)]).unique().join(fallen.select("row_id"), on="row_id", how="anti")
    missing = edges.join(_ids(second.known).rename({"row_id": "parent"}), on="parent", how="anti")
    doubts = [
        missing.select("row_id", reason=pl.lit(UNTRACEABLE)),
        second.partial(fallen),
        _ids(first.baseless).select("row_id", reason=pl.lit("(no origin is recorded)")),
    ]
    decided = fallen.select("row_id")
    doubtful = pl.concat(doubts).join(decided, on="row_id", how="anti").unique("row_id", keep="first", maintain_order=True)
    doubtful = _spread(doubtful.with_columns(via=pl.lit(""), generation=pl.lit(0)), edges.join(decided, on="row_id", how="anti"))
    return Taint(fallen, kept["row_id"].sort(), doubtful.select("row_id", "reason"))


def _frames(row_sets: Iterable[RowSet], ban: Ban) -> Iterator[pl.DataFrame]:
    """Rows with `_any` and `_all` (banned origins), `_origin` (the first of them), `_original`, `_listed`."""
    names, originals = (pl.lit(sorted(s), dtype=pl.List(pl.String)) for s in (ban.names, ban.originals - ban.names))
    lists = pl.col("origins")
    banned, own = lists.list.set_intersection(names), lists.list.set_intersection(originals)
    listed = pl.col("row_id").is_in(ban.row_ids.implode())
    for rows in row_sets:
        for table in rows.tables(["row_id", "origins", "parents"]):
            frame = pl.DataFrame(pl.from_arrow(table))
            # Decided once per distinct list of origins: a corpus has a few dozen.
            distinct = frame.select("origins").unique()
            flags = distinct.with_columns(
                _any=banned.list.len() > 0,
                _all=(banned.list.len() == lists.list.unique().list.len()) & (lists.list.len() > 0),
                _origin=banned.list.first(),
                _original=own.list.len() > 0,
            )
            yield frame.join(flags, on="origins", how="left", nulls_equal=True).with_columns(_listed=listed)


def _parent_pairs(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("parents").list.len() > 0).select("row_id", parent="parents").explode("parent").drop_nulls()


class _First:
    """First reading: rows that fall unless another reading saves them, and who was derived from what."""

    def __init__(self, ban: Ban) -> None:
        self.ban = ban
        self.names = pl.Series(sorted(ban.names), dtype=pl.String).implode()
        self.suspects: list[pl.DataFrame] = []
        self.origins: list[pl.DataFrame] = []
        self.mixed: list[pl.DataFrame] = []
        self.named: list[pl.DataFrame] = []
        self.edges: list[pl.DataFrame] = []
        self.baseless: list[pl.DataFrame] = []
        self.seen: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        ban, listed = self.ban, pl.col("_listed")
        if ban.reach is Reach.CONTENT:
            touched = falls = pl.col("_any") | listed
        else:
            touched = pl.col("_any") & (listed if len(ban.row_ids) else pl.lit(True))
            falls = touched & pl.col("_all")
        self.seen.append(frame.filter(listed).select("row_id"))
        suspects = frame.filter(falls)
        reason = pl.when(listed).then(pl.lit("listed")).otherwise(pl.lit("origin"))
        via = pl.when(listed).then(pl.lit(ban.notice)).otherwise(pl.col("_origin"))
        self.suspects.append(suspects.select("row_id", reason=reason, via=via))
        self.origins.append(suspects.select("row_id", origin="origins").explode("origin"))
        self.mixed.append(frame.filter(touched & ~falls).select("row_id"))
        pairs = _parent_pairs(frame)
        is_row = pl.col("parent").str.contains(_ROW_ID)
        self.edges.append(pairs.filter(is_row))
        if ban.reach is Reach.CONTENT or not len(ban.row_ids):
            named = pairs.filter(~is_row & pl.col("parent").is_in(self.names))
            self.named.append(named.select("row_id", reason=pl.lit("derived"), via="parent"))
        if ban.names:
            baseless = frame.filter(pl.col("origins").list.len().fill_null(0) == 0)
            self.baseless.append(baseless.select("row_id"))

    def direct(self) -> pl.DataFrame:
        # Listed rows that stand nowhere any more fall as well: rows derived from them may still be there.
        absent = self.ban.row_ids.alias("row_id").to_frame().join(_ids(self.seen), on="row_id", how="anti")
        absent = absent.with_columns(reason=pl.lit("listed"), via=pl.lit(self.ban.notice))
        return _stack([*self.suspects, absent], _FALLEN).unique("row_id", keep="first", maintain_order=True)


class _Second:
    """Second reading: what saves suspects, which parents exist, and who names a source of which only some rows fell."""

    def __init__(self, ban: Ban, direct: pl.DataFrame, named: pl.DataFrame, edges: pl.DataFrame, origins: pl.DataFrame) -> None:
        self.grant = ban.reach is Reach.GRANT
        self.direct = direct.select("row_id")
        self.children = pl.concat([named.select("row_id"), edges.select("row_id")]).unique()
        self.parents = edges.select(row_id="parent").unique()
        # Sources banned as a whole need no such doubt: naming them is enough to fall.
        whole = ban.names if not (self.grant and len(ban.row_ids)) else frozenset()
        self.origins = origins.filter(~pl.col("origin").is_in(list(whole)))
        self.doubtful = self.origins["origin"].unique().implode()
        self.saved: list[pl.DataFrame] = []
        self.original: list[pl.DataFrame] = []
        self.known: list[pl.DataFrame] = []
        self.pairs: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        self.known.append(frame.select("row_id").join(self.parents, on="row_id", how="semi"))
        if self.grant:
            ground = ~pl.col("_all") & (pl.col("origins").list.len() > 0)
            self.saved.append(frame.filter(ground).select("row_id").join(self.direct, on="row_id", how="semi"))
            self.original.append(frame.filter("_original").select("row_id").join(self.children, on="row_id", how="semi"))
            frame = frame.filter(~pl.col("_original"))
        self.pairs.append(_parent_pairs(frame).filter(pl.col("parent").is_in(self.doubtful)))

    def partial(self, fallen: pl.DataFrame) -> pl.DataFrame:
        lost = self.origins.join(fallen.select("row_id"), on="row_id", how="semi")["origin"].unique()
        pairs = _stack(self.pairs, _PAIRS).filter(pl.col("parent").is_in(lost.implode()))
        return pairs.select("row_id", reason=pl.format("(some rows of its parent {} fell)", "parent"))


def _spread(fallen: pl.DataFrame, edges: pl.DataFrame) -> pl.DataFrame:
    """Follow parents that are rows until nobody new falls; terminates on cycles, because a row falls once."""
    parts, newest = [fallen], fallen
    edges = edges.select("row_id", "parent").unique(maintain_order=True).join(fallen.select("row_id"), on="row_id", how="anti")
    while newest.height and edges.height:
        reached = edges.join(newest.select(parent="row_id", _generation="generation"), on="parent", how="inner")
        newest = reached.unique("row_id", keep="first", maintain_order=True).select(
            "row_id", reason=pl.lit("derived"), via="parent", generation=(pl.col("_generation") + 1).cast(pl.Int32)
        )
        edges = edges.join(newest.select("row_id"), on="row_id", how="anti")
        parts.append(newest)
    return pl.concat(parts)


def _stack(parts: list[pl.DataFrame], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def _ids(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return _stack(parts, {"row_id": pl.String}).unique()
