"""`input_tail_coverage`: what share of real inputs has nothing like it among the synthetic ones?

Some real inputs have no neighbor in any sample of their size, real ones included. So the same inputs are looked up twice, among
synthetic inputs and among as many other real ones, and only the excess counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ftplatform import plots
from ftplatform.rows.masking import excerpt
from ftplatform.statistics.intervals import clustered_mean
from ftplatform.synthesis.nearest import CharacterSpace, Neighbors
from ftplatform.synthesis.samples import Rows, Sample, sample_turns
from ftplatform.synthesis.tails import KEPT, Tail, compare_tails
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "input_tail_coverage/1"


def input_tail_coverage(
    candidate: Rows,
    reference: Rows,
    *,
    neighbor_from: float = 0.3,
    fail_above: float = 0.10,
    n_required: int = 500,
    n_minimum: int = 200,
    cap: int = 2000,
    confidence: float = 0.90,
    seed: int = 0,
) -> Verdict:
    """Share of real inputs without a synthetic neighbor minus the share without a real one, and the four tails by themselves.

    The reference is split by conversation; each half is looked up in the other half and in as many candidate turns.

    Args:
        candidate, reference: as in `surface.input_surface_match`; user turns only are read.
        neighbor_from: cosine of character 2- to 4-gram TF-IDF from which two inputs are neighbors.
        fail_above: fails if the lower bound of the excess is above this, or if a tail is lost: the candidate surely has less than half
            of the real share (multi-intent, typos, shortest and longest 5 %).
        n_required: user turns per side a pass needs; below `n_minimum` the check abstains, between the two it only warns.
        cap, seed: of the sample.
        confidence: of the two-sided interval of the excess; each bound is one-sided at half of what is left. The bounds of the tails
            are at the same level together.

    Returns:
        Verdict with the excess in its conversation-clustered interval; evidence lists lost tails and the real inputs farthest from
        the candidate that do have a real neighbor.
    """
    ours, theirs = sample_turns(candidate, cap, seed), sample_turns(reference, cap, seed)
    n = min(len(ours), len(theirs))
    common: dict[str, Any] = {
        "statistic": "share of real inputs without a synthetic neighbor, minus the share without a real one",
        "n": n,
        "n_required": n_required,
        "threshold": fail_above,
        "baseline": "split halves of the production inputs",
        "check_version": CHECK_VERSION,
        "config": {
            "neighbor_from": neighbor_from,
            "fail_above": fail_above,
            "kept": KEPT,
            "n_required": n_required,
            "n_minimum": n_minimum,
            "cap": cap,
            "confidence": confidence,
            "seed": seed,
        },
        "tier": "character TF-IDF",
    }
    halves = theirs.halves(seed)
    if n < n_minimum or min(ours.units.n_unique(), *(half.units.n_unique() for half in halves)) < 10:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{len(ours):,} candidate and {len(theirs):,} reference user turns; {n_required} on each side are needed.",
            remedy=f"Provide at least {n_required} user turns from different conversations on both sides.",
            **common,
        )
    looked_up = _look_up(ours, halves, neighbor_from)
    excess = clustered_mean(
        (looked_up["alone"].cast(pl.Int8) - looked_up["alone_among_real"].cast(pl.Int8)).cast(pl.Float64),
        looked_up["unit"].to_list(),
        confidence,
    )
    tails = compare_tails(ours, theirs, confidence=confidence)
    lost = [tail for tail in tails if tail.lost]
    alone, usual = (float(np.mean(looked_up[name].to_numpy())) for name in ("alone", "alone_among_real"))
    summary = (
        f"{alone:.1%} of real inputs have no synthetic neighbor, {usual:.1%} no real one: excess {excess.estimate:+.1%}"
        f" [{excess.low:+.1%}, {excess.high:+.1%}]"
    )
    summary += (
        f"; lost tails: {', '.join(f'{t.tail} ({t.candidate:.1%} for {t.reference:.1%})' for t in lost)}."
        if lost
        else "; no tail lost."
    )
    if excess.low > fail_above or lost:
        decision = Decision.FAIL
    elif excess.high <= fail_above:
        decision = Decision.PASS
    else:
        decision = Decision.WARN
    if n < n_required:
        decision, summary = Decision.WARN, f"{summary} Only {n} of {n_required} user turns on the smaller side: a warning at most."
    return Verdict(
        decision=decision,
        summary=summary,
        estimate=excess.estimate,
        ci_low=excess.low,
        ci_high=excess.high,
        confidence=confidence,
        evidence=_evidence(lost, looked_up.filter("alone", ~pl.col("alone_among_real"))),
        remedy=(
            "Seed the teacher with the real inputs listed and ask for the lost tails by name, or mix in real inputs; then run again."
        ),
        plot=plots.histogram(
            {"nearest synthetic": looked_up["similarity"].to_list(), "nearest real": looked_up["similarity_real"].to_list()},
            neighbor_from,
            title="How near is the nearest neighbor of a real input?",
            x_label="cosine of character TF-IDF",
            threshold_label="neighbor from",
        ),
        details={"tails": [tail.to_record() for tail in tails], "without_synthetic": alone, "without_real": usual},
        **common,
    )


def _look_up(ours: Sample, halves: tuple[Sample, Sample], neighbor_from: float) -> pl.DataFrame:
    """Every real input: text, unit, similarity to the nearest synthetic and real text of pools of one size, and that synthetic text."""
    space = CharacterSpace([ours.texts, *(half.texts for half in halves)])
    frames = []
    for asked, other in (halves, halves[::-1]):
        size = min(len(other), len(ours))
        pool = ours.texts.head(size)
        synthetic, real = space.nearest(asked.texts, pool), space.nearest(asked.texts, other.texts.head(size))
        frames.append(_frame(asked, synthetic, real, pool))
    return pl.concat(frames).with_columns(
        alone=pl.col("similarity") < neighbor_from, alone_among_real=pl.col("similarity_real") < neighbor_from
    )


def _frame(asked: Sample, synthetic: Neighbors, real: Neighbors, pool: pl.Series) -> pl.DataFrame:
    return asked.frame.select("text", "unit").with_columns(
        similarity=pl.Series(synthetic.similarity),
        similarity_real=pl.Series(real.similarity),
        nearest=pool.gather(pl.Series(synthetic.position)),
    )


def _evidence(lost: list[Tail], missed: pl.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [tail.to_record() for tail in lost]
    room = MAX_EVIDENCE - len(records)
    far = missed.sort(pl.col("similarity") - pl.col("similarity_real"), maintain_order=True).head(room)
    return records + [
        {
            "real_input": excerpt(row["text"], 160),
            "similarity": round(row["similarity"], 3),
            "similarity_to_real": round(row["similarity_real"], 3),
            "nearest_synthetic": excerpt(row["nearest"], 160),
        }
        for row in far.iter_rows(named=True)
    ]
