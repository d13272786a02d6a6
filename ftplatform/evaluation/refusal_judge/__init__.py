"""Does an answer decline, comply, do something in between, or is it no language at all?

Three tiers, all without a remote service. `rules`: regular expressions. `lexical`: the rules and hashed words under coefficients
fitted on 2,250 human labels (XSTest). `embedding`: the same with sentence embeddings. English only.
"""

from __future__ import annotations

from ftplatform.evaluation.refusal_judge.error_rates import ErrorRates, corrected_difference, corrected_share
from ftplatform.evaluation.refusal_judge.judging import BORDER, JUDGE_VERSION, Judgments, RefusalJudge, judge, judge_all
from ftplatform.evaluation.refusal_judge.labels import DECLINED, Label
from ftplatform.evaluation.refusal_judge.rules import declining_rule, label_by_rules

__all__ = [
    "BORDER",
    "DECLINED",
    "JUDGE_VERSION",
    "ErrorRates",
    "Judgments",
    "Label",
    "RefusalJudge",
    "corrected_difference",
    "corrected_share",
    "declining_rule",
    "judge",
    "judge_all",
    "label_by_rules",
]
