"""The rehearsal: run the recipe on the new base, ask both adapters the same, and say whether to move.

The tuned model is compared with two different models, and the two must not be mixed up. Its *task* is compared with the adapter in use:
that is what users would notice. Its *alignment* is compared with the new base, because what fine-tuning erased can only be seen against
the checkpoint that was tuned; a new base that declines more than the old one would hide the loss, one that declines less would feign it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform.errors import EvaluationError, TrainingError
from ftplatform.migration.bases import BaseDifferences
from ftplatform.migration.comparison import MARGIN, Change, PartChange, compare, paired_scores
from ftplatform.migration.decision import conclusion, decide
from ftplatform.migration.sensitivity import OWN, RateOutcome, rate_sensitivity
from ftplatform.plots import forest
from ftplatform.statistics import t_prediction_interval
from ftplatform.verdict import Decision, Verdict

#: Replicates from which a spread over seeds is told.
_FEWEST_REPLICATES = 3
_TAIL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One training run on the new base.

    Attributes:
        folder: the adapter.
        steps, tokens, seconds: optimizer steps, real tokens in them, and wall time of them.
        losses: nats per trained token, by step.
        encoding: what the trainer made of the rows (`tokens`, `trained_tokens`, `cut_rows`, `left_out_rows`).
    """

    folder: Path
    steps: int
    tokens: int
    seconds: float
    losses: Sequence[float]
    encoding: Mapping[str, Any]

    @property
    def last_loss(self) -> float:
        """Mean of the last ten steps."""
        tail = self.losses[-_TAIL:]
        return sum(tail) / len(tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What an adapter and its own base answered.

    Attributes:
        answers: table as `comparison.paired_scores` reads it.
        alignment: verdict by side (refusal, over-refusal, helpfulness), each against the base of this very adapter.
    """

    answers: pa.Table
    alignment: Mapping[str, Verdict] = field(default_factory=dict)


#: Trains the recipe at a multiple of its learning rate, with its own seeds (replicate 0) or others.
Train = Callable[[float, int], Trained]
#: Asks a trained adapter everything, or the task alone.
Examine = Callable[[Trained, bool], Exam]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What a rehearsal showed.

    Attributes:
        adapter, closure: asset and closure that were rehearsed.
        old_base, new_base: asset names.
        verdict: `PASS` means move.
        differences: before anything is trained.
        parts: task by part, the whole first, then those that lost most.
        alignment: verdicts by side, worst replicate, against the new base. old_alignment: of the adapter in use against its own base.
        gains: of the whole task, by replicate.
        rates: sensitivity to the learning rate; empty if only the recipe's was tried. failed_rates: why a multiple was not trained.
        old_encoding, new_encoding: what each tokenizer made of the rows; the new one None if nothing was trained.
        runs: cost of every training run: multiple, replicate, steps, tokens, seconds, tokens per second.
        plots: SVG by name.
    """

    adapter: str
    closure: str
    old_base: str
    new_base: str
    verdict: Verdict
    differences: BaseDifferences
    parts: Sequence[PartChange] = ()
    alignment: Mapping[str, Verdict] = field(default_factory=dict)
    old_alignment: Mapping[str, Verdict] = field(default_factory=dict)
    gains: Sequence[float] = ()
    rates: Sequence[RateOutcome] = ()
    failed_rates: Mapping[float, str] = field(default_factory=dict)
    old_encoding: Mapping[str, Any] = field(default_factory=dict)
    new_encoding: Mapping[str, Any] | None = None
    runs: Sequence[Mapping[str, Any]] = ()
    plots: Mapping[str, str] = field(default_factory=dict)

    @property
    def moves(self) -> bool:
        """Whether the rehearsal says to move."""
        return self.verdict.passed

    @property
    def failing(self) -> list[PartChange]:
        """Slices shown to be worse, those that lost most first."""
        return [part for part in self.parts[1:] if part.change is Change.WORSE]

    def to_record(self) -> dict[str, Any]:
        """JSON-able form; no texts of items in it, and no pictures."""
        return {
            **{name: getattr(self, name) for name in ("adapter", "closure", "old_base", "new_base")},
            "migrate": self.moves,
            "verdict": _told(self.verdict),
            "differences": self.differences.to_record(),
            "parts": [part.to_record() for part in self.parts],
            "failing": [part.part for part in self.failing],
            "alignment": {side: _told(verdict) for side, verdict in self.alignment.items()},
            "old_alignment": {side: _told(verdict) for side, verdict in self.old_alignment.items()},
            "gains": list(self.gains),
            "gain_of_next_replicate": _spread(self.gains),
            "rates": [rate.to_record() for rate in self.rates],
            "failed_rates": [{"multiple": multiple, "reason": reason} for multiple, reason in self.failed_rates.items()],
            "old_encoding": dict(self.old_encoding),
            "new_encoding": None if self.new_encoding is None else dict(self.new_encoding),
            "runs": [dict(run) for run in self.runs],
        }


def rehearse(
    *,
    adapter: str,
    closure: str,
    bases: tuple[str, str],
    differences: BaseDifferences,
    old: Exam,
    old_encoding: Mapping[str, Any],
    train: Train,
    examine: Examine,
    learning_rate: float,
    rates: Sequence[float] = (OWN,),
    replicates: int = 1,
    margin: float = MARGIN,
) -> Migration:
    """Run the recipe on the new base and compare; see the module.

    A base on which the recipe cannot run, or whose model cannot be asked, is an outcome and no error.

    Args:
        adapter, closure, bases: names for the report; `bases` are the old and the new one.
        old: of the adapter in use. old_encoding: of its training run.
        learning_rate: the recipe's. rates: multiples of it, `OWN` among them.
        replicates: runs at the recipe's own rate, with other seeds from the second on; at least 1.
        margin: see `comparison.compare`.
    """
    named = {"adapter": adapter, "closure": closure, "old_base": bases[0], "new_base": bases[1], "old_encoding": old_encoding}
    runs: list[tuple[float, int, Trained]] = []
    try:
        exams = []
        for replicate in range(replicates):
            runs.append((OWN, replicate, train(OWN, replicate)))
            exams.append(examine(runs[-1][2], False))
    except (TrainingError, EvaluationError) as error:
        reason = f"The recipe does not run on {bases[1]}: {error.message.rstrip('.')}."
        verdict = conclusion(Decision.FAIL, reason, error.remedy, margin)
        return Migration(**named, verdict=verdict, differences=differences, runs=_costs(runs))
    by_rate, losses, failed = {OWN: exams[0].answers}, {OWN: runs[0][2].last_loss}, {}
    for multiple in rates:
        if multiple == OWN:
            continue
        try:
            runs.append((multiple, 0, train(multiple, 0)))
            by_rate[multiple], losses[multiple] = examine(runs[-1][2], True).answers, runs[-1][2].last_loss
        except TrainingError as error:  # too high a rate may diverge, which says nothing of the recipe's own
            failed[multiple] = error.message
    parts = compare(paired_scores(old.answers, [exam.answers for exam in exams]), margin=margin)
    alignment = {side: _worst([exam.alignment[side] for exam in exams]) for side in exams[0].alignment}
    sensitivity = rate_sensitivity(by_rate, learning_rate, losses, margin=margin) if len(by_rate) > 1 else []
    plots = {"task": _plot(parts, margin)} if parts else {}
    return Migration(
        **named,
        verdict=decide(differences, parts, alignment, sensitivity, bases=bases, margin=margin),
        differences=differences,
        parts=parts,
        alignment=alignment,
        old_alignment=old.alignment,
        gains=[compare(paired_scores(old.answers, [exam.answers]), margin=margin)[0].gain for exam in exams] if parts else [],
        rates=sensitivity,
        failed_rates=failed,
        new_encoding=runs[0][2].encoding,
        runs=_costs(runs),
        plots=plots,
    )


_SEVERITY = {Decision.PASS: 0, Decision.WARN: 1, Decision.INSUFFICIENT_EVIDENCE: 2, Decision.FAIL: 3}


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """One replicate that loses its refusals is one too many."""
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict.decision])


def _costs(runs: Sequence[tuple[float, int, Trained]]) -> list[dict[str, Any]]:
    return [
        {
            "multiple": multiple,
            "replicate": replicate,
            "steps": run.steps,
            "tokens": run.tokens,
            "seconds": run.seconds,
            "tokens_per_second": run.tokens / run.seconds if run.seconds else 0.0,
            "last_loss": run.last_loss,
        }
        for multiple, replicate, run in runs
    ]


def _spread(gains: Sequence[float]) -> list[float] | None:
    """Where the gain of one more replicate would lie (95 %), the items given."""
    if len(gains) < _FEWEST_REPLICATES:
        return None
    interval = t_prediction_interval(list(gains))
    return [interval.low, interval.high]


def _told(verdict: Verdict) -> dict[str, Any]:
    """A verdict without its picture and without texts of items, which may come from a vault."""
    return {name: value for name, value in verdict.to_record().items() if name not in ("plot", "evidence")}


def _plot(parts: Sequence[PartChange], margin: float) -> str:
    return forest(
        [(f"{part.part} ({part.n})", 100 * part.gain, 100 * part.low, 100 * part.high) for part in parts],
        threshold=-100 * margin,
        title="Change of the task score by slice (new minus old)",
        x_label="percentage points, one-sided 95 % bounds",
        highlight=[f"{part.part} ({part.n})" for part in parts if part.change is Change.WORSE],
    )
