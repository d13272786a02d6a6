"""Parameters of the paraphrase check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ftplatform.errors import InputDataError


@dataclass(frozen=True, slots=True)
class ParaphraseRule:
    """What decides.

    The weights were chosen on one half of the items of GSM8K and HumanEval, by a hash of their text; `benchmarks.paraphrase` chooses
    them again and reports what they reach on the other half.

    Attributes:
        candidates: training texts an item is compared with, chosen by TF-IDF; the encoder reads no others. At least 4.
        quantile: of the similarity of an item's nearest neighbor where none is a paraphrase; the threshold.
        false_alarm: probability that some item of a set without paraphrases passes the level at which agreeing numbers or wording
            confirm a pair.
        min_items: items of a set with neighbors in other families, below which there is no threshold.
        min_detectable_embedding, min_detectable_lexical: share of items that must still be found with every third word taken out, by
            tier. A threshold too high for that finds no paraphrase either, and the check abstains: eval items that repeat each
            other under different families. Chosen between GSM8K, most rephrasings of which are found, and HumanEval read as
            prose, of which next to none are.
        number_weight_embedding, number_weight_lexical: how much agreeing numbers add to the similarity, by tier.
        code_literals, code_tokens, code_syntax: weights of the views of `code.VIEWS` besides words, which weigh 1.
        code_suspect: score that 1 % of unrelated texts reach: functions of the standard library, answers to programming tasks, and
            rephrasings of other items. An eval set of code has too many twins of its own to be calibrated on itself.
        code_certain: score that 1 in 2,000 of them reaches; most of those set the task of an item.
        code_agreeing: cosine from which a view of code confirms; set once, not chosen among others.
        agreeing_numbers: weighted Jaccard similarity of the numbers from which they confirm a paraphrase.
        min_shared_numbers: different numbers both texts must name for that.
        max_answer_share: an answer given to a larger share of the set's items confirms nothing ("yes").
        max_uncheckable: share of eval items without user text above which the check abstains.
    """

    candidates: int = 10
    quantile: float = 0.995
    false_alarm: float = 0.05
    min_items: int = 100
    min_detectable_embedding: float = 0.7
    min_detectable_lexical: float = 0.9
    number_weight_embedding: float = 0.2
    number_weight_lexical: float = 0.6
    code_literals: float = 0.5
    code_tokens: float = 0.6
    code_syntax: float = 0.6
    code_suspect: float = 0.76
    code_certain: float = 1.21
    code_agreeing: float = 0.35
    agreeing_numbers: float = 0.6
    min_shared_numbers: int = 2
    max_answer_share: float = 0.02
    max_uncheckable: float = 0.05

    def __post_init__(self) -> None:
        if self.candidates < 4 or self.min_items < 2:
            raise InputDataError(
                f"candidates is {self.candidates} and min_items {self.min_items}.", remedy="Use at least 4 candidates and 2 items."
            )
        if not 0.5 <= self.quantile < 1 or not 0 < self.false_alarm < 1:
            raise InputDataError(
                f"quantile {self.quantile} is not in [0.5, 1) or false_alarm {self.false_alarm} not in (0, 1).",
                remedy="Use values such as 0.995 and 0.05.",
            )

    def record(self) -> dict[str, Any]:
        """The parameters for a verdict's config."""
        return asdict(self)
