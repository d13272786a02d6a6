"""`performance_gap`: does the model do better on the vault than on items that ask the same and cannot have leaked?

Text comparison misses a translation or a rewording; the score does not. Two comparisons: the vault against its paraphrase twin,
family by family, and against freshly written items. What checkpoints that cannot have seen the vault score on the same sets is
subtracted, so that a twin or a fresh set of another difficulty is no gap.

After J. Dekoninck, M. N. Müller, M. Vechev, ConStat: Performance-Based Contamination Detection in Large Language Models, NeurIPS
2024, with the plain mean of the references in place of its fitted curve, which needs many more reference models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform import plots
from ftplatform.errors import InputDataError
from ftplatform.statistics.intervals import check_count, check_share
from ftplatform.statistics.power import DISCORDANT_SHARE, required_n_noninferiority
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "performance_gap/1"

Matrix = NDArray[np.float64]

#: Elements of the largest bootstrap temporary (resamples x families); 16 MiB of float64.
_BATCH_ELEMENTS = 1 << 21

_REMEDY = (
    "Treat the vault score as leaked: report the score on fresh items, find the door (contamination_paraphrase, triage_leak), and"
    " refresh the vault."
)


@dataclass(frozen=True, slots=True)
class GapRule:
    """Parameters of the check.

    Attributes:
        max_gap: gap of the mean score, a share, that the lower bound must not exceed.
        relevant_gap: gap that the sample must be able to exclude before it may pass.
        confidence: of each bound, one-sided.
        resamples, seed: of the bootstrap; equal input and seed give equal results.
        min_references: reference checkpoints from which their spread can be taken into account.
        min_families: families below which the bootstrap decides nothing.
    """

    max_gap: float = 0.02
    relevant_gap: float = 0.05
    confidence: float = 0.95
    resamples: int = 4000
    seed: int = 0
    min_references: int = 3
    min_families: int = 20

    def __post_init__(self) -> None:
        check_share(self.confidence, "confidence")
        check_share(self.relevant_gap, "relevant_gap")
        check_count(self.resamples, "resamples", least=200)
        check_count(self.min_references, "min_references", least=2)
        check_count(self.min_families, "min_families", least=2)
        if not 0 <= self.max_gap < self.relevant_gap:
            raise ValueError(f"max_gap is {self.max_gap}; it must lie between 0 and relevant_gap, {self.relevant_gap}")


@dataclass(frozen=True, slots=True)
class Gap:
    """One comparison: the gap of the model above the gap of the references, with one-sided bounds.

    Attributes:
        against: ``"twin"`` or ``"fresh"``.
        gap, low, high: shares.
        model_gap: without the references. reference_gaps: theirs, by name.
        families: in the comparison (of the smaller side). n_required: families that would exclude the relevant gap.
    """

    against: str
    gap: float
    low: float
    high: float
    model_gap: float
    reference_gaps: Mapping[str, float]
    families: int
    n_required: int


def performance_gap(
    vault: pa.Table,
    twin: pa.Table | None = None,
    fresh: pa.Table | None = None,
    *,
    references: Sequence[str] = (),
    rule: GapRule | None = None,
    baseline: str | None = None,
) -> Verdict:
    """The model must not do better on the vault than on its paraphrase twin, nor than on fresh items.

    Args:
        vault, twin, fresh: one row per item: `family` (text, not null), `score` of the model under test and one column for each
            reference checkpoint, all in [0, 1]. The twin of an item carries its family; the families of `fresh` are its own.
        references: columns of checkpoints that cannot have seen the vault: none, or at least `min_references`.
        baseline: what the references are, for the reader.

    Returns:
        Verdict about the comparison with the largest lower bound: estimate and bounds are its gap (threshold `max_gap`), n the
        families in it. Each family counts once. Fails on a lower bound above `max_gap`; warns if the sample is large enough and
        still cannot exclude `relevant_gap`; insufficient with too few families, of which `n_required` are needed: those that show
        by a one-sided test of power .8 that a gap of zero is below `relevant_gap`, at the variance observed (but never less than
        with a tenth of the families discordant).

    Raises:
        InputDataError: on missing columns, scores that are missing or outside [0, 1], a family without name, or too few references.
    """
    rule = rule or GapRule()
    if references and len(set(references)) < rule.min_references:
        raise InputDataError(
            f"{len(set(references))} reference checkpoint(s) cannot show how far checkpoints differ by themselves.",
            remedy=f"Give at least {rule.min_references}, or none.",
        )
    columns = ["score", *references]
    common: dict[str, Any] = {
        "statistic": "gap of the mean score, vault above its counterpart, beyond that of the references",
        "threshold": rule.max_gap,
        "confidence": rule.confidence,
        "baseline": baseline or (f"references: {', '.join(references)}" if references else "no reference checkpoints"),
        "check_version": CHECK_VERSION,
        "config": {**asdict(rule), "references": sorted(references)},
        "tier": "bootstrap",
    }
    ours = _family_means(vault, columns, "vault")
    gaps: list[Gap] = []
    evidence: list[dict[str, Scalar]] = []
    details: dict[str, Any] = {"vault_families": len(ours)}
    if twin is not None:
        paired = ours.join(_family_means(twin, columns, "twin"), on="family", suffix=" of twin").sort("family")
        details["vault_families_without_twin"] = len(ours) - len(paired)
        difference = paired.select(columns).to_numpy() - paired.select([f"{name} of twin" for name in columns]).to_numpy()
        if len(paired):
            gaps.append(_gap("twin", [difference], references, rule))
            evidence = _evidence(paired["family"], difference)
    if fresh is not None:
        theirs = _family_means(fresh, columns, "fresh")
        if len(ours) and len(theirs):
            gaps.append(_gap("fresh", [ours.select(columns).to_numpy(), -theirs.select(columns).to_numpy()], references, rule))
    if not gaps:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="The vault has no twin and no fresh items to be compared with.",
            n=0,
            n_required=_n_required(0.0, rule),
            details=details,
            remedy="Write a paraphrase of every vault item, or fresh items, and score the model on them.",
            **common,
        )
    deciding = max(gaps, key=lambda gap: gap.low)
    short = [gap for gap in gaps if gap.families < gap.n_required]
    wide = [gap for gap in gaps if gap.high >= rule.relevant_gap]
    listed = "; ".join(f"{gap.gap:+.1%} against {gap.against} ({gap.low:+.1%} to {gap.high:+.1%})" for gap in gaps)
    if deciding.low > rule.max_gap and deciding.families >= rule.min_families:
        decision, remedy = Decision.FAIL, _REMEDY
        summary = f"The model scores higher on the vault than its difficulty explains: {listed}; limit {rule.max_gap:.0%}."
    elif short:
        deciding = max(short, key=lambda gap: gap.n_required - gap.families)
        decision = Decision.INSUFFICIENT_EVIDENCE
        summary = f"{deciding.families:,} families against {deciding.against}, {deciding.n_required:,} are needed: {listed}."
        remedy = f"Score at least {deciding.n_required:,} families on both sides."
    elif wide:
        deciding = max(wide, key=lambda gap: gap.high)
        decision = Decision.WARN
        summary = f"A gap of {rule.relevant_gap:.0%} cannot be excluded: {listed}."
        remedy = "Look at the families listed, and score more of them."
    else:
        decision, remedy = Decision.PASS, "None needed."
        summary = f"The vault score is no higher than its difficulty explains: {listed}; limit {rule.max_gap:.0%}."
    return Verdict(
        decision=decision,
        summary=summary,
        estimate=deciding.gap,
        ci_low=deciding.low,
        ci_high=deciding.high,
        n=deciding.families,
        n_required=deciding.n_required,
        evidence=evidence,
        remedy=remedy,
        plot=_plot(gaps, rule),
        details={**details, "gaps": [asdict(gap) for gap in gaps]},
        **common,
    )


def _family_means(table: pa.Table, columns: Sequence[str], what: str) -> pl.DataFrame:
    """(family, mean of each column), sorted by family."""
    absent = [name for name in ("family", *columns) if name not in table.column_names]
    if absent:
        raise InputDataError(f"The scores on {what} lack {', '.join(absent)}.", remedy="Score every checkpoint on every set.")
    frame = pl.DataFrame({"family": table["family"], **{name: table[name] for name in columns}})
    frame = frame.with_columns(pl.col("family").cast(pl.String), pl.col(*columns).cast(pl.Float64))
    if frame["family"].null_count():
        raise InputDataError(f"An item of {what} has no family.", remedy="Use its row id where it has none.")
    for name in columns:
        bad = frame.filter(~pl.col(name).is_between(0, 1).fill_null(False) | pl.col(name).is_nan().fill_null(False))
        if len(bad):
            raise InputDataError(
                f"{name} of family {bad['family'][0]} on {what} is {bad[name][0]}, no score in [0, 1].",
                remedy="Score every item with every checkpoint, as a share.",
            )
    return frame.group_by("family").agg(pl.col(*columns).mean()).sort("family")


def _gap(against: str, sides: Sequence[Matrix], references: Sequence[str], rule: GapRule) -> Gap:
    """The gap is the sum of the means of `sides`, each of shape (families, 1 + references), the model first."""
    means: Matrix = np.sum([side.mean(axis=0) for side in sides], axis=0)
    replicates = _bootstrap(sides, rule)
    # The variance of one family's contribution, the sides scaled to the smaller: it stands in for the discordant share.
    families = min(len(side) for side in sides)
    adjusted = [side[:, 0] - (side[:, 1:].mean(axis=1) if references else 0) for side in sides]
    variance = sum(float(values.var()) * families / len(values) for values in adjusted)
    gap = _above_references(means)
    return Gap(
        against=against,
        gap=gap,
        # A quantile on the wrong side of the estimate must not turn the interval inside out.
        low=min(gap, float(np.quantile(replicates, 1 - rule.confidence))),
        high=max(gap, float(np.quantile(replicates, rule.confidence))),
        model_gap=float(means[0]),
        reference_gaps={name: float(value) for name, value in zip(references, means[1:], strict=True)},
        families=families,
        n_required=_n_required(variance, rule),
    )


def _n_required(variance: float, rule: GapRule) -> int:
    share = min(max(variance, DISCORDANT_SHARE), 1 - 1e-9)
    return max(rule.min_families, required_n_noninferiority(rule.relevant_gap, share, 1 - rule.confidence))


def _above_references(means: Matrix) -> float:
    return float(means[0] - (means[1:].mean() if len(means) > 1 else 0.0))


def _bootstrap(sides: Sequence[Matrix], rule: GapRule) -> Matrix:
    """Gaps of resampled families (each side by itself) and resampled references; shape (resamples,)."""
    rng = np.random.default_rng(rule.seed)
    gaps = np.zeros((rule.resamples, sides[0].shape[1]))
    for side in sides:
        n = len(side)
        batch = max(1, _BATCH_ELEMENTS // n)
        for start in range(0, rule.resamples, batch):
            size = min(batch, rule.resamples - start)
            gaps[start : start + size] += _multiplicities(rng, size, n) @ side / n
    count = gaps.shape[1] - 1
    if not count:
        return gaps[:, 0]
    # Resampling k values understates their variance by (k - 1) / k, a third for three references.
    weights = _multiplicities(rng, rule.resamples, count) / count
    weights = 1 / count + np.sqrt(count / (count - 1)) * (weights - 1 / count)
    return gaps[:, 0] - (weights * gaps[:, 1:]).sum(axis=1)


def _multiplicities(rng: np.random.Generator, resamples: int, n: int) -> Matrix:
    """How often each of n units is drawn in each resample; shape (resamples, n). Several times faster than `multinomial`."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def _evidence(families: pl.Series, difference: Matrix) -> list[dict[str, Scalar]]:
    """Families on which the model gains most from the original wording."""
    references = difference[:, 1:].mean(axis=1) if difference.shape[1] > 1 else np.zeros(len(difference))
    above = difference[:, 0] - references
    order = np.argsort(-above, kind="stable")[:MAX_EVIDENCE]
    return [
        {
            "family": families[int(at)],
            "gap": float(above[at]),
            "model_gap": float(difference[at, 0]),
            "reference_gap": float(references[at]),
        }
        for at in order
        if above[at] > 0
    ]


def _plot(gaps: Sequence[Gap], rule: GapRule) -> str:
    rows: list[tuple[str, float, float | None, float | None]] = []
    for gap in gaps:
        rows.append((f"vault above {gap.against} ({gap.families})", 100 * gap.gap, 100 * gap.low, 100 * gap.high))
        rows += [(f"reference {name}", 100 * value, 100 * value, 100 * value) for name, value in gap.reference_gaps.items()]
    return plots.forest(
        rows,
        threshold=100 * rule.max_gap,
        title="Score on the vault above its counterpart",
        x_label="percentage points, one-sided bounds",
    )
