"""Whose questions decide a release."""

from __future__ import annotations

import pytest

from ftplatform.synthesis.eval_population import EvalInputs, Population, eval_population, population
from ftplatform.verdict import Decision


def exam(
    name: str = "exam", n: int = 400, teachers: tuple[str, ...] = (), real: bool | None = True, decides: bool = True
) -> EvalInputs:
    return EvalInputs(name=name, n=n, teachers=teachers, real=real, decides=decides)


def test_real_inputs_that_decide_pass() -> None:
    verdict = eval_population([exam(), exam("synth", teachers=("t",), decides=False)], {"t"})
    assert verdict.decision is Decision.PASS
    assert {e["eval_set"]: e["population"] for e in verdict.evidence} == {
        "exam": "real inputs",
        "synth": "in-distribution synthetic",
    }


def test_the_teacher_of_the_training_rows_may_not_decide() -> None:
    """ADV: two evals above 90 % and one of them big; counting items sees nothing wrong."""
    evals = [exam(n=350), exam("synth", n=5000, teachers=("t",))]
    assert max(e.n for e in evals) >= 300, "the naive rule"
    verdict = eval_population(evals, {"t"})
    assert verdict.decision is Decision.FAIL
    assert "synth" in verdict.summary


def test_lineage_goes_before_what_was_declared() -> None:
    assert population(exam(teachers=("t",), real=True), {"t"}) is Population.IN_DISTRIBUTION
    assert population(exam(teachers=("other",), real=True), {"t"}) is Population.SYNTHETIC


@pytest.mark.parametrize(
    ("evals", "decision"),
    [
        ([], Decision.INSUFFICIENT_EVIDENCE),
        ([exam(n=299)], Decision.INSUFFICIENT_EVIDENCE),
        ([exam(real=None)], Decision.INSUFFICIENT_EVIDENCE),
        ([exam(decides=False)], Decision.FAIL),
        ([exam(teachers=("other",), real=None)], Decision.FAIL),
        ([exam(n=300)], Decision.PASS),
    ],
)
def test_decisions(evals: list[EvalInputs], decision: Decision) -> None:
    assert eval_population(evals, {"t"}).decision is decision
