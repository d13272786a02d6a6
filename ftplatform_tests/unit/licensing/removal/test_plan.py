"""The minimal recompute set."""

from __future__ import annotations

import json

import pytest

from ftplatform.errors import InputDataError
from ftplatform.licensing.removal.plan import Action, Asset, removal_plan
from ftplatform.licensing.rights import EdgeRole as Role

GRAPH = [
    Asset(name="raw/a", rows=100),
    Asset(name="raw/b", rows=50, banned_rows=50),
    Asset(name="raw/c", rows=80, banned_rows=4, gpu_hours=0.0),
    Asset(name="base_models/m"),
    Asset(name="corpora/x", parents=(("raw/a", Role.ROWS), ("raw/b", Role.ROWS)), rows=150, banned_rows=50, gpu_hours=0.1),
    # All of B's rows were dropped here before: nothing to do.
    Asset(name="corpora/filtered", parents=(("raw/a", Role.ROWS), ("raw/b", Role.ROWS)), rows=100, banned_rows=0),
    Asset(name="adapters/old", parents=(("corpora/x", Role.ROWS), ("base_models/m", Role.BASE_MODEL)), gpu_hours=2.0),
    Asset(
        name="adapters/new",
        parents=(("corpora/filtered", Role.ROWS), ("adapters/old", Role.CONTINUED_ADAPTER)),
        gpu_hours=3.0,
        endpoints=("api",),
    ),
    Asset(name="adapters/fine", parents=(("corpora/filtered", Role.ROWS), ("base_models/m", Role.BASE_MODEL)), endpoints=("chat",)),
    Asset(name="aaa/offline", parents=(("corpora/x", Role.ROWS),)),
    Asset(name="eval_results/new", parents=(("adapters/new", Role.EVALUATES),), gpu_hours=0.5),
    Asset(name="deduped", parents=(("corpora/filtered", Role.ROWS), ("raw/b", Role.SELECTION)), rows=90),
]


def test_only_what_is_touched_in_an_order_that_works_live_first() -> None:
    plan = removal_plan(GRAPH)
    order = [step.asset for step in plan.steps]
    assert set(order) == {"raw/b", "raw/c", "corpora/x", "adapters/old", "adapters/new", "aaa/offline", "eval_results/new"}
    assert order.index("raw/b") < order.index("corpora/x") < order.index("adapters/old") < order.index("adapters/new")
    assert order.index("adapters/new") < order.index("aaa/offline"), "nobody waits for the offline one"
    assert plan.live == (("api", "adapters/new"),)
    assert plan.untouched == 5
    steps = {step.asset: step for step in plan.steps}
    assert steps["raw/b"].action is Action.REMOVE
    assert steps["raw/c"].because == "4 of 80 rows fall"
    assert steps["eval_results/new"].action is Action.EVALUATE
    assert steps["adapters/new"].start_from == "base_models/m"
    assert steps["adapters/old"].start_from is None
    assert "eval_results/new" not in plan.quarantine
    assert plan.gpu_hours == pytest.approx(5.6)
    assert plan.unmeasured == ("aaa/offline",)


def test_naive_reachability_rebuilds_what_is_clean() -> None:
    children: dict[str, set[str]] = {}
    for asset in GRAPH:
        for parent, _ in asset.parents:
            children.setdefault(parent, set()).add(asset.name)
    reached, queue = set(), ["raw/b", "raw/c"]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in reached:
                reached.add(child)
                queue.append(child)
    assert {"corpora/filtered", "adapters/fine", "deduped"} <= reached - {step.asset for step in removal_plan(GRAPH).steps}


def test_unknown_rows_count_as_touched_and_banned_models_reach_their_rows() -> None:
    plan = removal_plan(
        [
            Asset(name="teacher:t", banned=True),
            Asset(name="synthetic/x", parents=(("teacher:t", Role.TEACHER),), rows=10, banned_rows=0),
            Asset(name="splits/s", parents=(("synthetic/x", Role.ROWS),), rows=10, banned_rows=None),
            Asset(name="raw/unread", banned_rows=None),
        ]
    )
    assert {step.asset: step.because for step in plan.steps} == {
        "teacher:t": "named by the notice",
        "synthetic/x": "teacher teacher:t",
        "splits/s": "rows synthetic/x",
        "raw/unread": "nobody has looked at its rows",
    }


def test_nothing_to_do() -> None:
    plan = removal_plan([Asset(name="raw/a", rows=3)])
    assert (plan.steps, plan.untouched, plan.gpu_hours) == ((), 1, 0.0)


def test_for_machines_and_tables() -> None:
    plan = removal_plan(GRAPH)
    assert json.loads(json.dumps(plan.to_json()))["steps"][0]["action"] in set(Action)
    assert [line["step"] for line in plan.to_rows()] == list(range(1, len(plan.steps) + 1))
    assert {line["gpu_hours"] for line in plan.to_rows() if line["asset"] == "aaa/offline"} == {None}


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        ([Asset(name="a", parents=(("b", Role.ROWS),))], "a parent of a, is unknown"),
        ([Asset(name="a", parents=(("b", Role.ROWS),)), Asset(name="b", parents=(("a", Role.ROWS),))], "cycle through a"),
        ([Asset(name="a"), Asset(name="a")], "two assets are named a"),
    ],
)
def test_graphs_that_are_none(assets: list[Asset], message: str) -> None:
    with pytest.raises(InputDataError, match=message):
        removal_plan(assets)
