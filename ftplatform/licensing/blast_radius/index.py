"""The lineage index: a database that answers "what came out of this source?", rebuildable from the store at any time.

SQLite in a file by default, Postgres in deployment. It holds versions and edges, never rows: those stay in Parquet (`sidecar`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ftplatform.errors import InputDataError, StoreError
from ftplatform.licensing.blast_radius import packed
from ftplatform.licensing.blast_radius import statements as sql
from ftplatform.licensing.blast_radius.bulk import numbered, numbers, upsert
from ftplatform.licensing.blast_radius.database import Database, clause, read
from ftplatform.licensing.blast_radius.frames import edge_frame, source_frame, version_frame
from ftplatform.licensing.blast_radius.graph import Graph, closure
from ftplatform.licensing.blast_radius.lineage import Edge, SourceRows, Version
from ftplatform.licensing.blast_radius.radius import Affected, BlastRadius

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Loads of fewer rows leave the planner's statistics as they are.
_ANALYZE_FROM = 1_000

_CARRIERS: Mapping[str, pl.DataType] = {field: pl.Int64() for field in sql.CARRIER_FIELDS} | {"step_share": pl.Float64()}


class UnknownSource(InputDataError):
    """The index has no version with rows of this source."""


class UnknownVersion(InputDataError):
    """The index has no version of this name."""


class GraphIndex:
    """One index. Safe to use from several threads and processes.

    Every method raises `StoreUnavailable` if the database does not answer, and `StoreError` if its tables are of another format.
    """

    def __init__(self, url: str | Path) -> None:
        """Open the index, and create its tables if there are none.

        Args:
            url: path of a SQLite file, ``sqlite:///file`` or ``postgresql+psycopg2://...``.
        """
        self._database = Database(url)
        self._cached: tuple[int, Graph] | None = None
        if not self._database.has_table("lineage_meta"):  # asking first lets those open it who may only read
            with self._database.writing() as connection:
                for statement in sql.SCHEMA:
                    connection.exec_driver_sql(statement)
        with self._database.reading() as connection:
            found = _meta(connection)["format"]
        if found != sql.FORMAT:
            raise StoreError(
                f"The lineage index {self.url} has the format {found}; this version reads {sql.FORMAT}.",
                remedy="Drop its tables (lineage_*) and rebuild it from the store.",
            )

    @property
    def url(self) -> str:
        """Where the index is, for people; without the password."""
        return self._database.url

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # ---- writing ---------------------------------------------------------------------------------------------------------

    def load(
        self,
        versions: Iterable[Version] | pl.DataFrame = (),
        edges: Iterable[Edge] | pl.DataFrame = (),
        sources: Iterable[SourceRows] | pl.DataFrame = (),
        *,
        replace: bool = False,
    ) -> None:
        """Add to the index, in one transaction. Loading the same again changes nothing.

        Args:
            versions: a version that is there takes the new facts (`live` changes over time).
            edges: between versions given now or before.
            sources: which rows are in which version; an entry that is there takes the new counts. One that counts 0 rows of every
                kind says that the source is *not* in the version, and is left out.
            replace: forget everything that is there first.

        Frames have the columns `frames.VERSION_COLUMNS`, `EDGE_COLUMNS`, `SOURCE_COLUMNS`; missing ones are null (false).

        Raises:
            InputDataError: on an unknown role, a missing name, or a count out of range.
            UnknownVersion: if an edge or a source names a version that is not in the index; nothing is changed.
        """
        new_versions, new_edges, new_sources = version_frame(versions), edge_frame(edges), source_frame(sources)
        with self._database.writing() as connection:
            if replace:
                for table in sql.TABLES:
                    connection.exec_driver_sql(f"DELETE FROM {table}")
            versions_there = self._load_versions(connection, new_versions)
            named = pl.concat([new_edges["parent"], new_edges["child"], new_sources["version"]]).unique(maintain_order=True)
            ids = self._version_ids(connection, named)
            edges_there = self._load_edges(connection, new_edges, ids)
            self._load_sources(connection, new_sources, ids)
            packed.renew(connection, versions_there, edges_there)
            connection.exec_driver_sql(sql.NEXT_GENERATION)
            if replace or new_versions.height + new_edges.height + new_sources.height >= _ANALYZE_FROM:
                # Postgres plans the first query after a bulk load without statistics otherwise, and takes seconds for it.
                for table in sql.TABLES:
                    connection.exec_driver_sql(f"ANALYZE {table}")

    def _load_versions(self, connection: Connection, frame: pl.DataFrame) -> pl.DataFrame:
        ids = numbered(connection, "lineage_version", "snapshot", frame["snapshot"])
        rows = frame.join(ids, on="snapshot", maintain_order="left").select(sql.VERSION_FIELDS)
        facts = [field for field in sql.VERSION_FIELDS if field not in {"id", "snapshot"}]
        upsert(connection, "lineage_version", rows, ["snapshot"], facts)
        return rows

    def _load_edges(self, connection: Connection, frame: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
        rows = frame.join(ids.rename({"snapshot": "parent", "id": "_parent"}), on="parent").join(
            ids.rename({"snapshot": "child", "id": "_child"}), on="child"
        )
        rows = rows.select(pl.col("_parent").alias("parent"), pl.col("_child").alias("child"), "role").unique()
        # In the order of the primary key: appending to an index is several times faster than filling it at random.
        upsert(connection, "lineage_edge", rows.sort(rows.columns), ["parent", "child", "role"])
        return rows

    def _load_sources(self, connection: Connection, frame: pl.DataFrame, ids: pl.DataFrame) -> None:
        names = numbered(connection, "lineage_source", "name", frame["source"].unique(maintain_order=True))
        upsert(connection, "lineage_source", names.select("id", "name"), ["name"])
        rows = (
            frame.join(names.rename({"name": "source", "id": "_source"}), on="source")
            .join(ids.rename({"snapshot": "version", "id": "_version"}), on="version")
            .drop("source", "version")
            .rename({"_source": "source", "_version": "version"})
            .select("source", *sql.CARRIER_FIELDS)
            .sort("source", "version")
        )
        facts = [field for field in sql.CARRIER_FIELDS if field != "version"]
        upsert(connection, "lineage_version_source", rows, ["source", "version"], facts)

    # ---- asking ----------------------------------------------------------------------------------------------------------

    def blast_radius(self, source: str, *, must_exist: bool = True) -> BlastRadius:
        """Everything downstream of a source.

        Args:
            source: its name as rows carry it.
            must_exist: refuse a name that the index does not know, lest a typing error reads as "no model saw it". If false, such a
                source has an empty radius.

        Raises:
            UnknownSource: with the nearest names.
        """
        with self._database.reading() as connection:
            number = connection.execute(clause("SELECT id FROM lineage_source WHERE name = :name"), {"name": source}).scalar()
            if number is None and must_exist:
                raise self._unknown_source(connection, source)
            carriers = read(connection, clause(sql.CARRIERS), {"source": number}, _CARRIERS)
            graph = self._graph(connection)
        return BlastRadius(source, graph, carriers, exhaustive=True)

    def blast_radius_of_rows(self, name: str, held: Iterable[SourceRows]) -> BlastRadius:
        """Everything downstream of some rows, e.g. those a notice lists.

        Args:
            name: what to call them.
            held: every version that holds them or rows derived from them (`sidecar.holders` over *all* sidecars).

        Raises:
            UnknownVersion: for a version that is not in the index.
        """
        return self._radius_of(name, source_frame(held), exhaustive=True)

    def blast_radius_of_version(self, snapshot: str) -> BlastRadius:
        """Everything downstream of one version, taken as a whole.

        Raises:
            UnknownVersion: if the index does not have it.
        """
        return self._radius_of(snapshot, source_frame([SourceRows(source=snapshot, version=snapshot)]), exhaustive=False)

    def in_live_closure(self, source: str) -> tuple[Affected, ...]:
        """What of a source is live: endpoints first, then releases, adapters, the rest. Empty (false) if nothing is."""
        return self.blast_radius(source).live()

    def sources_of(self, snapshot: str) -> pl.DataFrame:
        """Every source upstream of a version, itself included: the sources whose radius holds it.

        Returns:
            Columns `source`, `n_rows`, `derived_rows` (of that source in this very version; null if none is recorded), by name.

        Raises:
            UnknownVersion: if the index does not have it.
        """
        schema = {"source": pl.String(), "n_rows": pl.Int64(), "derived_rows": pl.Int64()}
        with self._database.reading() as connection:
            number = self._version_ids(connection, pl.Series("snapshot", [snapshot]))["id"].item()
            return read(connection, clause(sql.SOURCES_ABOVE), {"version": number}, schema)

    def downstream(self, snapshot: str) -> frozenset[str]:
        """Snapshots made from a version, itself included.

        Raises:
            UnknownVersion: if the index does not have it.
        """
        with self._database.reading() as connection:
            self._version_ids(connection, pl.Series("snapshot", [snapshot]))
            graph = self._graph(connection)
        below = closure(graph.down, np.array([graph.position(snapshot)]))
        return frozenset(graph.versions["snapshot"].filter(pl.Series(below)))

    def sources(self) -> list[str]:
        """Names of all sources, sorted."""
        with self._database.reading() as connection:
            return sorted(connection.execute(clause("SELECT name FROM lineage_source")).scalars())

    # ---- parts -----------------------------------------------------------------------------------------------------------

    def _radius_of(self, name: str, held: pl.DataFrame, *, exhaustive: bool) -> BlastRadius:
        with self._database.reading() as connection:
            ids = self._version_ids(connection, held["version"])
            graph = self._graph(connection)
        carriers = held.join(ids.rename({"snapshot": "version"}), on="version").with_columns(version="id")
        carriers = carriers.select(pl.col(field).cast(dtype) for field, dtype in _CARRIERS.items())
        return BlastRadius(name, graph, carriers, exhaustive=exhaustive)

    def _graph(self, connection: Connection) -> Graph:
        """The graph as of this transaction: the one in memory unless somebody loaded since."""
        generation = _meta(connection)["generation"]
        cached = self._cached
        if cached is None or cached[0] != generation:
            cached = self._cached = (generation, packed.graph(connection))
        return cached[1]

    def _version_ids(self, connection: Connection, snapshots: pl.Series) -> pl.DataFrame:
        snapshots = snapshots.rename("snapshot")
        ids = numbers(connection, "lineage_version", "snapshot", snapshots)
        if ids.height < len(snapshots):
            missing = snapshots.to_frame().join(ids, on="snapshot", how="anti", maintain_order="left")["snapshot"]
            raise UnknownVersion(
                f"The lineage index {self.url} has no version {missing[0]!r}"
                + (f" and {len(missing) - 1:,} more that are named." if len(missing) > 1 else "."),
                remedy="Load the version first, or rebuild the index from the store.",
            )
        return ids

    def _unknown_source(self, connection: Connection, source: str) -> UnknownSource:
        names = connection.execute(clause("SELECT name FROM lineage_source")).scalars().all()
        near = difflib.get_close_matches(source, names, n=3)
        return UnknownSource(
            f"The lineage index {self.url} has no rows of a source named {source!r}.",
            remedy=f"Did you mean {', '.join(near)}?"
            if near
            else "Names are as in the column 'origins' of the rows, e.g. raw/tickets.",
        )


def _meta(connection: Connection) -> dict[str, int]:
    return {str(name): int(value) for name, value in connection.execute(clause(sql.META))}
