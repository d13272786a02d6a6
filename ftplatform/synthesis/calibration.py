"""How much real inputs of one channel differ from each other: the limits a synthetic set of that channel is held to.

A fixed limit is wrong for a channel whose own parts (domains, topics, products) are written differently: real text of one part would be
refused beside real text of another. So the parts are compared with each other first, and a candidate may differ as much as the two
most different of them do. Parts that differ by more than `ceiling` are taken for another channel and loosen nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

from ftplatform import plots
from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.synthesis.gaps import sample_features
from ftplatform.synthesis.samples import Rows, Sample, sample_turns
from ftplatform.synthesis.surface_auc import LEAST_UNITS, surface_auc

CALIBRATION_VERSION = "1"
#: Limits of the AUC without calibration.
PASS_BELOW, FAIL_ABOVE = 0.60, 0.75
#: What lies between passing and failing warns; it stays at least this wide.
_BAND = 0.10
# Half-width of the interval with 1,000 user turns a side, as measured on multidogo (.032) and rounded up.
_LARGEST_ERROR = 0.035
#: The largest groups are compared, each with each: 15 pairs.
_GROUPS = 6


@dataclass(frozen=True, slots=True)
class Split:
    """Two parts of the real inputs against each other: names, user turns, AUC with bounds, and whether it moved the limits."""

    a: str
    b: str
    n_a: int
    n_b: int
    auc: float
    ci_low: float
    ci_high: float
    used: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Limits of the AUC and what they rest on.

    Attributes:
        pass_below, fail_above: as in `surface.input_surface_match`.
        calibrated: False if the real inputs were too few or too mixed to move anything; the limits are then the general ones.
        reason: one sentence.
        n: user turns the splits were drawn from. splits: every comparison made.
        config: what decided.
    """

    pass_below: float
    fail_above: float
    calibrated: bool
    reason: str
    n: int
    splits: Sequence[Split]
    config: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Digest of limits and evidence; recorded with every verdict that uses them."""
        return digest(self.to_record())[:16]

    @property
    def plot(self) -> str:
        """Forest plot of the splits with the limit that follows from them."""
        rows = [(f"{s.a} | {s.b}", s.auc, s.ci_low, s.ci_high) for s in self.splits]
        skipped = [f"{s.a} | {s.b}" for s in self.splits if not s.used]
        return plots.forest(
            rows, self.pass_below, title="Real inputs against real inputs (AUC)", threshold_label="pass below", highlight=skipped
        )

    def to_record(self) -> dict[str, Any]:
        """A JSON-able mapping; `from_record` reads it back."""
        return {**asdict(self), "splits": [asdict(split) for split in self.splits], "config": dict(self.config)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Calibration:
        """Inverse of `to_record`."""
        return cls(**{**record, "splits": tuple(Split(**split) for split in record["splits"])})


def calibrate_surface(
    reference: Rows,
    by: str | None = None,
    *,
    groups: Sequence[str] = (),
    halves: int = 3,
    n_minimum: int = 500,
    cap: int = 1000,
    ceiling: float = 0.75,
    permutations: int = 60,
    confidence: float = 0.90,
    seed: int = 0,
) -> Calibration:
    """Compare the parts of the real inputs with each other on surface features.

    Args:
        reference: rows of real production inputs, read once.
        by: what names the parts: ``"source"``, ``"slice"`` or ``"meta:KEY"``; None compares random halves only.
        groups: names of the parts to use; the six largest with `n_minimum` turns otherwise.
        halves: random splits by conversation; they only show that the sample agrees with itself.
        n_minimum: user turns per side of a split.
        cap: user turns per side that are used.
        ceiling: two parts with an AUC above it are not one channel: reported, not used.
        permutations, confidence, seed: of each test.

    Returns:
        `pass_below` is what the upper bound of a new comparison, as wide apart as the two most different parts of one channel, stays
        below 95 times of 100 (at `confidence` .90): AUC + (1 + sqrt 2) half-widths, as two independent estimates differ by sqrt 2 of
        their error, of which no more counts than 1,000 turns a side have: few real inputs must not widen the limit. It is at least
        the general limit and at most `ceiling`; `fail_above` stays `_BAND` above it.

    Raises:
        InputDataError: if `by` names no grouping, or `groups` a part that is not there.
    """
    config = {
        "version": CALIBRATION_VERSION,
        "by": by,
        "groups": list(groups),
        "halves": halves,
        "n_minimum": n_minimum,
        "cap": cap,
        "ceiling": ceiling,
        "permutations": permutations,
        "confidence": confidence,
        "seed": seed,
    }
    sample = sample_turns(reference, 2 * cap * _GROUPS, seed, label_by=by)

    def compare(a: str, b: str, left: Sample, right: Sample, run: int) -> Split:
        left, right = _capped(left, cap), _capped(right, cap)
        test = surface_auc(
            left, right, sample_features(left, right), permutations=permutations, confidence=confidence, seed=seed + run
        )
        return Split(a, b, len(left), len(right), test.auc, test.ci_low, test.ci_high, used=False)

    splits: list[Split] = []
    for run in range(halves):
        one, other = sample.halves(seed + run)
        if not (_enough(one, n_minimum) and _enough(other, n_minimum)):
            said = f"{len(sample):,} user turns are too few for halves of {n_minimum}."
            return Calibration(PASS_BELOW, FAIL_ABOVE, False, said, sample.turns, (), config)
        splits.append(compare(f"half {run + 1}", "rest", one, other, run))
    parts = _parts(sample, groups, n_minimum) if by is not None else {}
    pairs = [compare(a, b, parts[a], parts[b], 0) for a, b in combinations(parts, 2)]
    foreign = f"above {ceiling}: another channel, not another part of this one"
    moved = [Split(**{**asdict(p), "used": p.auc <= ceiling, "note": "" if p.auc <= ceiling else foreign}) for p in pairs]
    splits += moved
    used = [split for split in moved if split.used]
    if not used:
        why = "no grouping was given" if by is None else f"fewer than two parts of one channel have {n_minimum} user turns"
        return Calibration(PASS_BELOW, FAIL_ABOVE, False, f"General limits: {why}.", sample.turns, tuple(splits), config)
    widest = max(used, key=lambda split: split.ci_high)
    expected = widest.auc + (1 + math.sqrt(2)) * min(widest.ci_high - widest.auc, _LARGEST_ERROR)
    pass_below = min(max(PASS_BELOW, expected), ceiling)
    said = f"{len(used)} pairs of real parts differ by up to {widest.auc:.3f} (upper bound {widest.ci_high:.3f}: {widest.a} | {widest.b})."
    return Calibration(pass_below, max(FAIL_ABOVE, pass_below + _BAND), True, said, sample.turns, tuple(splits), config)


def _parts(sample: Sample, groups: Sequence[str], n_minimum: int) -> dict[str, Sample]:
    counts = sample.frame.drop_nulls("label").group_by("label").len().sort("len", "label", descending=[True, False])
    names = list(groups) or counts["label"].to_list()
    if unknown := sorted(set(names) - set(counts["label"])):
        raise InputDataError(
            f"The real inputs have no part {unknown[0]!r}.", remedy=f"Parts are: {', '.join(counts['label'][:20])}."
        )
    parts = {name: sample.only(pl.col("label") == name) for name in names}
    return dict([(name, part) for name, part in parts.items() if _enough(part, n_minimum)][:_GROUPS])


def _enough(sample: Sample, n_minimum: int) -> bool:
    return len(sample) >= n_minimum and sample.units.n_unique() >= LEAST_UNITS


def _capped(sample: Sample, cap: int) -> Sample:
    """The first turns, in the order of the hash of their conversations."""
    return Sample(sample.frame.head(cap), min(len(sample), cap))
