"""`eval_population`: does the metric that decides a release come from what users really asked?

A model tuned on one teacher's rows does well on that teacher's questions: the eval has the same blind spots as the training set. Such an
eval is in-distribution synthetic; it may inform, and it may not decide.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "eval_population/1"


class Population(StrEnum):
    """Whose questions an eval asks."""

    REAL = "real inputs"
    IN_DISTRIBUTION = "in-distribution synthetic"
    SYNTHETIC = "synthetic, another teacher"
    UNKNOWN = "origin not declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalInputs:
    """What is known about the questions of one eval.

    Attributes:
        name: of the eval. n: items answered.
        teachers: ids of the models that wrote any of the items, by their lineage.
        real: True if people typed them to the product, False if somebody wrote them for the eval, None if nobody said.
        decides: whether a release hangs on its score.
    """

    name: str
    n: int
    teachers: Collection[str]
    real: bool | None
    decides: bool


def population(inputs: EvalInputs, trained_on: Collection[str]) -> Population:
    """Whose questions these are; lineage goes before what was declared."""
    if set(inputs.teachers) & set(trained_on):
        return Population.IN_DISTRIBUTION
    if inputs.teachers:
        return Population.SYNTHETIC
    return Population.REAL if inputs.real else Population.UNKNOWN


def eval_population(evals: Sequence[EvalInputs], trained_on: Collection[str], *, n_required: int = 300) -> Verdict:
    """Whether an eval on at least `n_required` real inputs decides the release, and none by a teacher of the training set does.

    Args:
        evals: every eval of the adapter.
        trained_on: ids of the teachers of the training rows.

    Returns:
        Verdict whose n is the items of the largest eval on real inputs that decides; evidence labels every eval.
    """
    labeled = [(inputs, population(inputs, trained_on)) for inputs in evals]
    deciding = [inputs for inputs, label in labeled if inputs.decides and label is Population.REAL]
    wrong = [inputs.name for inputs, label in labeled if inputs.decides and label is Population.IN_DISTRIBUTION]
    idle = [inputs.name for inputs, label in labeled if not inputs.decides and label is Population.REAL and inputs.n >= n_required]
    unknown = [inputs.name for inputs, label in labeled if inputs.decides and label is Population.UNKNOWN]
    n = max((inputs.n for inputs in deciding), default=0)
    if wrong:
        decision = Decision.FAIL
        summary = f"The release hangs on {', '.join(wrong)}, written by a teacher of the training set: in-distribution synthetic."
    elif n >= n_required:
        decision, summary = Decision.PASS, f"The release hangs on {n:,} real inputs."
    elif deciding:
        decision, summary = Decision.INSUFFICIENT_EVIDENCE, f"The release hangs on {n:,} real inputs; {n_required} are needed."
    elif idle:
        decision, summary = Decision.FAIL, f"{', '.join(idle)} asks real inputs, and the release does not hang on it."
    elif unknown:
        decision = Decision.INSUFFICIENT_EVIDENCE
        summary = f"Nobody has declared where the questions of {', '.join(unknown)} come from."
    else:
        decision = Decision.FAIL if labeled else Decision.INSUFFICIENT_EVIDENCE
        summary = "No eval asks real inputs." if labeled else "Nothing was evaluated."
    return Verdict(
        decision=decision,
        summary=summary,
        statistic="items of the largest eval on real inputs that decides the release",
        estimate=float(n),
        n=n,
        n_required=n_required,
        threshold=float(n_required),
        evidence=[
            {
                "eval_set": i.name,
                "population": str(label),
                "n": i.n,
                "decides": i.decides,
                "teachers": ", ".join(sorted(i.teachers)) or None,
            }
            for i, label in sorted(labeled, key=lambda pair: (not pair[0].decides, pair[0].name))[:20]
        ],
        remedy=f"Evaluate on at least {n_required} labeled real inputs, declare them as such, and let the release hang on that eval.",
        check_version=CHECK_VERSION,
        config={"n_required": n_required},
        tier="lineage",
    )
