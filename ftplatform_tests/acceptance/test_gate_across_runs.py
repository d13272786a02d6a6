"""The gate on a real Dagster run: a check of one run stops the training of the next."""

from __future__ import annotations

import json
from dataclasses import replace

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.checks import evaluate
from ftplatform.store import Store
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def store_of(plan) -> Store:
    return Store.open(plan.store_url)


def leak(project: dict) -> None:
    """Put an eval question into the training data, word for word."""
    project["datasets"]["one"]["sources"] = ["tickets", "leaked"]
    project["sources"]["leaked"] = {**project["sources"]["tickets"], "path": "data/leaked.jsonl"}


@pytest.fixture
def leaking(tmp_path):
    file = small_project(tmp_path, leak)
    question = (tmp_path / "data" / "questions.jsonl").read_text().splitlines()[0]
    prompt = json.loads(question)["prompt"]
    answer = "It is on its way and will be with you tomorrow before noon."
    write_jsonl(
        tmp_path / "data" / "leaked.jsonl",
        [{"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}],
    )
    return plan_of(file)


UPSTREAM = (
    'key:"splits/one" or key:"corpora/one" or key:"raw/*" or key:"base_models/*" or key:"eval_sets/*" or key:"license_ledger"'
)


def test_a_blocking_failure_of_run_1_refuses_the_adapter_alone_in_run_2(leaking, instance):
    first = running.materialize(leaking, instance, UPSTREAM)
    assert not first.success
    failed = {c.name for c, e in first.checks if c.blocking and e and e.verdict and not e.verdict.passed}
    assert failed == {"contamination_exact", "contamination_near", "contamination_paraphrase"}

    second = running.materialize(leaking, instance, "adapters/first")
    assert second.materialized == ()
    (reason,) = second.refusals.values()
    snapshot = store_of(leaking).head("splits/one").snapshot
    assert f"contamination_exact on splits/one@{snapshot[:12]}: fail" in reason
    assert store_of(leaking).head("adapters/first") is None

    assert all(check.asset != "adapters/first" or check.name != "contamination_exact" for check in leaking.checks)


def test_every_other_reason_refuses_too(tmp_path, instance):
    file = small_project(tmp_path)
    plan = plan_of(file)
    assert running.materialize(plan, instance, UPSTREAM).success
    store = store_of(plan)
    by_id = {c.id: c for c in plan.checks}
    check = by_id["splits/one:contamination_exact"]

    def refused(plan_) -> str:
        outcome = running.materialize(plan_, instance, "adapters/first")
        assert outcome.materialized == ()
        (reason,) = outcome.refusals.values()
        return reason

    # crashed after it had passed
    def crash(judging):
        raise MemoryError("killed")

    with pytest.raises(MemoryError):
        evaluate(replace(check, judge=crash), store)
    assert "never finished: crashed, killed or still running" in refused(plan)
    evaluate(check, store)

    # an older snapshot: the eval set changed after the check
    path = tmp_path / "data" / "questions.jsonl"
    path.write_text(path.read_text() + '{"prompt": "is there anything new about the antenna", "completion": "no"}\n')
    assert running.materialize(plan, instance, "eval_sets/questions").success
    reason = refused(plan)
    assert "contamination_exact on splits/one" in reason
    assert "judged an older snapshot of eval_sets/questions" in reason
    assert running.check(plan, instance, "splits/one").success

    # other terms: the license of a source that is in the mix
    changed = edit(file, lambda p: p["sources"]["tickets"]["license"].update(concluded="Apache-2.0", declared="Apache-2.0"))
    assert "license_allows_use on raw/tickets" in refused(changed)
    plan = edit(file, lambda p: p["sources"]["tickets"]["license"].update(concluded="MIT", declared="MIT"))

    # and once everything holds again, it trains
    outcome = running.materialize(plan, instance, "adapters/first")
    assert outcome.materialized == ("adapters/first",), outcome
    assert store.head("adapters/first") is not None


def test_never_run_refuses_and_a_warning_does_not(tmp_path, instance):
    file = small_project(tmp_path)
    plan = plan_of(file)
    for asset in ("license_ledger", *plan.lineage.ancestors("adapters/first"), "eval_sets/questions"):
        definitions_of(plan, asset, instance)
    reason = next(iter(running.materialize(plan, instance, "adapters/first").refusals.values()))
    assert "row_schema on raw/tickets" in reason
    assert "never run" in reason
    assert running.check(plan, instance).success

    leaky = edit(file, lambda p: p.update(gates={"slice_survival": {"severity": "warn"}}))
    assert running.check(leaky, instance).success
    assert running.materialize(leaky, instance, "adapters/first").materialized == ("adapters/first",)


def definitions_of(plan, asset, instance):
    """Materialize one asset without its checks, as anybody can from the UI."""
    from ftplatform.defs.build import build_defs

    definitions = build_defs(plan.loaded)
    job = dg.define_asset_job("bare", selection=dg.AssetSelection.assets(asset.split("/")).without_checks())
    resolved = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("bare")
    assert resolved.execute_in_process(instance=instance).success
