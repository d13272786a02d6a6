"""Random lineage graphs, and the same answers worked out the slow way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ftplatform.licensing.blast_radius.lineage import Edge, Influence, LineageRole, SourceRows, Version, carried

_FAMILIES = ("raw", "corpora", "splits", "adapters", "eval_results", "releases", "endpoints")
_COUNTS = ({"n_rows": 5}, {"n_rows": 5, "derived_rows": 0}, {"n_rows": 0, "derived_rows": 3}, {"n_rows": 5, "derived_rows": 3})
_SHAPES = ("layers", "diamonds", "chain", "cycle")


@dataclass(frozen=True)
class Case:
    versions: list[Version]
    edges: list[Edge]
    sources: list[SourceRows]


def random_case(seed: int) -> Case:
    """Up to 40 versions; every fourth graph is a ladder of diamonds, a chain of continued adapters, or has cycles."""
    rng = np.random.default_rng(seed)
    shape = _SHAPES[seed % len(_SHAPES)]
    count = int(rng.integers(2, 41))
    names = [f"v{seed}-{i}" for i in range(count)]
    versions = [
        Version(
            snapshot=name,
            asset=f"{_FAMILIES[rng.integers(len(_FAMILIES))]}/a{i}",
            created_at=f"2026-11-{1 + i % 28:02d}T00:00:00Z",
            live=bool(rng.random() < 0.3),
            provenance_complete=bool(rng.random() < 0.5),
            gpu_seconds=float(rng.integers(1, 100)) if rng.random() < 0.7 else None,
        )
        for i, name in enumerate(names)
    ]
    roles = list(LineageRole)

    def role() -> LineageRole:
        return roles[rng.integers(len(roles))]

    pairs: list[tuple[int, int]] = []
    if shape == "diamonds":
        pairs += [(i, j) for i in range(0, count - 3, 3) for j in (i + 1, i + 2)]
        pairs += [(j, i + 3) for i in range(0, count - 3, 3) for j in (i + 1, i + 2)]
    elif shape == "chain":
        pairs += [(i, i + 1) for i in range(count - 1)]
    for _ in range(int(rng.integers(0, 2 * count))):
        a, b = sorted(rng.choice(count, 2, replace=False).tolist())
        pairs.append((b, a) if shape == "cycle" and rng.random() < 0.3 else (a, b))
    continued = shape == "chain"
    edges = [Edge(names[a], names[b], LineageRole.CONTINUED_ADAPTER if continued and b == a + 1 else role()) for a, b in pairs]
    sources = [
        SourceRows(
            source=f"raw/s{k}",
            version=names[i],
            role=LineageRole.TEACHER if rng.random() < 0.2 else LineageRole.ROWS,
            **_COUNTS[rng.integers(len(_COUNTS))],
        )
        for k in range(3)
        for i in rng.choice(count, int(rng.integers(1, min(count, 5) + 1)), replace=False).tolist()
    ]
    return Case(versions, edges, sources)


def onward(case: Case, source: str, parent: str, influence: Influence, child: str, role: LineageRole) -> Influence:
    """The influence on a child, recorded rows considered."""
    found = carried(influence, role)
    if found is not Influence.CONTENT:
        return found
    held = {s.version: s for s in case.sources if s.source == source}
    here, there = held.get(parent), held.get(child)
    complete = next(v.provenance_complete for v in case.versions if v.snapshot == child)
    text_there = there is not None and carried(Influence.CONTENT, LineageRole(there.role)) is Influence.CONTENT
    none_left = complete and not text_there
    other_kind = (
        role is LineageRole.ROWS and here is not None and there is not None and here.derived_rows == 0 and there.n_rows == 0
    )
    return Influence.SELECTION if none_left or other_kind else found


def distances(case: Case, source: str) -> dict[tuple[str, Influence], int]:
    """(snapshot, influence) -> edges from where the source begins, by a queue over one edge at a time.

    It begins at the versions that hold it and come from nothing it reached; then, for what that leaves over, at the other holders.
    """
    start = {s.version: carried(Influence.CONTENT, LineageRole(s.role)) for s in case.sources if s.source == source}
    children: dict[str, list[tuple[str, LineageRole]]] = {}
    for edge in case.edges:
        children.setdefault(edge.parent, []).append((edge.child, LineageRole(edge.role)))

    below: set[str] = set()
    open_ends = list(start)
    while open_ends:
        for child, _ in children.get(open_ends.pop(), []):
            if child not in below:
                below.add(child)
                open_ends.append(child)

    found: dict[tuple[str, Influence], int] = {}
    for wave in (set(start) - below, set(start)):
        queue = deque((version, start[version], 0) for version in wave)
        while queue:
            version, influence, length = queue.popleft()
            if (version, influence) in found:
                continue
            found[version, influence] = length
            for child, role in children.get(version, []):
                queue.append((child, onward(case, source, version, influence, child, role), length + 1))
    return found


def influences(case: Case, source: str) -> dict[str, set[Influence]]:
    """Snapshot -> kinds of influence."""
    found: dict[str, set[Influence]] = {}
    for version, influence in distances(case, source):
        found.setdefault(version, set()).add(influence)
    return found


def sources_above(case: Case, version: str) -> set[str]:
    """Sources whose influence reaches the version."""
    return {s.source for s in case.sources if version in influences(case, s.source)}


def combined(cases: Iterable[Case]) -> Case:
    """All graphs side by side in one."""
    listed = list(cases)
    return Case(
        [v for c in listed for v in c.versions],
        [e for c in listed for e in c.edges],
        [replace(s, source=f"{s.source}/{i}") for i, c in enumerate(listed) for s in c.sources],
    )
