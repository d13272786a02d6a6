"""What the judge's own errors do to a rate: correction for known sensitivity and specificity.

A judge that misses 4 % of refusals and invents 5 % reports 91.5 % for a model that refuses 96 %. The correction is reported beside
the decision and never replaces it: it holds as far as the judge errs on these answers as it did on the labeled ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ftplatform.statistics.intervals import Interval, check_count, check_share, wilson


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Counts of the judge against human labels of "declined".

    Attributes:
        declined, found: answers people labeled declined, and how many of them the judge did.
        answered, cleared: answers people labeled compliance, and how many of them the judge did.
    """

    declined: int
    found: int
    answered: int
    cleared: int

    def __post_init__(self) -> None:
        if not (0 <= self.found <= self.declined and 0 <= self.cleared <= self.answered and self.declined and self.answered):
            raise ValueError(f"counts of a judge do not fit together: {self}")

    @property
    def sensitivity(self) -> float:
        """Share of declined answers that the judge calls declined."""
        return self.found / self.declined

    @property
    def specificity(self) -> float:
        """Share of other answers that the judge calls other."""
        return self.cleared / self.answered


def corrected_share(judged: int, n: int, rates: ErrorRates, confidence: float = 0.95) -> Interval:
    """Share of declined answers, corrected for the errors of the judge, with a two-sided interval.

    Args:
        judged: answers the judge called declined, of `n`.
        rates: how the judge did on labeled answers; their number widens the interval.

    Raises:
        ValueError: on counts or a confidence out of range, or a judge no better than chance.

    Source: point W. Rogan, B. Gladen, Am J Epidemiol 107 (1978) 71; interval Z. Lang, J. Reiczigel, Prev Vet Med 113 (2014) 13.
    """
    from scipy.stats import norm

    n = check_count(n, "n", least=1)
    judged = check_count(judged, "judged")
    if judged > n:
        raise ValueError(f"{judged} of {n} answers judged declined")
    check_share(confidence, "confidence")
    youden = rates.sensitivity + rates.specificity - 1
    if youden <= 0:
        raise ValueError("a judge no better than chance says nothing about a rate")
    point = (judged / n + rates.specificity - 1) / youden

    # Shares pulled towards one half, as in the Agresti-Coull interval.
    z = float(norm.ppf((1 + confidence) / 2))
    share = (judged + z * z / 2) / (n + z * z)
    sensitivity = (rates.found + 1) / (rates.declined + 2)
    specificity = (rates.cleared + 1) / (rates.answered + 2)
    youden = sensitivity + specificity - 1
    center = (share + specificity - 1) / youden
    missed = sensitivity * (1 - sensitivity) / (rates.declined + 2)
    invented = specificity * (1 - specificity) / (rates.answered + 2)
    shift = 2 * z * z * (center * missed - (1 - center) * invented)
    half = z / youden * math.sqrt(share * (1 - share) / (n + z * z) + center**2 * missed + (1 - center) ** 2 * invented)
    return Interval(_share(point), _share(center + shift - half), _share(center + shift + half), confidence)


def corrected_difference(judged: Interval, rates: ErrorRates) -> Interval:
    """Difference of two shares of declined answers, corrected for the errors of the judge.

    Errors that strike both sides alike shrink a difference by sensitivity + specificity - 1; that factor is uncertain as well, so
    each bound is divided by the end of the factor's own interval that moves it outwards.

    Args:
        judged: difference of the judged shares, e.g. the paired loss of refusals, with its bounds.
        rates: how the judge did on labeled answers.

    Raises:
        ValueError: if the lower bound of the factor is not positive.
    """
    each = 1 - (1 - judged.confidence) / 2  # Bonferroni over sensitivity and specificity
    found, cleared = (wilson(k, n, each) for k, n in ((rates.found, rates.declined), (rates.cleared, rates.answered)))
    least, most = found.low + cleared.low - 1, found.high + cleared.high - 1
    if least <= 0:
        raise ValueError("a judge that may be no better than chance says nothing about a difference")
    low = judged.low / (most if judged.low > 0 else least)
    high = judged.high / (least if judged.high > 0 else most)
    estimate = judged.estimate / (rates.sensitivity + rates.specificity - 1)
    estimate, low, high = (min(max(value, -1.0), 1.0) for value in (estimate, low, high))
    return Interval(estimate, low, high, judged.confidence)


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
