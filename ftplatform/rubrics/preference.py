"""`rubric_free_preference`: which answer would you send? Asked without any rubric, in both orders, at equal length.

A model that learned a rubric scores by the rubric and is not preferred. Whoever is asked sees both answers twice, once in each order,
so that a taste for the first place cancels and can be reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftplatform.plots import forest
from ftplatform.rubrics.length_control import LengthControlled, length_controlled_rate
from ftplatform.statistics.intervals import Interval, cluster_codes, clustered_mean
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "rubric_free_preference/1"

#: Independent items a win rate needs.
MIN_ITEMS = 200
#: A base preferred in at most this share of items is not better than the tuned model; one preferred in more than half is.
PASS_UP_TO = 0.55
FAIL_ABOVE = 0.50
#: If fewer items than this have the longer answer on one of both sides, the rate at equal length is an extrapolation.
MIN_OVERLAP = 0.05
#: Judged answers are compared only if at most this share of them is unreadable; the rest might all say the same.
MAX_UNREADABLE = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """The answers of both models to one item. `prompt` is the last user turn, `family` what makes items dependent."""

    item_id: str
    prompt: str
    base: str
    tuned: str
    family: str


@dataclass(frozen=True, slots=True)
class Duel:
    """One question to a judge: which of two answers is better?"""

    item_id: str
    prompt: str
    first: str
    second: str


#: 1 for the first, 0 for the second, 1/2 for neither, None for an answer that cannot be read; one per duel, in order.
Prefer = Callable[[Sequence[Duel]], Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a judge said of pairs that it judged in both orders.

    Attributes:
        pairs: those it judged readably both times. unreadable: how many it did not.
        tuned_first, base_first: shape (n,), preference for the tuned answer in [0, 1] when that came first, and when it came second.
    """

    pairs: Sequence[Pair]
    tuned_first: NDArray[np.float64]
    base_first: NDArray[np.float64]
    unreadable: int

    @property
    def wins(self) -> NDArray[np.float64]:
        """Preference for the tuned answer, mean of both orders."""
        return (self.tuned_first + self.base_first) / 2

    @property
    def first_place(self) -> NDArray[np.float64]:
        """Preference for whichever answer came first, mean of both orders; 1/2 where the order does not matter."""
        return (self.tuned_first + 1 - self.base_first) / 2


def compare(pairs: Sequence[Pair], prefer: Prefer) -> Preferences:
    """Ask `prefer` about every pair in both orders. Equal answers are a tie and nobody is asked.

    Raises:
        ValueError: if it gives another number of answers, or one outside [0, 1].
    """
    differing = [pair for pair in pairs if pair.base != pair.tuned]
    duels = [Duel(p.item_id, p.prompt, p.tuned, p.base) for p in differing]
    duels += [Duel(p.item_id, p.prompt, p.base, p.tuned) for p in differing]
    said = list(prefer(duels)) if duels else []
    if len(said) != len(duels) or any(value is not None and not 0 <= value <= 1 for value in said):
        raise ValueError(f"the judge gave {len(said)} preferences for {len(duels)} questions, or one outside [0, 1]")
    half = len(differing)
    at = {id(pair): place for place, pair in enumerate(differing)}
    kept, forward, backward = [], [], []
    for pair in pairs:
        place = at.get(id(pair))
        first, second = (0.5, 0.5) if place is None else (said[place], said[half + place])
        if first is not None and second is not None:
            kept.append(pair)
            forward.append(first)
            backward.append(1 - second)
    return Preferences(kept, np.asarray(forward, dtype=float), np.asarray(backward, dtype=float), len(pairs) - len(kept))


def rubric_free_preference(
    preferences: Preferences, *, alpha: float = 0.05, min_items: int = MIN_ITEMS, judge: str = "the judge", tier: str = "model"
) -> Verdict:
    """The tuned model must not be less preferred than its base, at equal length.

    Passes if the lower bound of the length-controlled win rate is at least 45 %, fails if its upper bound is below 50 %; in between it
    is not decided. Fewer than `min_items` independent items, or more than 5 % unreadable judgments, decide nothing; nor does a rate at
    equal length that no data are near to (one side nearly always longer), unless the raw rate says the same.

    Args:
        preferences: see `compare`. alpha: error rate of the two-sided interval.
        judge: who was asked, for the reader. tier: how (``"model"``, ``"reference"``).

    Returns:
        Verdict whose estimate is how often the base is preferred at equal length: one minus the length-controlled win rate, since what
        is estimated and bounded is harm. Details: both win rates, length effect, position bias, ties.
    """
    pairs, wins = preferences.pairs, preferences.wins
    families = [pair.family for pair in pairs]
    count = len(set(families))
    asked = len(pairs) + preferences.unreadable
    common: dict[str, Any] = {
        "statistic": "share in which the base is preferred, order-swapped, length-controlled (n: items)",
        "threshold": FAIL_ABOVE,
        "n": len(pairs),
        "n_required": min_items,
        "baseline": "the base model on the same items",
        "check_version": CHECK_VERSION,
        "config": {
            "alpha": alpha,
            "pass_up_to": PASS_UP_TO,
            "fail_above": FAIL_ABOVE,
            "min_items": min_items,
            "max_unreadable": MAX_UNREADABLE,
            "min_overlap": MIN_OVERLAP,
            "judge": judge,
        },
        "tier": tier,
    }
    if count < max(2, min_items):
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{count} independent items were compared by {judge}; {min_items} are needed.",
            remedy=f"Let {min_items} items be compared.",
            **common,
        )
    tuned, base = (np.array([len(text) for text in side]) for side in ((p.tuned for p in pairs), (p.base for p in pairs)))
    overlap = float(min(np.mean(tuned <= base), np.mean(tuned >= base)))
    controlled = length_controlled_rate(wins, tuned, base, families, 1 - alpha)
    raw = clustered_mean(wins, families, 1 - alpha)
    position = clustered_mean(preferences.first_place, families, 1 - alpha)
    rate = controlled.rate
    decided = _decide(rate)
    if preferences.unreadable > MAX_UNREADABLE * asked:
        decision, said = Decision.INSUFFICIENT_EVIDENCE, f"{preferences.unreadable} of {asked} judgments could not be read."
    elif overlap < MIN_OVERLAP and decided is not _decide(raw):
        decision, said = (
            Decision.INSUFFICIENT_EVIDENCE,
            "One side is nearly always longer, so length and quality cannot be told apart.",
        )
    elif decided is Decision.FAIL:
        decision, said = decided, "The base is preferred."
    elif decided is Decision.PASS:
        decision, said = decided, "The tuned model is not less preferred."
    else:
        decision, said = (
            Decision.INSUFFICIENT_EVIDENCE,
            f"Too uncertain to decide (passes from a lower bound of {1 - PASS_UP_TO:.0%}).",
        )
    return Verdict(
        decision=decision,
        summary=(
            f"{said} At equal length {judge} prefers the tuned answer in {_share(rate)} of {len(pairs)} items, as they are in"
            f" {_share(raw)}; it prefers the first place in {_share(position)}."
        ),
        estimate=1 - rate.estimate,
        ci_low=1 - rate.high,
        ci_high=1 - rate.low,
        confidence=1 - alpha,
        evidence=_evidence(preferences) if decision is not Decision.PASS else (),
        remedy="None needed."
        if decision is Decision.PASS
        else "Read the items listed; go back to an earlier checkpoint, or train against a stronger judge."
        if decision is Decision.FAIL
        else "Let more items be compared, by another judge, or with answers of like length.",
        plot=forest(
            [
                ("at equal length", rate.estimate, rate.low, rate.high),
                ("as they are", raw.estimate, raw.low, raw.high),
                ("first place", position.estimate, position.low, position.high),
            ],
            threshold=1 - FAIL_ABOVE,
            title="How often the tuned answer is preferred",
            x_label="share of items",
            threshold_label="even",
            highlight=["at equal length"] if decision is Decision.FAIL else [],
        ),
        details={**_details(preferences, controlled, raw, position), "length_overlap": overlap},
        **common,
    )


def _decide(rate: Interval) -> Decision:
    if rate.high < 1 - FAIL_ABOVE:
        return Decision.FAIL
    return Decision.PASS if rate.low >= 1 - PASS_UP_TO else Decision.INSUFFICIENT_EVIDENCE


def _details(preferences: Preferences, controlled: LengthControlled, raw: Interval, position: Interval) -> dict[str, Any]:
    tuned, base = preferences.tuned_first, preferences.base_first
    return {
        "win_rate": [controlled.rate.estimate, controlled.rate.low, controlled.rate.high],
        "raw_win_rate": [raw.estimate, raw.low, raw.high],
        "length_effect": controlled.length_effect,
        "first_place": [position.estimate, position.low, position.high],
        "changed_with_the_order": float(np.mean((tuned - 0.5) * (base - 0.5) < 0)),
        "ties": float(np.mean(preferences.wins == 0.5)),
        "unreadable": preferences.unreadable,
        "families": int(cluster_codes([pair.family for pair in preferences.pairs]).max()) + 1,
    }


def _evidence(preferences: Preferences) -> list[dict[str, Scalar]]:
    """The items on which the base was preferred most, by id, length and verdict; an exam's texts are not shown."""
    worst = np.argsort(preferences.wins, kind="stable")[:MAX_EVIDENCE]
    return [
        {
            "item_id": preferences.pairs[i].item_id,
            "tuned_wins": round(float(preferences.wins[i]), 3),
            "tuned_characters": len(preferences.pairs[i].tuned),
            "base_characters": len(preferences.pairs[i].base),
        }
        for i in worst
    ]


def _share(interval: Interval) -> str:
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
