"""What a removal costs: which assets to rebuild, in which order, what rests meanwhile. Nothing else is touched."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ftplatform.errors import InputDataError
from ftplatform.licensing.removal.closure import SHAPING
from ftplatform.licensing.rights import EdgeRole

#: Roles in which a model shapes its child. Looking at row ids does not undo that.
_MODEL_ROLES = SHAPING - {EdgeRole.ROWS, EdgeRole.PROMPT_SEED}


class Action(StrEnum):
    """What to do with an asset."""

    REMOVE = "remove"
    """All of its rows are banned, or it is a banned model from outside: nothing of it is left."""
    REBUILD = "rebuild"
    """Make it again without the banned rows."""
    EVALUATE = "evaluate again"
    """The asset itself is untouched; what it was measured with, or measures, changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One asset of the graph.

    Attributes:
        parents: what it is made from, with the role; `ROWS` for whatever carries its parent's content over, as a release does.
        rows: how many rows it holds; 0 for a model.
        banned_rows: how many of them fall (`taint`); None if nobody has looked.
        banned: it is itself named by the notice (a model, a teacher).
        endpoints: what answers with it in production.
        gpu_hours: measured cost of making it; None if it was never measured.
    """

    name: str
    parents: tuple[tuple[str, EdgeRole], ...] = ()
    rows: int = 0
    banned_rows: int | None = 0
    banned: bool = False
    endpoints: tuple[str, ...] = ()
    gpu_hours: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the plan.

    Attributes:
        because: why, in a few words.
        start_from: for a continued adapter, the base model to start from again.
        serves: the live endpoints that wait for it.
    """

    asset: str
    action: Action
    because: str
    start_from: str | None
    serves: tuple[str, ...]
    gpu_hours: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The minimal recompute set of a removal.

    Attributes:
        live: (endpoint, the asset it answers with) wherever that asset is affected; look at these first. The plan stops none of them.
        quarantine: assets that may not be used for anything new until their step is done.
        steps: in an order in which every asset comes after what it is made from; those that live endpoints wait for come first.
        untouched: how many assets need nothing.
    """

    live: tuple[tuple[str, str], ...]
    quarantine: tuple[str, ...]
    steps: tuple[Step, ...]
    untouched: int

    @property
    def gpu_hours(self) -> float:
        """Sum over the steps that were measured before; a lower bound if `unmeasured` is not empty."""
        return sum(step.gpu_hours or 0.0 for step in self.steps)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Steps whose cost nobody has measured."""
        return tuple(step.asset for step in self.steps if step.gpu_hours is None and step.action is not Action.REMOVE)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "live": [{"endpoint": endpoint, "asset": asset} for endpoint, asset in self.live],
            "quarantine": list(self.quarantine),
            "steps": [{**asdict(step), "action": str(step.action), "serves": list(step.serves)} for step in self.steps],
            "gpu_hours": self.gpu_hours,
            "unmeasured": list(self.unmeasured),
            "untouched": self.untouched,
        }

    def to_rows(self) -> list[dict[str, str | int | float | bool | None]]:
        """One flat line per step, for a table."""
        return [
            {
                "step": number,
                "asset": step.asset,
                "action": str(step.action),
                "because": step.because,
                "start_from": step.start_from,
                "serves": ", ".join(step.serves),
                "gpu_hours": step.gpu_hours,
            }
            for number, step in enumerate(self.steps, 1)
        ]


def removal_plan(assets: Iterable[Asset]) -> Plan:
    """What to rebuild so that no row that falls is left.

    An asset that holds rows is touched if some of them fall; what upstream of it held more does not matter, since the rows were
    dropped on the way. An asset without rows, or of unknown ones, is touched if something that shaped it is. What is only evaluated by,
    or evaluates, a touched asset is measured again.

    Raises:
        InputDataError: if a name occurs twice, a parent is unknown, or the graph has a cycle.
    """
    graph: dict[str, Asset] = {}
    for asset in assets:
        if asset.name in graph:
            raise InputDataError(f"two assets are named {asset.name}.", remedy="Give each asset once.")
        graph[asset.name] = asset
    order = _topological({name: [parent for parent, _ in asset.parents] for name, asset in graph.items()}, {})
    why: dict[str, tuple[Action, str]] = {}
    for name in order:
        if (found := _judge(graph[name], why)) is not None:
            why[name] = found
    serves = _serves(graph, order)
    steps = [
        Step(
            asset=name,
            action=why[name][0],
            because=why[name][1],
            start_from=_start(name, graph, why),
            serves=tuple(sorted(serves[name])),
            gpu_hours=graph[name].gpu_hours,
        )
        for name in _topological(
            {name: [parent for parent, _ in graph[name].parents if parent in why] for name in why},
            {name: -1 for name, waiting in serves.items() if waiting},
        )
    ]
    return Plan(
        live=tuple(sorted((endpoint, name) for name in why for endpoint in graph[name].endpoints)),
        quarantine=tuple(sorted(name for name, (action, _) in why.items() if action is not Action.EVALUATE)),
        steps=tuple(steps),
        untouched=len(graph) - len(why),
    )


def _judge(asset: Asset, why: Mapping[str, tuple[Action, str]]) -> tuple[Action, str] | None:
    if asset.banned:
        return Action.REMOVE, "named by the notice"
    if asset.banned_rows:
        gone = asset.banned_rows >= asset.rows
        return Action.REMOVE if gone else Action.REBUILD, f"{asset.banned_rows} of {asset.rows} rows fall"
    shaped = [(name, role) for name, role in asset.parents if role in SHAPING and _changed(why.get(name))]
    knows_its_rows = asset.rows > 0 and asset.banned_rows is not None
    by_model = [parent for parent in shaped if parent[1] in _MODEL_ROLES]
    if shaped and (not knows_its_rows or by_model):
        name, role = (by_model or shaped)[0]
        return Action.REBUILD, f"{role} {name}"
    if asset.banned_rows is None and not asset.parents:
        return Action.REBUILD, "nobody has looked at its rows"
    measured = [name for name, role in asset.parents if role is EdgeRole.EVALUATES and name in why]
    return (Action.EVALUATE, f"evaluated with {measured[0]}") if measured else None


def _changed(found: tuple[Action, str] | None) -> bool:
    return found is not None and found[0] is not Action.EVALUATE


def _start(name: str, graph: Mapping[str, Asset], why: Mapping[str, tuple[Action, str]]) -> str | None:
    """The base model at the root of a chain of continued adapters, if the chain is broken."""
    current, continued = graph[name], False
    while earlier := [parent for parent, role in current.parents if role is EdgeRole.CONTINUED_ADAPTER]:
        continued |= _changed(why.get(earlier[0]))
        current = graph[earlier[0]]
    bases = [parent for parent, role in current.parents if role is EdgeRole.BASE_MODEL]
    return bases[0] if continued and bases and not _changed(why.get(bases[0])) else None


def _serves(graph: Mapping[str, Asset], order: Sequence[str]) -> dict[str, set[str]]:
    serves: dict[str, set[str]] = {name: set(asset.endpoints) for name, asset in graph.items()}
    for name in reversed(order):
        for parent, role in graph[name].parents:
            if role in SHAPING:
                serves[parent] |= serves[name]
    return serves


def _topological(parents: Mapping[str, Sequence[str]], priority: Mapping[str, int]) -> list[str]:
    """Parents first; among what is possible, lower priority values first, then by name (Kahn 1962)."""
    waiting: dict[str, int] = {name: len(made_from) for name, made_from in parents.items()}
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, made_from in parents.items():
        for parent in made_from:
            if parent not in parents:
                raise InputDataError(f"{parent}, a parent of {name}, is unknown.", remedy="Give every asset of the graph.")
            children[parent].append(name)
    ready = [(priority.get(name, 0), name) for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(name)
        for child in children[name]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, (priority.get(child, 0), child))
    if len(order) < len(parents):
        raise InputDataError(
            f"the graph has a cycle through {min(set(parents) - set(order))}.", remedy="An asset cannot be made from itself."
        )
    return order
