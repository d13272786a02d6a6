"""The promises of `Verdict`: no pass from nothing, bounds in order, bounded evidence, a faithful record."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.canonical import canonical_json
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict


def verdict(**changes: Any) -> Verdict:
    settings: dict[str, Any] = {
        "decision": Decision.PASS,
        "summary": "12 of 300 rows differ, upper bound 6.4 %.",
        "statistic": "share of rows that differ",
        "n": 300,
        "n_required": 248,
        "remedy": "Nothing to do.",
        "check_version": "1",
    }
    return Verdict(**(settings | changes))


@settings(deadline=None)
@given(st.integers(-5, 500), st.integers(-5, 500), st.sampled_from(Decision))
def test_a_pass_needs_its_observations(n, n_required, decision):
    enough = n >= max(1, n_required)
    if decision is Decision.PASS and not enough:
        with pytest.raises(ValueError, match="insufficient_evidence"):
            verdict(decision=decision, n=n, n_required=n_required)
    else:
        assert verdict(decision=decision, n=n, n_required=n_required).passed == (decision is Decision.PASS)


def test_an_empty_input_never_passes_even_if_nothing_is_required():
    with pytest.raises(ValueError, match="at least 1 observations and this one has 0"):
        verdict(n=0, n_required=0)


@pytest.mark.parametrize("decision", [Decision.WARN, Decision.FAIL, Decision.INSUFFICIENT_EVIDENCE])
def test_only_a_pass_passed(decision):
    assert not verdict(decision=decision).passed


def test_bounds_are_in_order():
    assert verdict(ci_low=0.1, ci_high=0.1).ci_low == 0.1
    assert verdict(ci_low=None, ci_high=-1.0).ci_high == -1.0
    with pytest.raises(ValueError, match=r"0\.2 > 0\.1"):
        verdict(ci_low=0.2, ci_high=0.1)


def test_evidence_is_bounded():
    rows = [{"row_id": str(i)} for i in range(MAX_EVIDENCE + 1)]
    assert len(verdict(evidence=rows[:-1]).evidence) == MAX_EVIDENCE == 20
    with pytest.raises(ValueError, match="21 rows of evidence"):
        verdict(evidence=rows)


def test_it_is_immutable_and_complete_by_keyword_only():
    with pytest.raises(FrozenInstanceError):
        verdict().decision = Decision.PASS  # type: ignore[misc]
    with pytest.raises(TypeError):
        Verdict(Decision.PASS, "summary")  # type: ignore[misc]


def test_the_record_holds_every_key_of_the_contract():
    record = verdict().to_record()
    bounds = {"estimate", "ci_low", "ci_high", "confidence", "n", "n_required", "threshold", "baseline"}
    assert {"decision", "statistic", "evidence", "remedy", "check_version", "config_hash", "plot"} | bounds <= set(record)
    assert set(record) == {f.name for f in fields(Verdict)} | {"config_hash"}


def test_the_record_survives_json_and_canonical_json():
    original = verdict(
        decision=Decision.FAIL,
        estimate=0.07,
        ci_low=0.0385,
        ci_high=0.1088,
        confidence=0.95,
        threshold=0.05,
        baseline="base_models/tiny@ab12",
        evidence=[{"row_id": "r1", "text": "…", "score": 0.5, "flag": True, "note": None}],
        config={"margin": 0.05, "categories": ["a", "b"]},
        tier="rules",
        plot="<svg/>",
        details={"per_slice": {"a": 1}},
    )
    for text in (json.dumps(original.to_record()), canonical_json(original.to_record()).decode()):
        again = Verdict.from_record(json.loads(text))
        assert again.to_record() == original.to_record()
        assert again.decision is Decision.FAIL
    assert original.to_record()["decision"] == "fail"


def test_a_forged_record_is_refused():
    record = verdict().to_record()
    with pytest.raises(ValueError, match="insufficient_evidence"):
        Verdict.from_record(record | {"n": 0})
    with pytest.raises(ValueError, match="not a valid Decision"):
        Verdict.from_record(record | {"decision": "waived"})
    assert Verdict.from_record(record | {"config_hash": "0" * 16}).config_hash == verdict().config_hash  # recomputed, not trusted


def test_the_config_hash_names_every_deciding_parameter():
    plain = verdict(config={"margin": 0.05})
    assert plain.config_hash == verdict(config={"margin": 0.05}).config_hash
    assert len(plain.config_hash) == 16
    assert plain.config_hash != verdict(config={"margin": 0.06}).config_hash
    extended = plain.with_config({"alpha": 0.001})
    assert extended.config == {"margin": 0.05, "alpha": 0.001}
    assert extended.config_hash == verdict(config={"alpha": 0.001, "margin": 0.05}).config_hash  # order is no difference
    assert plain.config == {"margin": 0.05}
