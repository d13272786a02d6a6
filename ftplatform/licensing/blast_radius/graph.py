"""A lineage graph in arrays, and the breadth-first search that finds what a source influences and how.

The search runs over states (version, influence), not over versions: an adapter may hold a source's rows *and* be judged by an eval set
that does. Each level is a handful of numpy operations whatever its width, so cost follows the edges looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.licensing.blast_radius.lineage import CARRIED, ROLE_CODES, ROLES, Influence, LineageRole

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: States per version.
_KINDS = len(Influence)


@dataclass(frozen=True, slots=True)
class Adjacency:
    """Edges grouped by one end: those of node i are ``start[i]:start[i + 1]`` of `target` and `role`."""

    start: Indices
    target: Indices
    role: Indices

    @classmethod
    def grouped(cls, nodes: int, by: Indices, target: Indices, role: Indices) -> Adjacency:
        """Group by `by`, order within a group kept: equal graphs give equal paths."""
        start = np.zeros(nodes + 1, dtype=np.int64)
        np.cumsum(np.bincount(by, minlength=nodes), out=start[1:])
        if np.all(by[:-1] <= by[1:]):
            return cls(start, target, role)
        order = np.argsort(by, kind="stable")
        return cls(start, target[order], role[order])

    def edges_of(self, nodes: Indices) -> tuple[Indices, Indices]:
        """Edges of `nodes`, and for each the position in `nodes` it belongs to."""
        first = self.start[nodes]
        counts = self.start[nodes + 1] - first
        owner = np.repeat(np.arange(len(nodes)), counts)
        before = np.cumsum(counts) - counts
        return np.arange(counts.sum()) - np.repeat(before - first, counts), owner


@dataclass(frozen=True)
class Graph:
    """Versions and the edges among them.

    Attributes:
        versions: one row per version, sorted by `id` (columns `statements.VERSION_FIELDS`). Row numbers are the node numbers.
        parent, child: node numbers, one pair per edge, sorted.
        role: role codes, one per edge.
    """

    versions: pl.DataFrame
    parent: Indices
    child: Indices
    role: Indices

    @classmethod
    def of(cls, versions: pl.DataFrame, edges: pl.DataFrame) -> Graph:
        """From versions sorted by `id`, and edges (`parent` id, `child` id, `role` code) sorted by all three."""
        ids = versions["id"].to_numpy()
        parent, child = (np.searchsorted(ids, edges[name].to_numpy()) for name in ("parent", "child"))
        return cls(versions, parent, child, edges["role"].to_numpy().astype(np.int64))

    @property
    def nodes(self) -> int:
        """How many versions."""
        return self.versions.height

    @cached_property
    def down(self) -> Adjacency:
        """Children by parent."""
        return Adjacency.grouped(self.nodes, self.parent, self.child, self.role)

    @cached_property
    def up(self) -> Adjacency:
        """Parents by child."""
        return Adjacency.grouped(self.nodes, self.child, self.parent, self.role)

    @cached_property
    def complete(self) -> Mask:
        """Versions whose sources are all known."""
        return self.versions["provenance_complete"].to_numpy().astype(bool)

    def position(self, snapshot: str) -> int | None:
        """Node number of a version, or None if it is not in this graph."""
        return self._positions.get(snapshot)

    def positions(self, ids: Indices) -> Indices:
        """Node numbers of versions by id; all of them must be in this graph."""
        return np.searchsorted(self.versions["id"].to_numpy(), ids)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {snapshot: i for i, snapshot in enumerate(self.versions["snapshot"].to_list())}


def closure(adjacency: Adjacency, start: Indices, roles: Iterable[LineageRole] = ROLES) -> Mask:
    """Nodes reachable from `start` over edges of `roles`, `start` included."""
    allowed = np.zeros(len(ROLES), dtype=bool)
    allowed[[ROLE_CODES[role] for role in roles]] = True
    seen = np.zeros(len(adjacency.start) - 1, dtype=bool)
    frontier = np.unique(start)
    seen[frontier] = True
    while frontier.size:
        edges, _ = adjacency.edges_of(frontier)
        found = adjacency.target[edges[allowed[adjacency.role[edges]]]]
        frontier = np.unique(found[~seen[found]])
        seen[frontier] = True
    return seen


@dataclass(frozen=True)
class Spread:
    """Result of `spread`. States are numbered ``node * 4 + influence``.

    Attributes:
        hops: edges from the nearest start, -1 where the state is not reached.
        before: the state it was reached from, -1 at a start.
        role: code of the role it was reached by, -1 at a start.
    """

    hops: NDArray[np.int32]
    before: Indices
    role: NDArray[np.int8]

    @cached_property
    def reached(self) -> Mask:
        """By node and influence."""
        return (self.hops >= 0).reshape(-1, _KINDS)

    def trail(self, node: int, influence: Influence) -> list[tuple[int, Influence, LineageRole | None]]:
        """Shortest way to the state, from its start: (node, influence there, role it was entered by)."""
        found: list[tuple[int, Influence, LineageRole | None]] = []
        state = node * _KINDS + influence
        while state >= 0:
            code = int(self.role[state])
            found.append((state // _KINDS, Influence(state % _KINDS), ROLES[code] if code >= 0 else None))
            state = int(self.before[state])
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Filters:
    """Where recorded rows say that content did not pass, whatever the edges say. One flag per node each.

    Attributes:
        without: its provenance is complete and holds nothing of the source: no content enters.
        own: holds rows of the source and none derived from them.
        derived: holds derived rows only; so what an `own` version handed it over a ``rows`` edge did not stay.
    """

    without: Mask
    own: Mask
    derived: Mask

    def stopped(self, parent: Indices, child: Indices, role: Indices) -> Mask:
        """Whether content stays behind, per edge."""
        rows_only = role == ROLE_CODES[LineageRole.ROWS]
        return self.without[child] | (rows_only & self.own[parent] & self.derived[child])


def spread(graph: Graph, carriers: Indices, influences: Indices, filters: Filters) -> Spread:
    """Follow the influence of a source from the versions that carry it.

    Args:
        graph: at least everything downstream of the carriers.
        carriers: nodes that hold the source.
        influences: what it is to each of them.
        filters: where its rows were filtered out on the way. There, selection is what remains: they were looked at. Following edges
            alone calls every model that was made clean of a source tainted by it.

    Every carrier counts, but paths begin at the carriers that come from no other one, so that they show the whole way.
    """
    states = graph.nodes * _KINDS
    found = Spread(np.full(states, -1, np.int32), np.full(states, -1, np.int64), np.full(states, -1, np.int8))
    starts = carriers * _KINDS + influences
    first = ~_has_parent(graph, carriers)[carriers]
    _search(graph.down, found, starts[first], filters)
    # Carriers that hold it in a way no edge explains, and those on a cycle, are starts of their own.
    _search(graph.down, found, starts[found.hops[starts] < 0], filters)
    return found


def _has_parent(graph: Graph, carriers: Indices) -> Mask:
    """Nodes with a parent that is a carrier or downstream of one."""
    below = closure(graph.down, carriers)
    mask = np.zeros(graph.nodes, dtype=bool)
    mask[graph.child[below[graph.parent]]] = True
    return mask


def _search(down: Adjacency, found: Spread, starts: Indices, filters: Filters) -> None:
    frontier = np.unique(starts)
    found.hops[frontier] = 0
    level = 0
    while frontier.size:
        level += 1
        nodes = frontier // _KINDS
        edges, owner = down.edges_of(nodes)
        role, child = down.role[edges], down.target[edges]
        influence = CARRIED[frontier[owner] % _KINDS, role]
        influence[(influence == Influence.CONTENT) & filters.stopped(nodes[owner], child, role)] = Influence.SELECTION
        state = child * _KINDS + influence
        fresh = found.hops[state] < 0
        before, via = frontier[owner][fresh], role[fresh]
        frontier, first = np.unique(state[fresh], return_index=True)
        found.hops[frontier] = level
        found.before[frontier] = before[first]
        found.role[frontier] = via[first]
