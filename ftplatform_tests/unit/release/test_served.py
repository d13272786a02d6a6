"""The released weights against the evaluated ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ftplatform.release.served import served_matches_evaluated
from ftplatform.verdict import Decision, Verdict

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FILES = {"adapter_model.safetensors": "a" * 64, "adapter_config.json": "b" * 64, "README.md": "c" * 64}


def judged(served: dict[str, str], *, days: float | None = 1.0) -> Verdict:
    at = None if days is None else NOW - timedelta(days=days)
    return served_matches_evaluated(served, FILES, evaluated_at=at, now=NOW)


def test_the_same_weights_evaluated_yesterday_pass() -> None:
    verdict = judged(FILES)
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == pytest.approx(1.0)
    assert judged({**FILES, "README.md": "d" * 64}).passed, "a card is not a weight"


@pytest.mark.parametrize(
    "change",
    [
        {"adapter_model.safetensors": "f" * 64},
        {"adapter_config.json": "f" * 64},
        {"second.safetensors": "e" * 64},
    ],
)
def test_other_bytes_fail(change: dict[str, str]) -> None:
    verdict = judged({**FILES, **change})
    assert verdict.decision is Decision.FAIL
    assert [row["file"] for row in verdict.evidence] == list(change)


def test_the_name_of_a_version_says_nothing_about_its_bytes() -> None:
    """ADV: the same path, name and configuration; somebody trained it again after the evaluation."""
    retrained = {**FILES, "adapter_model.safetensors": "9" * 64}
    assert retrained.keys() == FILES.keys()
    assert retrained["adapter_config.json"] == FILES["adapter_config.json"]
    assert judged(retrained).decision is Decision.FAIL


@pytest.mark.parametrize(("days", "decision"), [(29.9, Decision.PASS), (30.1, Decision.FAIL), (-0.1, Decision.FAIL)])
def test_age(days: float, decision: Decision) -> None:
    assert judged(FILES, days=days).decision is decision


def test_unknown_is_no_pass() -> None:
    assert judged(FILES, days=None).decision is Decision.INSUFFICIENT_EVIDENCE
    assert judged({}).decision is Decision.INSUFFICIENT_EVIDENCE
    assert served_matches_evaluated(FILES, {}, evaluated_at=NOW, now=NOW).decision is Decision.INSUFFICIENT_EVIDENCE
