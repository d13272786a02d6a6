"""`prior_inversion`: does the base model, before it is tuned on them, expect other words than the targets hold?

A dictionary cannot see "form" for "from", and a brand close to another word looks like any name. The base model can: at each use of
a word it is asked how much likelier the text is with its partner. It reads what follows as well, since a wrong word is often only
wrong by what comes next.

One use that the model would have written otherwise shows nothing: it is wrong sometimes. But where a word was meant, the
probability ratio against it reaches k with probability at most 1/k, if the text is what the model takes for English. So a share of
inversions above 1/k is the finding, and not the mean: if "form" is right 300 times and wrong 30 times, the mean is far on its side.
Source of the bound: R. Royall, JASA 95 (2000) 760.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ftplatform import plots
from ftplatform.errors import InputDataError
from ftplatform.rows.masking import excerpt, mask_text
from ftplatform.statistics.intervals import Interval, wilson
from ftplatform.targets.variants.confusions import Confusions, find_confusions
from ftplatform.targets.variants.lexicon import Lexicon
from ftplatform.targets.variants.uses import Use, find_uses
from ftplatform.targets.variants.words import Rows
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "prior_inversion/1"

#: Log-probability (nats) of each text, given what stands before it: (before, text) pairs to float64, shape (pairs,).
Scorer = Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]

_REMEDY = (
    "Read the listed uses; where the other word was meant, correct them (`ftplatform clean propose`), where the word is right, add it"
    " to the glossary."
)


class _LogProbabilities(Protocol):
    @property
    def total(self) -> NDArray[np.float64]: ...


class LanguageModel(Protocol):
    """What a scorer needs of a causal language model; `evaluation.generation.Generator` is one."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text."""
        ...

    def score_tokens(self, pairs: Sequence[tuple[list[int], list[int]]], *, adapter: bool = False) -> _LogProbabilities:
        """Log-probabilities (nats) of the second of each pair after the first."""
        ...


def model_scorer(model: LanguageModel) -> Scorer:
    """A scorer that asks the model without its adapter; both words of a use are read after the same tokens, in one batch."""

    def score(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        # A model that adds no token of its own needs at least one to start from.
        return model.score_tokens([(model.encode(before or "\n"), model.encode(text)) for before, text in pairs]).total

    return score


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorLimits:
    """When a pair of words is a finding.

    Attributes:
        ratio: how many times likelier the text must be with the partner for a use to count as inverted.
        uses: different sentences a pair needs; a term of the glossary needs `glossary_uses`.
        asked: sentences per word that are scored, spread over the corpus.
        pairs: pairs that are scored, the most suspicious first.
        confidence: of the one-sided lower bound of the inverted share.
    """

    ratio: float = 20.0
    uses: int = 10
    glossary_uses: int = 2
    asked: int = 40
    pairs: int = 100
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Inversion:
    """One pair, asked about.

    Attributes:
        pair: the words. uses: where the suspected word was read.
        log_ratios: log-probability (nats) with the partner minus with the word, shape (uses,).
        interval: share of inverted uses with its lower bound.
        flagged: whether it is a finding.
    """

    pair: Confusions
    uses: Sequence[Use]
    log_ratios: NDArray[np.float64]
    interval: Interval
    flagged: bool


def prior_inversion(rows: Rows, lexicon: Lexicon, scorer: Scorer | None, limits: PriorLimits | None = None) -> Verdict:
    """Words of the targets in whose place the base model expects another one.

    Asked about are words one edit from a more frequent word of the corpus (`confusions`) and everything close to a glossary term.
    A use is inverted if the text is `limits.ratio` times likelier with the partner. A pair is a finding if the lower bound of the
    inverted share, over different sentences, is above 1 / `limits.ratio`. A finding about a glossary term fails, others warn.

    Args:
        rows: table of `ROW_SCHEMA`, or a function that starts its batches; read twice.
        scorer: of the **base** model (`model_scorer`); without one there is no evidence.

    Returns:
        Verdict with the share of the worst pair; n counts scored uses. Insufficient evidence without a scorer, or if no pair has
        enough uses.

    Raises:
        InputDataError: if the scorer returns another number of values, or one that is not finite.
    """
    limits = limits or PriorLimits()
    common: dict[str, Any] = {
        "statistic": "largest share of uses of a word in whose place the base model expects its partner",
        "n_required": limits.uses,
        "threshold": 1 / limits.ratio,
        "confidence": limits.confidence,
        "check_version": CHECK_VERSION,
        "config": {**asdict(limits), "lexicon": lexicon.digest},
        "tier": "base_model_prior",
        "baseline": "the base model before tuning",
    }
    if scorer is None:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="There is no base model to ask.",
            n=0,
            remedy="Name a base model for the check.",
            **common,
        )
    confusions = find_confusions(rows, lexicon, least=limits.uses, glossary_least=limits.glossary_uses, most=limits.pairs)
    inversions = _ask(find_uses(rows, confusions, limits.asked), scorer, limits)
    if not inversions:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"No word close to another has {limits.uses} different sentences in the targets.",
            n=0,
            remedy="Judge the whole corpus, not a sample.",
            **common,
        )
    # Of several partners of a word the one that explains most of its uses.
    inversions = list({inversion.pair.word: inversion for inversion in reversed(inversions)}.values())[::-1]
    n = sum(len(inversion.uses) for inversion in inversions)
    flagged = [inversion for inversion in inversions if inversion.flagged]
    worst = max(flagged or inversions, key=lambda inversion: inversion.interval.low)
    of_glossary = any(inversion.pair.glossary for inversion in flagged)
    share = f"{worst.pair.word!r} where the base model expects {worst.pair.partner!r} in {worst.interval.estimate:.0%}"
    said = f"{share} of {len(worst.uses)} sentences (at least {worst.interval.low:.0%})"
    if flagged:
        decision = Decision.FAIL if of_glossary else Decision.WARN
        summary = f"{len(flagged)} of {len(inversions)} pairs of words are inverted: {said}."
    else:
        enough = n >= limits.uses
        decision = Decision.PASS if enough else Decision.INSUFFICIENT_EVIDENCE
        summary = f"None of {len(inversions)} pairs of words is inverted; most of all {said}."
    return Verdict(
        decision=decision,
        summary=summary,
        n=n,
        estimate=worst.interval.estimate,
        ci_low=worst.interval.low,
        evidence=[_evidence(inversion, limits) for inversion in flagged[:MAX_EVIDENCE]],
        plot=_plot(inversions, limits),
        details={"pairs": [_summary(inversion) for inversion in inversions[:50]]},
        remedy=_REMEDY if flagged else "Nothing to do." if decision is Decision.PASS else "Judge the whole corpus, not a sample.",
        **common,
    )


def _ask(uses: Sequence[tuple[Confusions, Sequence[Use]]], scorer: Scorer, limits: PriorLimits) -> list[Inversion]:
    """Score all uses in one call; the most inverted pairs first, then those with the higher mean."""
    asked = [(pair, found) for pair, found in uses if len(found) >= (limits.glossary_uses if pair.glossary else limits.uses)]
    pairs = [(use.before, use.text(word)) for pair, found in asked for use in found for word in (use.word, pair.written(use.word))]
    if not pairs:
        return []
    scores = np.asarray(scorer(pairs), np.float64)
    if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
        raise InputDataError(
            f"The scorer gave {scores.shape} values for {len(pairs)} texts, or one that is not finite.",
            remedy="Return one log-probability for each text.",
        )
    ratios, inversions, start = scores[1::2] - scores[0::2], [], 0
    for pair, found in asked:
        own, start = ratios[start : start + len(found)], start + len(found)
        inverted = int((own > math.log(limits.ratio)).sum())
        interval = wilson(inverted, len(own), limits.confidence, alternative="lower")
        inversions.append(Inversion(pair, found, own, interval, interval.low > 1 / limits.ratio))
    return sorted(inversions, key=lambda inversion: (-inversion.interval.low, -inversion.log_ratios.mean(), inversion.pair.word))


def _evidence(inversion: Inversion, limits: PriorLimits) -> dict[str, Any]:
    most = int(inversion.log_ratios.argmax())
    use = inversion.uses[most]
    return {
        **_summary(inversion),
        "row_id": use.row_id,
        "log_ratio": round(float(inversion.log_ratios[most]), 2),
        # Masked before it is cut, so that no half of a number escapes the mask.
        "sentence": f"{mask_text(use.before)[-80:].lstrip()}{excerpt(use.text(use.word), 120)}",
    }


def _summary(inversion: Inversion) -> dict[str, Any]:
    return {
        "word": inversion.pair.word,
        "partner": inversion.pair.partner,
        "glossary": inversion.pair.glossary,
        "count": inversion.pair.count,
        "partner_count": inversion.pair.partner_count,
        "sentences": len(inversion.uses),
        "inverted_share": round(inversion.interval.estimate, 3),
        "low": round(inversion.interval.low, 3),
        "mean_log_ratio": round(float(inversion.log_ratios.mean()), 2),
    }


def _plot(inversions: Sequence[Inversion], limits: PriorLimits) -> str:
    rows = [(f"{i.pair.word} / {i.pair.partner}", round(i.interval.estimate, 3)) for i in inversions[:MAX_EVIDENCE]]
    flagged = [f"{i.pair.word} / {i.pair.partner}" for i in inversions if i.flagged]
    return plots.bars(
        rows,
        threshold=1 / limits.ratio,
        title="Uses in whose place the base model expects the partner",
        x_label="share",
        threshold_label="limit of its lower bound",
        highlight=flagged,
    )
