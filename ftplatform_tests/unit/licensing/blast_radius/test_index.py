"""The index on both databases: loading, refusing, the plans of the recursive queries, and many writers."""

from __future__ import annotations

import threading
import time

import numpy as np
import polars as pl
import pytest
from sqlalchemy import create_engine, text

from ftplatform.errors import InputDataError, StoreError, StoreUnavailable
from ftplatform.licensing.blast_radius import statements
from ftplatform.licensing.blast_radius.database import Database, clause
from ftplatform.licensing.blast_radius.index import GraphIndex, UnknownSource, UnknownVersion
from ftplatform.licensing.blast_radius.lineage import ROLE_CODES, Edge, LineageRole, SourceRows, Version
from ftplatform.licensing.rights import EdgeRole

HOSTILE = ["", '"', "a,b", "a\nb", "\\.", "\\N", "'; DROP TABLE lineage_edge; --", "ä拒\U0001f600", "%s :name {x}"]


def version(name: str, asset: str = "raw/a", **more: object) -> Version:
    return Version(snapshot=name, asset=asset, created_at="2026-11-22T00:00:00Z", **more)  # type: ignore[arg-type]


def wide_graph() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """20,000 versions, 80,000 edges, and a chain of 3,000 continued adapters behind one of them."""
    rng = np.random.default_rng(1)
    names = pl.Series([f"v{i:05d}" for i in range(20_000)])
    child = np.repeat(np.arange(1_000, 17_000), 5)
    parent = child - rng.integers(1, 1_000, len(child))
    chain = np.arange(17_000, 20_000)
    parents, children = np.concatenate([parent, chain - 1]), np.concatenate([child, chain])
    versions = pl.DataFrame({"snapshot": names}).with_columns(asset=pl.lit("adapters/a"), created_at=pl.lit("2026-11-22T00:00:00Z"))
    edges = pl.DataFrame({"parent": names[parents.tolist()], "child": names[children.tolist()]}).with_columns(
        role=pl.lit("continued_adapter")
    )
    sources = pl.DataFrame({"source": [f"raw/s{i % 100}" for i in range(20_000)], "version": names, "n_rows": [1] * 20_000})
    return versions, edges, pl.concat([sources, pl.DataFrame({"source": ["raw/rare"], "version": [names[16_990]], "n_rows": [1]})])


def test_every_license_role_is_a_lineage_role():
    assert {str(role) for role in EdgeRole} <= set(LineageRole)
    assert set(ROLE_CODES) == set(LineageRole)


def test_loading_twice_changes_nothing_and_facts_are_renewed(index):
    facts = {"n_rows": 10, "tokens": 100, "gpu_seconds": 1.5, "owner": "ada"}
    versions = [version("a"), version("b", "adapters/b", **facts)]
    edges, sources = [Edge("a", "b", "rows")], [SourceRows(source="raw/a", version="a", n_rows=10)]
    for _ in range(3):
        index.load(versions, edges, sources)
    once = index.blast_radius("raw/a").to_record()
    assert once["versions"] == 2
    assert [a["asset"] for a in once["affected"]] == ["adapters/b", "raw/a"]
    assert once["affected"][0]["gpu_seconds"] == 1.5
    assert not index.in_live_closure("raw/a")
    index.load([version("b", "adapters/b", live=True, owner="grace")])
    (live,) = index.in_live_closure("raw/a")
    assert (live.snapshot, live.owner, live.gpu_seconds) == ("b", "grace", None)
    index.load([version("z")], replace=True)
    assert index.sources() == []


@pytest.mark.parametrize("owner", HOSTILE)
def test_any_text_survives(index, owner):
    name = f"raw/{owner}"
    index.load([version("v", name, owner=owner)], [], [SourceRows(source=name, version="v", n_rows=1)])
    (affected,) = index.blast_radius(name).listed()
    assert (affected.owner, affected.asset) == (owner, name)
    assert index.sources() == [name]


@pytest.mark.parametrize(
    ("edges", "sources", "error"),
    [
        ([Edge("a", "nowhere", "rows")], [], UnknownVersion),
        ([Edge("a", "b", "inspired")], [], InputDataError),
        ([Edge("a", "", "rows")], [], InputDataError),
        ([], [SourceRows(source="raw/a", version="nowhere")], UnknownVersion),
        ([], [SourceRows(source="raw/\x00", version="a")], InputDataError),
        ([], [SourceRows(source="raw/a", version="a", n_rows=-1)], InputDataError),
        ([], [SourceRows(source="raw/a", version="a", step_share=1.5)], InputDataError),
    ],
)
def test_what_is_wrong_is_refused_as_a_whole(index, edges, sources, error):
    index.load([version("a")], [], [SourceRows(source="raw/old", version="a")])
    with pytest.raises(error):
        index.load([version("a"), version("b")], edges, sources)
    assert index.sources() == ["raw/old"]
    with pytest.raises(UnknownVersion):
        index.downstream("b")


def test_a_misspelled_source_is_not_a_clean_one(index):
    index.load([version("a")], [], [SourceRows(source="raw/tickets", version="a", n_rows=1)])
    with pytest.raises(UnknownSource, match="raw/tickets"):
        index.blast_radius("raw/tikets")
    assert len(index.blast_radius("raw/never-used", must_exist=False)) == 0


def test_a_source_counted_as_absent_is_absent(index):
    index.load([version("a")], [], [SourceRows(source="raw/x", version="a", n_rows=0, derived_rows=0)])
    assert index.sources() == []


def test_the_queries_walk_the_indexes(index):
    index.load(*wide_graph())
    url = index.url

    def plan(statement: str, **at: int) -> str:
        database = Database(url)  # a new connection: SQLite keeps a plan it has explained, whatever becomes of the tables
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        with database.reading() as connection:
            found = "\n".join(str(row[-1]) for row in connection.execute(clause(explain + statement), at))
        database.close()
        return found

    up, carriers = plan(statements.SOURCES_ABOVE, version=18_000), plan(statements.CARRIERS, source=7)
    if url.startswith("sqlite"):
        # Where a recursion goes wrong is its step: it must look edges up by child, never read all of them.
        assert "SEARCH e USING COVERING INDEX lineage_edge_by_child (child=?)" in up
        assert "SEARCH vs USING COVERING INDEX lineage_version_source_by_version (version=?)" in up
        assert "SEARCH lineage_version_source USING INDEX" in carriers
    else:
        assert "lineage_edge_by_child" in up
        assert "lineage_version_source_by_version" in up
        assert "Seq Scan on lineage_edge" not in up
        assert "Seq Scan on lineage_version_source" not in up
        assert "Seq Scan" not in carriers
    # The same questions without the indexes read everything, so the assertions above can fail.
    with index._database.writing() as connection:
        for name in ("lineage_edge_by_child", "lineage_version_source_by_version"):
            connection.exec_driver_sql(f"DROP INDEX {name}")
    assert "lineage_edge_by_child" not in plan(statements.SOURCES_ABOVE, version=18_000)


def test_the_first_query_after_a_bulk_load_is_quick(index):
    """A thousandfold slip (a scan of all edges at each of 3,000 steps) is what this catches; the benchmark measures."""
    index.load(*wide_graph())
    started = time.perf_counter()
    assert len(index.blast_radius("raw/rare").versions) > 2_900
    assert index.sources_of("v19999").height == 101
    assert time.perf_counter() - started < 5


def test_a_query_sees_one_state_while_others_write(index):
    """Readers race a writer that moves a whole branch: they see it before or after, never an edge without its version."""
    index.load([version("root")], [], [SourceRows(source="raw/x", version="root", n_rows=1)])
    problems: list[BaseException] = []

    def write() -> None:
        try:
            for i in range(15):
                names = [f"n{i}-{k}" for k in range(20)]
                index.load([version(n) for n in names], [Edge(a, b, "rows") for a, b in zip(["root", *names], names, strict=False)])
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            problems.append(error)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    sizes = set()
    while any(writer.is_alive() for writer in writers):
        sizes.add(len(index.blast_radius("raw/x").listed(None)))
    for writer in writers:
        writer.join()
    assert not problems
    assert all(size % 20 == 1 for size in sizes)
    assert len(index.blast_radius("raw/x")) == 301


def test_processes_may_open_the_same_database(postgres_database):
    opened: list[GraphIndex] = []
    threads = [threading.Thread(target=lambda: opened.append(GraphIndex(postgres_database))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    for index in opened:
        index.close()


def test_another_format_and_a_silent_server_are_said(tmp_path):
    path = tmp_path / "lineage.db"
    GraphIndex(path).close()
    with create_engine(f"sqlite:///{path}").begin() as connection:
        connection.execute(text("UPDATE lineage_meta SET value = 99 WHERE name = 'format'"))
    with pytest.raises(StoreError, match="99"):
        GraphIndex(path)
    with pytest.raises(StoreUnavailable) as refused:
        GraphIndex("postgresql+psycopg2://user:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(refused.value)
