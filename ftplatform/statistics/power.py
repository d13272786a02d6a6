"""How many observations a decision needs, computed before anybody looks at the data."""

from __future__ import annotations

import math
from typing import SupportsIndex

from ftplatform.statistics.intervals import check_count, check_share

# A product that is an integer up to rounding must not be rounded up to the next one.
_ROUNDING = 1e-9

#: Largest share of items whose outcome flips either way that the default sample sizes allow for; fine-tunes that work stay below.
DISCORDANT_SHARE = 0.10


def required_n_noninferiority(
    margin: float, discordant_share: float = DISCORDANT_SHARE, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Pairs needed to show that a paired loss is below `margin` when there is truly none.

    n = (z[1-alpha] + z[power])^2 psi / margin^2, one-sided, normal approximation at a true difference of zero.

    Args:
        margin: largest acceptable loss as a share (0.05 is five percentage points).
        discordant_share: psi, share of pairs whose outcome differs, either way.
        alpha: one-sided error rate. power: probability of the right answer.

    Raises:
        ValueError: on a share outside (0, 1).

    Source: J. M. Nam, Biometrics 53 (1997) 1422 (its leading term); A. Agresti, Categorical Data Analysis (2013), section 11.1.
    """
    from scipy.stats import norm

    for value, name in ((margin, "margin"), (discordant_share, "discordant_share"), (alpha, "alpha"), (power, "power")):
        check_share(value, name)
    z = float(norm.isf(alpha)) + float(norm.ppf(power))
    return max(1, math.ceil(z * z * discordant_share / margin**2 - _ROUNDING))


def required_n_zero_events(limit: float, confidence: float = 0.95) -> int:
    """Trials that must all be clean to claim a rate of at most `limit`: the smallest n with (1 - limit)^n <= 1 - confidence.

    299 clean contexts show "at most 1 %" at 95 %, 149 show 2 %, 59 show 5 %. It is `acceptance_plan` with no defect allowed.
    """
    return acceptance_plan(limit, 0, confidence)


def acceptance_plan(limit: float, max_defects: SupportsIndex, confidence: float = 0.95) -> int:
    """Sample size of the single-sampling plan (n, c): a lot with defect rate `limit` passes with probability <= 1 - confidence.

    Args:
        limit: defect rate to be excluded, as a share.
        max_defects: c, accept when the sample has at most this many defects.
        confidence: of the statement "the rate is at most `limit`" made after acceptance.

    Returns:
        The smallest n (binomial model: the lot is large beside the sample).

    Raises:
        ValueError: on a share outside (0, 1) or a negative c.

    Source: D. C. Montgomery, Introduction to Statistical Quality Control, chapter on acceptance sampling (type B curve).
    """
    check_share(limit, "limit")
    check_share(confidence, "confidence")
    defects = check_count(max_defects, "max_defects")
    risk = (1 - confidence) * (1 + _ROUNDING)
    low, high = defects, max(defects + 1, math.ceil(1 / limit))
    while acceptance_probability(high, defects, limit) > risk:
        low, high = high, 2 * high
    while high - low > 1:  # the probability falls with n, so bisect: `low` still accepts too easily, `high` does not
        middle = (low + high) // 2
        if acceptance_probability(middle, defects, limit) > risk:
            low = middle
        else:
            high = middle
    return high


def acceptance_probability(n: SupportsIndex, max_defects: SupportsIndex, rate: float) -> float:
    """Probability that a sample of `n` from a lot with true defect `rate` (a share, 0 to 1) has at most `max_defects` defects."""
    from scipy.stats import binom

    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; it must lie between 0 and 1")
    return float(binom.cdf(check_count(max_defects, "max_defects"), check_count(n, "n", least=1), rate))
