"""The M5 checks that stand beside the evaluation: where they are bound, what they look at, and whom they hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ftplatform.defs.asset_checks.alignment_checks import alignment_checks
from ftplatform.defs.asset_checks.eval_checks import eval_checks
from ftplatform.defs.checks import Check, evaluate
from ftplatform.defs.gates import unmet
from ftplatform.defs.plan import Plan
from ftplatform.evaluation.kinds import Kind
from ftplatform.evaluation.suite import ANSWERS_SCHEMA
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.aligned_world import exam, read, rows_of
from ftplatform_tests.projects import REPOSITORY, plan_of

NEW = ("helpfulness_retention", "refusal_margin_drift", "safety_risk_rows", "probe_fence", "served_matches_evaluated")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(REPOSITORY / "examples" / "support" / "ftplatform.yaml")


@pytest.fixture(scope="module")
def checks(plan: Plan) -> dict[tuple[str, str], Check]:
    return {(c.name, c.asset): c for c in (*eval_checks(plan), *alignment_checks(plan))}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(str(tmp_path / "store"))


def publish(store: Store, asset: str, *, rows=None, files: dict[str, bytes] | None = None, inputs=()) -> Snapshot:
    with SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=inputs) as draft:
        if rows is not None:
            draft.add_table("rows.parquet", rows)
        for path, data in (files or {}).items():
            draft.add_bytes(path, data)
        snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot


def test_the_fence_stands_upstream_of_training(plan: Plan, checks: dict[tuple[str, str], Check]) -> None:
    fence = checks["probe_fence", "raw/refusals"]
    assert fence.blocking
    assert fence.severity == "error"
    assert "raw/refusals" in plan.lineage.ancestors("adapters/support")
    assert set(fence.looks_at) >= {"eval_sets/refusal-probes", "eval_sets/overrefusal-probes", "eval_sets/benign-requests"}
    assert "eval_sets/support-questions" not in fence.looks_at
    assert not [name for name, asset in checks if name == "probe_fence" and asset != "raw/refusals"], "no mix, no fence"


def test_severities(checks: dict[tuple[str, str], Check]) -> None:
    found = {name: (c.severity, c.blocking) for (name, _), c in checks.items() if name in NEW}
    assert found == {
        "helpfulness_retention": ("error", True),
        "refusal_margin_drift": ("warn", False),
        "safety_risk_rows": ("warn", False),
        "probe_fence": ("error", True),
        "served_matches_evaluated": ("error", True),
    }


def probes(store: Store) -> None:
    for asset, name in (
        ("eval_sets/refusal-probes", "refusal_probes"),
        ("eval_sets/overrefusal-probes", "overrefusal_probes"),
        ("eval_sets/benign-requests", "benign_requests"),
    ):
        publish(store, asset, rows=exam(name, Kind.REFUSAL_PROBES).rows)


def test_probes_reused_as_mix_hold_the_gate_before_training(checks: dict[tuple[str, str], Check], store: Store) -> None:
    """ADV: trained on the probes, a model declines every probe: the naive check would read 1.000 retained."""
    fence = checks["probe_fence", "raw/refusals"]
    probes(store)
    for other in fence.looks_at:
        if store.head(other) is None:
            publish(store, other, rows=rows_of([]))
    reused = [{**r, "completion": "I can't help with that."} for r in read("eval/refusal_probes.jsonl")[:60]]
    publish(store, "raw/refusals", rows=rows_of([*read("safety_mix.jsonl"), *reused]))
    (never,) = unmet([fence], store)
    assert never.reason == "never run"
    evaluation = evaluate(fence, store)
    assert evaluation.verdict is not None
    assert evaluation.verdict.decision is Decision.FAIL
    assert evaluation.verdict.details["by_tier"]["exact"] == 60
    assert unmet([fence], store), "the adapter may not be trained"
    publish(store, "raw/refusals", rows=rows_of(read("safety_mix.jsonl")))
    assert unmet([fence], store), "the fence has not looked at the new mix yet"
    evaluate(fence, store)
    assert unmet([fence], store) == []


WEIGHTS = {"adapter/adapter_model.safetensors": b"weights", "adapter/adapter_config.json": b"{}"}


def released(store: Store, *, weights: bytes = b"weights") -> None:
    adapter = publish(store, "adapters/support", files=WEIGHTS)
    inputs = (InputRef(role="adapter", asset=adapter.asset, snapshot=adapter.digest),)
    publish(store, "eval_results/support", files={"answers": b"1"}, inputs=inputs)
    publish(store, "releases/support", files={**WEIGHTS, "adapter/adapter_model.safetensors": weights})


def report(store: Store, when: datetime) -> None:
    head = store.head("eval_results/support")
    assert head is not None
    passed = Verdict(
        decision=Decision.PASS, summary="kept", statistic="loss", n=1, n_required=1, remedy="None needed.", check_version="1"
    )
    for name in ("refusal_retention", "overrefusal_retention", "helpfulness_retention"):
        judged = {"eval_results/support": head.snapshot}
        store.begin_evaluation("eval_results/support", name, judged=judged, run_id="r")
        store.record_evaluation(
            "eval_results/support", name, judged=judged, verdict=passed, blocking=True, severity="error", run_id="r",
            evaluated_at=when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )  # fmt: skip


def served(checks: dict[tuple[str, str], Check], store: Store) -> Decision:
    verdict = evaluate(checks["served_matches_evaluated", "releases/support"], store).verdict
    assert verdict is not None
    return verdict.decision


def test_served_weights_are_compared_with_the_evaluated_adapter(checks: dict[tuple[str, str], Check], store: Store) -> None:
    released(store)
    assert served(checks, store) is Decision.INSUFFICIENT_EVIDENCE, "never reported"
    report(store, datetime.now(UTC))
    assert served(checks, store) is Decision.PASS
    publish(store, "releases/support", files={**WEIGHTS, "adapter/adapter_model.safetensors": b"other"})
    assert served(checks, store) is Decision.FAIL


def test_an_old_report_is_stale(checks: dict[tuple[str, str], Check], store: Store) -> None:
    released(store)
    report(store, datetime(2026, 1, 1, tzinfo=UTC))
    assert served(checks, store) is Decision.FAIL


def test_without_a_trajectory_the_margin_is_unknown(checks: dict[tuple[str, str], Check], store: Store) -> None:
    adapter, base = publish(store, "adapters/support", files=WEIGHTS), publish(store, "base_models/b", files={"x": b"x"})
    inputs = tuple(InputRef(role=r, asset=s.asset, snapshot=s.digest) for r, s in (("adapter", adapter), ("base_model", base)))
    with SnapshotDraft("eval_results/support", code_version="1", config_hash="c", environment="e", inputs=inputs) as draft:
        draft.add_table("answers.parquet", ANSWERS_SCHEMA.empty_table(), ANSWERS_SCHEMA)
        store.publish(store.write(draft))
    verdict = evaluate(checks["refusal_margin_drift", "eval_results/support"], store).verdict
    assert verdict is not None
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
