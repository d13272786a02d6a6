"""A project on real data: human support agents (STAR, MIT) judged against what bank customers type (MultiDoGo, CDLA)."""

from __future__ import annotations

import shutil

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.store import Store
from ftplatform.verdict import Decision
from ftplatform_tests.projects import BASE_MODEL, REPOSITORY, plan_of, save


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, shared_data):
    root = tmp_path_factory.mktemp("star")
    for name in (
        "star/star_open.jsonl.gz",
        "star/LICENSE.txt",
        "multidogo/turn_level__finance__train.tsv.gz",
        "multidogo/LICENSE.txt",
    ):
        target = root / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / name, target)
    shutil.copytree(BASE_MODEL, root / "base_model")
    shutil.copytree(REPOSITORY / "examples" / "support" / "data" / "eval", root / "eval")
    shutil.copytree(REPOSITORY / "examples" / "support" / "licenses", root / "licenses")
    mit = {"declared": "MIT", "concluded": "MIT", "evidence": "data/star/LICENSE.txt", "concluded_by": "counsel"}
    cdla = {**mit, "declared": "CDLA-Permissive-1.0", "concluded": "CDLA-Permissive-1.0", "evidence": "data/multidogo/LICENSE.txt"}
    own = {"declared": "CC0-1.0", "concluded": "CC0-1.0", "evidence": "licenses/policy_team.txt", "concluded_by": "counsel"}
    apache = {"declared": "Apache-2.0", "concluded": "Apache-2.0", "evidence": "licenses/base_model.txt", "concluded_by": "counsel"}
    project = {
        "name": "star",
        "use": ["train", "evaluate", "commercial_model"],
        "sources": {
            "star": {"path": "data/star/star_open.jsonl.gz", "reader": "star", "license": mit},
            "finance": {
                "path": "data/multidogo/turn_level__finance__train.tsv.gz",
                "fields": {"user": "utterance", "group": "conversationId"},
                "surface": "production",
                "license": cdla,
            },
        },
        "datasets": {"star": {"sources": ["star"], "production_inputs": "finance", "reserve": {"fraction": 0.02}}},
        "eval_sets": {
            "refusal-probes": {
                "path": "eval/refusal_probes.jsonl",
                "kind": "refusal_probes",
                "slice_field": "category",
                "max_new_tokens": 24,
                "license": own,
            },
            "safe-probes": {
                "path": "eval/overrefusal_probes.jsonl",
                "kind": "overrefusal_probes",
                "slice_field": "category",
                "max_new_tokens": 24,
                "license": own,
            },
        },
        "base_models": {"base": {"path": "base_model", "license": apache}},
        "adapters": {
            "agent": {
                "base": "base",
                "dataset": "star",
                "training": {"steps": 16, "batch_size": 4, "learning_rate": 0.005, "max_tokens": 1024},
            }
        },
        # People who book doctors do not write like people who lost a card, and wizards misspell; here we know and want to see the rest.
        "gates": {"input_surface_match": {"severity": "warn"}, "target_variant_share": {"severity": "warn"}},
    }
    plan = plan_of(save(root, project))
    with dg.DagsterInstance.ephemeral() as instance:
        yield plan, running.materialize(plan, instance)


def test_every_stage_up_to_an_evaluated_adapter(outcome):
    _, run = outcome
    assert not run.errors
    families = {asset.split("/")[0] for asset in run.materialized}
    assert families >= {"license_ledger", "raw", "corpora", "splits", "eval_sets", "base_models", "adapters", "eval_results"}


def test_nothing_of_the_real_data_is_lost(outcome):
    plan, _ = outcome
    store = Store.open(plan.store_url)
    for asset, read in (("raw/star", 2_694), ("raw/finance", 15_213)):
        counts = store.current(asset).facts["counts"]
        assert counts["read"] == counts["kept"] + counts["quarantined"]
        assert counts["read"] == read


def test_something_is_truthfully_refused(outcome):
    _, run = outcome
    verdicts = {(c.asset, c.name): e for c, e in run.checks if e is not None}
    surface = verdicts["splits/star", "input_surface_match"]
    assert surface.verdict.decision is Decision.FAIL
    assert surface.verdict.ci_low > 0.75
    assert surface.severity == "warn"
    variants = verdicts["corpora/star", "target_variant_share"]
    assert variants.verdict.decision is Decision.FAIL
    assert "accomodate" in {line["variant"] for line in variants.verdict.evidence}
    assert verdicts["splits/star", "contamination_exact"].verdict.decision is Decision.PASS
    assert verdicts["splits/star", "group_leakage"].verdict.decision is Decision.PASS
    # Sixteen steps on benign data are enough to lose what the base declined, or to leave it unproven; neither is released.
    refusals = verdicts["eval_results/agent", "refusal_retention"]
    assert not refusals.verdict.passed
    assert refusals.severity == "error"
    assert "releases/agent" not in run.materialized
