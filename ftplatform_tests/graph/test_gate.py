"""The gate: anything but a pass on the current snapshots under the parameters in force is unmet."""

from dataclasses import replace

import pytest

from ftplatform.defs.checks import Check, Judging, Mode, evaluate
from ftplatform.defs.gates import unmet
from ftplatform.store import Snapshot, SnapshotDraft, Store
from ftplatform.verdict import Decision, Verdict


def verdict(decision: Decision = Decision.PASS, **extra) -> Verdict:
    fields = {"summary": "because", "statistic": "share", "n": 10, "n_required": 1, "remedy": "Do it.", "check_version": "1"}
    return Verdict(decision=decision, **{**fields, **extra})


def publish(store: Store, asset: str, content: bytes) -> Snapshot:
    draft = SnapshotDraft(asset, code_version="1", config_hash="c", environment="e")
    draft.add_bytes("data.txt", content)
    snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store.open(str(tmp_path / "store"))
    publish(store, "splits/support", b"one")
    publish(store, "eval_sets/questions", b"one")
    return store


def check_that(decision: Decision = Decision.PASS, **settings) -> Check:
    def judge(judging: Judging) -> Verdict:
        return verdict(decision)

    defaults = {"looks_at": ("eval_sets/questions",)}
    return Check(
        name="contamination_exact", asset="splits/support", judge=judge, version="1", description="d", **{**defaults, **settings}
    )


def reasons(check: Check, store: Store) -> list[str]:
    return [str(u) for u in unmet([check], store)]


def test_a_pass_on_the_current_snapshots_is_met(store):
    check = check_that()
    evaluate(check, store)
    assert unmet([check], store) == []


def test_never_run(store):
    (reason,) = unmet([check_that()], store)
    assert reason.reason == "never run"
    assert (reason.asset, reason.check) == ("splits/support", "contamination_exact")
    assert reason.snapshot == store.head("splits/support").snapshot


def test_never_built(tmp_path):
    (reason,) = unmet([check_that()], Store.open(str(tmp_path / "empty")))
    assert reason.reason == "the asset has never been built"


@pytest.mark.parametrize("decision", [Decision.FAIL, Decision.INSUFFICIENT_EVIDENCE])
def test_a_refusal_names_check_snapshot_and_reason(store, decision):
    check = check_that(decision)
    evaluate(check, store)
    (text,) = reasons(check, store)
    assert text.startswith(f"contamination_exact on splits/support@{store.head('splits/support').snapshot[:12]}: {decision}")


@pytest.mark.parametrize(
    ("decision", "settings"),
    [(Decision.WARN, {}), (Decision.FAIL, {"severity": "warn"}), (Decision.INSUFFICIENT_EVIDENCE, {"required": False})],
)
def test_what_only_warns_does_not_block(store, decision, settings):
    check = check_that(decision, **settings)
    evaluation = evaluate(check, store)
    assert evaluation.severity == "warn"
    assert unmet([check], store) == []


def test_a_crash_after_a_pass_closes_the_gate(store):
    check = check_that()
    evaluate(check, store)

    def crash(judging: Judging) -> Verdict:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        evaluate(replace(check, judge=crash), store)
    (text,) = reasons(check, store)
    assert "never finished" in text


@pytest.mark.parametrize("asset", ["splits/support", "eval_sets/questions"])
def test_an_older_snapshot_of_anything_it_looked_at_is_stale(store, asset):
    check = check_that()
    evaluate(check, store)
    publish(store, asset, b"two")
    (text,) = reasons(check, store)
    assert f"judged an older snapshot of {asset}" in text


@pytest.mark.parametrize("change", [{"threshold": 0.5}, {"version": "2"}, {"deciding": {"policy": "other"}}, {"severity": "warn"}])
def test_other_parameters_make_a_pass_stale(store, change):
    check = check_that()
    evaluate(check, store)
    (text,) = reasons(replace(check, **change), store)
    assert "other thresholds, policy or license terms" in text


def test_a_check_that_now_looks_at_more_is_unmet(store):
    evaluate(check_that(looks_at=()), store)
    (text,) = reasons(check_that(), store)
    assert "did not look at eval_sets/questions" in text


def at_night(low: float) -> Check:
    def judge(judging: Judging) -> Verdict:
        # The bound nearer to safety moves away as alpha falls: .05 shows the harm, .001 only where `low` is beyond the limit.
        bound = 0.2 if judging.alpha > 0.01 else low
        return verdict(Decision.FAIL, estimate=0.3, ci_low=bound, ci_high=0.9, threshold=0.1)

    return replace(check_that(statistical=True), judge=judge)


def test_night_needs_harm_shown_at_the_stricter_level(store):
    assert evaluate(at_night(low=0.05), store, mode=Mode.NIGHTLY).verdict.decision is Decision.WARN
    assert evaluate(at_night(low=0.15), store, mode=Mode.NIGHTLY).verdict.decision is Decision.FAIL


def test_a_nightly_result_never_replaces_the_full_strength_one(store):
    failing = at_night(low=0.05)
    evaluate(failing, store)
    evaluate(failing, store, mode=Mode.NIGHTLY)  # warns
    assert unmet([failing], store), "the weaker nightly result must not open a gate full strength had closed"


def test_harm_shown_at_night_closes_a_gate_that_was_open(store):
    passing = check_that(statistical=True)
    evaluate(passing, store)
    evaluate(at_night(low=0.15), store, mode=Mode.NIGHTLY)
    (text,) = reasons(passing, store)
    assert "nightly re-validation fail" in text


def test_the_naive_gate_errs(store):
    """Reading only "did the latest evaluation pass?" goes on with a snapshot nobody judged."""
    check = check_that()
    evaluate(check, store)
    publish(store, "splits/support", b"two")
    naive_open = store.latest_evaluation("splits/support", "contamination_exact").verdict.passed
    assert naive_open
    assert unmet([check], store)
