"""Statistics that decide: intervals, paired tests, sample sizes, multiple testing, two-sample tests.

By scipy wherever it has the method, checked against statsmodels, scikit-learn and R; each function names its source. No data is a
`ValueError` here: a check reports insufficient evidence before it calls.
"""

from __future__ import annotations

from ftplatform.statistics.hypergeometric import excess_removal_p
from ftplatform.statistics.intervals import Interval, clustered_mean, exact, t_prediction_interval, wilson
from ftplatform.statistics.multiple import benjamini_hochberg, holm
from ftplatform.statistics.paired import (
    Comparison,
    NonInferiority,
    mcnemar_exact,
    newcombe_paired_difference,
    noninferiority,
    paired_difference,
    paired_mean_difference,
)
from ftplatform.statistics.power import (
    acceptance_plan,
    acceptance_probability,
    required_n_noninferiority,
    required_n_zero_events,
)
from ftplatform.statistics.two_sample import C2ST, area_under_curve, classifier_two_sample

__all__ = [
    "C2ST",
    "Comparison",
    "Interval",
    "NonInferiority",
    "acceptance_plan",
    "acceptance_probability",
    "area_under_curve",
    "benjamini_hochberg",
    "classifier_two_sample",
    "clustered_mean",
    "exact",
    "excess_removal_p",
    "holm",
    "mcnemar_exact",
    "newcombe_paired_difference",
    "noninferiority",
    "paired_difference",
    "paired_mean_difference",
    "required_n_noninferiority",
    "required_n_zero_events",
    "t_prediction_interval",
    "wilson",
]
