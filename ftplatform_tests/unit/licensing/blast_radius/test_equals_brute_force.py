"""500 random graphs on SQLite and 52 on Postgres: the same versions, kinds of influence, paths and sources as the slow way."""

from __future__ import annotations

import itertools

import pytest

from ftplatform.licensing.blast_radius.index import GraphIndex
from ftplatform.licensing.blast_radius.lineage import Edge, Influence, LineageRole, carried
from ftplatform_tests.unit.licensing.blast_radius.graphs import (
    Case,
    combined,
    distances,
    influences,
    onward,
    random_case,
    sources_above,
)


def check(index: GraphIndex, case: Case, source: str) -> None:
    lengths = distances(case, source)
    expected = influences(case, source)
    radius = index.blast_radius(source)
    found = radius.listed(None)
    assert {a.snapshot: set(a.influences) for a in found} == expected
    assert len(radius) == len(expected)
    edges = set(case.edges)
    holding = {s.version: carried(Influence.CONTENT, LineageRole(s.role)) for s in case.sources if s.source == source}
    for affected in found:
        assert list(affected.influences) == sorted(affected.influences)
        for influence in affected.influences:
            path = radius.path(affected.snapshot, influence)
            assert (path[-1].snapshot, path[-1].influence) == (affected.snapshot, influence)
            assert len(path) - 1 == lengths[affected.snapshot, influence]
            assert path[0].role is None
            assert holding[path[0].snapshot] is path[0].influence
            for before, step in itertools.pairwise(path):
                assert step.role is not None
                assert Edge(before.snapshot, step.snapshot, step.role) in edges
                assert step.influence is onward(case, source, before.snapshot, before.influence, step.snapshot, step.role)
        assert affected.path == radius.path(affected.snapshot)


@pytest.mark.parametrize("block", range(10))
def test_sqlite_equals_brute_force_on_500_graphs(sqlite_index, block):
    # Fifty graphs to a file: creating a database costs more than asking it.
    cases = [random_case(seed) for seed in range(block * 50, block * 50 + 50)]
    run(sqlite_index, combined(cases), cases)


def test_postgres_equals_brute_force_on_52_graphs(postgres_index):
    cases = [random_case(seed) for seed in range(500, 552)]
    run(postgres_index, combined(cases), cases)


def run(index: GraphIndex, everything: Case, cases: list[Case]) -> None:
    index.load(everything.versions, everything.edges, everything.sources)
    names = {name: [s for s in everything.sources if s.source == name] for name in index.sources()}
    assert len(names) == 3 * len(cases)
    for name, sources in names.items():
        one = cases[int(name.rsplit("/", 1)[1])]
        check(index, Case(one.versions, one.edges, sources), name)
    # The other way round, for one version of each graph.
    for number, case in enumerate(cases):
        version = case.versions[-1].snapshot
        found = {name.rsplit("/", 1)[0] for name in index.sources_of(version)["source"] if name.endswith(f"/{number}")}
        assert found == sources_above(case, version)


def test_a_load_by_somebody_else_is_seen(index):
    case = combined([random_case(seed) for seed in range(20)])
    index.load(case.versions, case.edges, case.sources)
    source = case.sources[0].source
    assert set(influences(case, source)) == {a.snapshot for a in index.blast_radius(source).listed(None)}  # and kept in memory
    outside = next(v.snapshot for v in case.versions if v.snapshot not in influences(case, source))
    more = Case(case.versions, [*case.edges, Edge(case.sources[0].version, outside, "rows")], case.sources)
    other = GraphIndex(index.url)
    other.load([], more.edges[-1:])
    other.close()
    check(index, more, source)


def test_loading_piece_by_piece_is_loading_at_once(index, tmp_path):
    case = combined([random_case(seed) for seed in range(30)])
    index.load(case.versions, case.edges, case.sources)
    pieces = GraphIndex(tmp_path / "pieces.db")
    for k in range(7):
        pieces.load(case.versions[k::7])
    for k in range(5):
        pieces.load([], case.edges[k::5], case.sources[k::5])
    pieces.load(case.versions[:10], case.edges[:10], case.sources[:10])
    for name in index.sources():
        once, again = index.blast_radius(name), pieces.blast_radius(name)
        assert {(a.snapshot, a.influences, len(a.path)) for a in once.listed(None)} == {
            (a.snapshot, a.influences, len(a.path)) for a in again.listed(None)
        }
    pieces.close()
