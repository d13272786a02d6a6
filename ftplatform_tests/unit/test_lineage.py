"""The graph's shape from the project file alone."""

from ftplatform.defs.lineage import Lineage
from ftplatform.project.models import Project

PROJECT = Project.model_validate(
    {
        "name": "shape",
        "sources": {"tickets": {"path": "t.jsonl"}, "refusals": {"path": "r.jsonl"}, "typed": {"path": "p.jsonl"}},
        "synthetic": {"made": {"path": "s.jsonl", "teacher": {"id": "t"}, "seeds": ["tickets"]}},
        "feedback": {"thumbs": {"path": "f.jsonl"}},
        "datasets": {"mix": {"sources": ["tickets"], "synthetic": ["made"], "feedback": ["thumbs"]}},
        "eval_sets": {"questions": {"path": "q.jsonl"}, "other": {"path": "o.jsonl"}},
        "base_models": {"base": {"path": "base"}},
        "adapters": {
            "released": {"base": "base", "dataset": "mix", "safety_mix": {"source": "refusals"}, "evals": ["questions"]},
            "experiment": {"base": "base", "dataset": "mix", "release": "false"},
        },
        "rewards": {"thumbs-up": {"path": "w.jsonl"}},
        "endpoints": {"chat": {"path": "l.jsonl"}},
    }
)
LINEAGE = Lineage(PROJECT)


def test_every_family_is_there():
    assert {asset.split("/")[0] for asset in LINEAGE.assets} == {
        "license_ledger", "raw", "synthetic", "feedback", "corpora", "splits", "eval_sets", "base_models",
        "adapters", "eval_results", "reward_ledgers", "serving", "releases",
    }  # fmt: skip


def test_parents_come_before_children():
    position = {asset: i for i, asset in enumerate(LINEAGE.assets)}
    assert all(position[parent] < position[asset] for asset, parents in LINEAGE.parents.items() for parent in parents)


def test_ancestors_follow_seeds_and_the_safety_mix():
    assert LINEAGE.ancestors("adapters/released") == (
        "raw/tickets", "raw/refusals", "synthetic/made", "feedback/thumbs", "base_models/base", "corpora/mix", "splits/mix",
    )  # fmt: skip
    assert "eval_sets/other" not in LINEAGE.ancestors("eval_results/released")


def test_descendants_are_exactly_what_is_built_from_it():
    assert LINEAGE.descendants(["raw/refusals"]) == (
        "raw/refusals",
        "adapters/released",
        "eval_results/released",
        "releases/released",
    )
    assert LINEAGE.descendants(["raw/typed"]) == ("raw/typed",)


def test_an_experiment_has_no_release_and_requires_nothing():
    assert "releases/experiment" not in LINEAGE.parents
    assert LINEAGE.is_upstream_of_release("splits/mix")
    assert not LINEAGE.is_upstream_of_release("adapters/experiment")
    assert not LINEAGE.is_upstream_of_release("serving/chat")
