"""The blast radius of a source: which versions it reached, by which way, how strongly, and what it would take to undo."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ftplatform.licensing.blast_radius.graph import Filters, Graph, Indices, Mask, closure, spread
from ftplatform.licensing.blast_radius.lineage import (
    ADAPTERS,
    CARRIED,
    ENDPOINTS,
    EVALUATIONS,
    RELEASES,
    TRAINING_ROLES,
    Influence,
    LineageRole,
)

#: Versions that a record or table lists unless asked for more; counts always cover all.
LISTED = 100


@dataclass(frozen=True, slots=True)
class Step:
    """A version on the way from the source: `role` is how the one before entered it (None at the first), `influence` what it has there."""

    snapshot: str
    asset: str
    role: LineageRole | None
    influence: Influence


@dataclass(frozen=True, slots=True)
class Affected:
    """A version that the source reached.

    Attributes:
        influences: every kind of influence it is under, strongest first.
        path: shortest way for the strongest of them.
        tainted_rows: rows of the source in it; 0 only if its provenance is complete, else None for "nobody counted".
        shared_rows: of those, rows that another source offers as well.
        derived_rows: rows made from rows of the source.
        token_share: of its tokens, the share in tainted and derived rows.
        step_share: of its optimizer steps, the share that saw one of them.
        gpu_seconds: what training it took; None if not measured.
    """

    snapshot: str
    asset: str
    family: str
    created_at: str | None
    live: bool
    owner: str | None
    influences: tuple[Influence, ...]
    path: tuple[Step, ...]
    tainted_rows: int | None
    shared_rows: int | None
    derived_rows: int | None
    token_share: float | None
    step_share: float | None
    gpu_seconds: float | None

    def to_record(self) -> dict[str, Any]:
        """JSON-able."""
        record = asdict(self)
        record["influences"] = [influence.label for influence in self.influences]
        record["path"] = [
            {"snapshot": s.snapshot, "asset": s.asset, "role": s.role and str(s.role), "influence": s.influence.label}
            for s in self.path
        ]
        return record


@dataclass(frozen=True, slots=True)
class Retraining:
    """Adapters that would have to be trained again without the source.

    Attributes:
        adapters: how many.
        unmeasured: how many of them have no recorded cost.
        gpu_seconds: recorded cost of the others together, so a lower bound if `unmeasured`; None if none was ever measured.
    """

    adapters: int
    unmeasured: int
    gpu_seconds: float | None

    @property
    def gpu_hours(self) -> float | None:
        """`gpu_seconds` in hours."""
        return None if self.gpu_seconds is None else self.gpu_seconds / 3600


@dataclass(frozen=True, slots=True)
class Reach:
    """What a source means to one version and to what was made from it.

    Attributes:
        affected: the version itself, or None if the source did not reach it.
        evaluations, endpoints: affected eval results, and live endpoints, among what was made from the version.
        retraining: what it takes to train the version again, with every affected adapter it was continued from.
    """

    source: str
    affected: Affected | None
    evaluations: tuple[Affected, ...]
    endpoints: tuple[Affected, ...]
    retraining: Retraining


class BlastRadius:
    """Everything downstream of a source. Build one with `GraphIndex.blast_radius`; details are worked out when asked for."""

    def __init__(self, source: str, graph: Graph, carriers: pl.DataFrame, *, exhaustive: bool) -> None:
        """From a graph that holds at least everything downstream.

        Args:
            source: its name.
            graph: versions and edges.
            carriers: versions that hold it, columns `statements.CARRIER_FIELDS`.
            exhaustive: no other version holds it.
        """
        self.source = source
        self._graph = graph
        self._carriers = carriers
        self._exhaustive = exhaustive
        nodes = graph.positions(carriers["version"].to_numpy())
        influences = CARRIED[Influence.CONTENT, carriers["role"].to_numpy()]
        self._spread = spread(graph, nodes, influences, self._filters(nodes, influences))

    def __len__(self) -> int:
        """How many versions are affected."""
        return len(self._nodes)

    # ---- as tables -------------------------------------------------------------------------------------------------------

    @cached_property
    def versions(self) -> pl.DataFrame:
        """All affected versions: live endpoints, live releases, adapters, the rest; in each, live ones first, then the newest.

        Columns: `node` (internal), `snapshot`, `asset`, `family`, `created_at`, `live`, `owner`, `influence` (the strongest),
        `influences` (bit k is set for influence k), `hops` (edges on the path), `tainted_rows`, `shared_rows`, `derived_rows`,
        `token_share`, `step_share`, `gpu_seconds`.
        """
        reached = self._spread.reached[self._nodes]
        strongest = reached.argmax(axis=1)
        frame = self._graph.versions[self._nodes].with_columns(
            pl.Series("node", self._nodes),
            pl.Series("influence", [influence.label for influence in Influence])[strongest].alias("influence"),
            pl.Series("influences", reached @ (1 << np.arange(len(Influence)))),
            pl.Series("hops", self._spread.hops.reshape(-1, len(Influence))[self._nodes, strongest]),
            pl.col("live", "provenance_complete").cast(pl.Boolean),
        )
        held = self._carriers.select(
            pl.col("version").alias("id"),
            pl.col("n_rows").alias("tainted_rows"),
            "shared_rows",
            "derived_rows",
            pl.col("tokens").alias("source_tokens"),
            "step_share",
        )
        frame = frame.join(held, on="id", how="left", maintain_order="left")
        clean = pl.col("provenance_complete") & ~pl.col("id").is_in(self._carriers["version"].implode()) & self._exhaustive
        nothing = pl.when(clean).then(0)
        frame = frame.with_columns(
            pl.col("tainted_rows", "shared_rows", "derived_rows").fill_null(nothing),
            pl.when(clean).then(0.0).otherwise(pl.col("source_tokens") / pl.col("tokens").replace(0, None)).alias("token_share"),
            pl.col("step_share").fill_null(pl.when(clean).then(0.0)),
        )
        rank = (
            pl.when(pl.col("live") & (pl.col("family") == ENDPOINTS)).then(0)
            .when(pl.col("live") & (pl.col("family") == RELEASES)).then(1)
            .when(pl.col("family") == ADAPTERS).then(2)
            .otherwise(3)
        )  # fmt: skip
        frame = frame.with_columns(rank.alias("_rank")).sort(
            ["_rank", "live", "created_at", "asset", "snapshot"], descending=[False, True, True, False, False], nulls_last=True
        )
        return frame.select(_COLUMNS)

    def by_family(self) -> pl.DataFrame:
        """Columns `family`, `versions`, `live`, and the number of versions by strongest influence; most versions first."""
        counts = [(pl.col("influence") == i.label).sum().cast(pl.Int64).alias(i.label) for i in Influence]
        return (
            self.versions.group_by("family")
            .agg(pl.len().cast(pl.Int64).alias("versions"), pl.col("live").sum().cast(pl.Int64), *counts)
            .sort("versions", "family", descending=[True, False])
        )

    # ---- one by one ------------------------------------------------------------------------------------------------------

    def listed(self, limit: int | None = LISTED) -> list[Affected]:
        """The first `limit` of `versions`, each with its path."""
        return self._affected(self.versions.head(self.versions.height if limit is None else limit))

    def live(self) -> tuple[Affected, ...]:
        """All that are live."""
        return tuple(self._affected(self.versions.filter("live")))

    def find(self, snapshot: str) -> Affected | None:
        """One version, or None if the source did not reach it."""
        found = self._affected(self.versions.filter(pl.col("snapshot") == snapshot))
        return found[0] if found else None

    def path(self, snapshot: str, influence: Influence | None = None) -> tuple[Step, ...]:
        """Shortest way from the source to a version by which it is under `influence` (the strongest if None); empty if there is none."""
        node = self._graph.position(snapshot)
        if node is None:
            return ()
        kinds = np.flatnonzero(self._spread.reached[node])
        if not len(kinds) or (influence is not None and influence not in kinds):
            return ()
        return self._path(node, Influence(int(kinds[0])) if influence is None else influence)

    # ---- what to do about it ---------------------------------------------------------------------------------------------

    def retraining(self) -> Retraining:
        """Adapters under content or behavior that are live, or that something live was made from."""
        live = self._graph.versions["live"].to_numpy().astype(bool)
        return self._retraining(np.flatnonzero(live & self._trained_in))

    def reach(self, snapshot: str, downstream: Collection[str]) -> Reach:
        """What the source means to one version.

        Args:
            downstream: snapshots made from it (`GraphIndex.downstream`): also what was claimed about a version that the source never
                reached may rest on the source.
        """
        made_from_it = self.versions.filter(pl.col("snapshot").is_in(list(downstream)))
        affected = self.find(snapshot)
        node = self._graph.position(snapshot)
        targets = np.array([node] if affected is not None and node is not None else [], dtype=np.int64)
        return Reach(
            self.source,
            affected,
            tuple(self._affected(made_from_it.filter(pl.col("family").is_in(EVALUATIONS)))),
            tuple(self._affected(made_from_it.filter(pl.col("live"), pl.col("family") == ENDPOINTS))),
            self._retraining(targets),
        )

    # ---- for people ------------------------------------------------------------------------------------------------------

    def table_rows(self, limit: int | None = LISTED) -> list[dict[str, str | int | float | None]]:
        """Flat rows for a terminal or an HTML table; the path as ``raw/a -> corpora/b (rows) -> ...``."""
        return [
            {
                "asset": a.asset,
                "snapshot": a.snapshot[:12],
                "live": "live" if a.live else "",
                "influence": ", ".join(influence.label for influence in a.influences),
                "tainted_rows": a.tainted_rows,
                "token_share": a.token_share,
                "step_share": a.step_share,
                "derived_rows": a.derived_rows,
                "owner": a.owner,
                "path": path_text(a.path),
            }
            for a in self.listed(limit)
        ]

    def to_record(self, limit: int | None = LISTED) -> dict[str, Any]:
        """JSON-able: counts over everything, and the first `limit` versions."""
        retraining = self.retraining()
        return {
            "source": self.source,
            "versions": len(self),
            "live": int(self.versions["live"].sum()),
            "families": self.by_family().to_dicts(),
            "evaluations": int(self.versions["family"].is_in(EVALUATIONS).sum()),
            "live_endpoints": int(self.versions.select((pl.col("live") & (pl.col("family") == ENDPOINTS)).sum()).item()),
            "retraining": asdict(retraining),
            "affected": [affected.to_record() for affected in self.listed(limit)],
            "not_listed": 0 if limit is None else max(0, len(self) - limit),
        }

    # ---- parts -----------------------------------------------------------------------------------------------------------

    def _filters(self, nodes: Indices, influences: Indices) -> Filters:
        def flags(of: Indices) -> Mask:
            mask = np.zeros(self._graph.nodes, dtype=bool)
            mask[of] = True
            return mask

        holders = flags(nodes[influences == Influence.CONTENT])
        own = (pl.col("derived_rows") == 0).fill_null(False).alias("own")
        derived = (pl.col("n_rows") == 0).fill_null(False).alias("derived")
        only = self._carriers.select(own, derived)
        return Filters(
            without=self._graph.complete & ~holders if self._exhaustive else flags(nodes[:0]),
            own=flags(nodes[only["own"].to_numpy()]),
            derived=flags(nodes[only["derived"].to_numpy()]),
        )

    @cached_property
    def _nodes(self) -> Indices:
        return np.flatnonzero(self._spread.reached.any(axis=1))

    @cached_property
    def _trained_in(self) -> Mask:
        """Nodes whose weights or rows the source is in."""
        return self._spread.reached[:, Influence.CONTENT] | self._spread.reached[:, Influence.BEHAVIOR]

    def _path(self, node: int, influence: Influence) -> tuple[Step, ...]:
        versions = self._graph.versions
        trail = self._spread.trail(node, influence)
        return tuple(Step(versions["snapshot"][n], versions["asset"][n], role, kind) for n, kind, role in trail)

    def _affected(self, frame: pl.DataFrame) -> list[Affected]:
        return [
            Affected(
                **{name: row[name] for name in _PLAIN},
                influences=tuple(influence for influence in Influence if row["influences"] >> influence & 1),
                path=self._path(row["node"], Influence[row["influence"].upper()]),
            )
            for row in frame.iter_rows(named=True)
        ]

    def _retraining(self, targets: Indices) -> Retraining:
        """Affected adapters among `targets` and what they were trained from."""
        family = self._graph.versions["family"].to_numpy()
        needed = closure(self._graph.up, targets, TRAINING_ROLES) & self._trained_in & (family == ADAPTERS)
        costs = self._graph.versions["gpu_seconds"].filter(pl.Series(needed))
        measured = costs.drop_nulls()
        return Retraining(len(costs), len(costs) - len(measured), float(measured.sum()) if len(measured) else None)


def path_text(path: Collection[Step]) -> str:
    """``raw/a -> corpora/b (rows) -> adapters/c (rows)``."""
    return " -> ".join(step.asset if step.role is None else f"{step.asset} ({step.role})" for step in path)


_COLUMNS = [
    "node", "snapshot", "asset", "family", "created_at", "live", "owner", "influence", "influences", "hops", "tainted_rows",
    "shared_rows", "derived_rows", "token_share", "step_share", "gpu_seconds",
]  # fmt: skip
_PLAIN = [name for name in _COLUMNS if name not in {"node", "influence", "influences", "hops"}]
