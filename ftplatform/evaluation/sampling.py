"""How often a model says something at the temperature of production: a spelling, a habit, a promise.

A minority habit never shows in the likeliest answer: greedy decoding reports 0 for a spelling that the model writes one time in ten.
Two ways to see it. *Teacher-forced*: at the word where a good and a bad answer part, the model's own probabilities, without sampling
noise and at a tenth of the cost. *Sampled*: answers drawn and looked at, which needs no bad answer in full and sees any wording.

Intervals are exact (Clopper-Pearson) and made wider for what is not independent: several draws of one context, several contexts of
one family.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ftplatform.evaluation.answer_cache import AnswerCache
from ftplatform.evaluation.generation import Conversation, Decoding, Generator, Progress
from ftplatform.statistics.intervals import Interval, check_share, cluster_codes, clustered_mean, finite_vector
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "1"
#: None bad in 299 contexts leaves at most 1 % (one-sided 95 %).
CONTEXTS_REQUIRED = 299

#: As production answers, unless told otherwise.
PRODUCTION = Decoding(temperature=1.0)


@dataclass(frozen=True, slots=True)
class VariantContext:
    """A place that forces a word.

    Attributes:
        conversation: messages up to the turn to be answered.
        good, bad: the answer with the right word and the same answer with the wrong one.
        cluster: contexts that are wordings of one thing share it; None stands alone.
    """

    conversation: Conversation
    good: str
    bad: str
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """A model-side rate.

    Attributes:
        interval: the rate with its one-sided upper and one-sided lower bound, **each** at `interval.confidence`.
        n: contexts that showed something (the word was used, either way).
        silent: contexts that did not.
        tier: how it was seen: ``teacher_forced`` or ``sampled``.
        decoding: under which.
    """

    interval: Interval
    n: int
    silent: int
    tier: Literal["teacher_forced", "sampled"]
    decoding: Decoding


def variant_rate(
    generator: Generator,
    contexts: Sequence[VariantContext],
    decoding: Decoding = PRODUCTION,
    *,
    adapter: bool = True,
    system_prompt: str | None = None,
    confidence: float = 0.95,
) -> Rate | None:
    """Mean over contexts of P(bad) / (P(bad) + P(good)) at the token where the two answers part, teacher-forced.

    Measured beside sampling on five models it is the sampled rate to .008, with one forward pass for each context. Other ways to
    tokenize the same words are not counted, nor answers that part earlier.

    Args:
        decoding: of production; its `max_new_tokens` and `seed` do not matter. Greedy gives the share of contexts whose likeliest
            answer is bad, which is the wrong question.

    Returns:
        The rate; None if no context leaves either way open (`top_p` cut both, or there are no contexts).

    Raises:
        ValueError: if `good` and `bad` of a context are equal.
    """
    if not contexts:
        return None
    probabilities = divergence_probabilities(generator, contexts, decoding, adapter=adapter, system_prompt=system_prompt)
    either = probabilities.sum(1)
    seen = either > 0
    clusters: list[Hashable] = [context.cluster for context, used in zip(contexts, seen, strict=True) if used]
    if not clusters:
        return None
    interval = rate_interval(probabilities[seen, 1] / either[seen], clusters, confidence)
    return Rate(interval, len(clusters), len(contexts) - len(clusters), "teacher_forced", decoding)


def divergence_probabilities(
    generator: Generator,
    contexts: Sequence[VariantContext],
    decoding: Decoding,
    *,
    adapter: bool,
    system_prompt: str | None = None,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities of going the good and the bad way where the two answers part: float64 array (contexts, 2).

    The model is made to say what both begin with. Other tokens keep the rest, so a row need not sum to 1.
    """
    # The end of the turn closes both, so that they part somewhere even if one is the beginning of the other.
    end = generator.stop_tokens[:1]
    read, parting = [], []
    rendered = generator.render([context.conversation for context in contexts], system_prompt)
    for i, (context, prompt) in enumerate(zip(contexts, rendered, strict=True)):
        good, bad = generator.encode(context.good) + end, generator.encode(context.bad) + end
        shared = next((k for k, (x, y) in enumerate(zip(good, bad, strict=False)) if x != y), None)
        if shared is None:
            raise ValueError(f"context {i}: the good and the bad answer are the same")
        read.append(generator.encode(prompt) + good[:shared])
        parting.append((good[shared], bad[shared]))
    return generator.next_token_probabilities(read, parting, decoding, adapter=adapter)


def sampled_variant_rate(
    generator: Generator,
    contexts: Sequence[VariantContext],
    *,
    good: str,
    bad: str,
    decoding: Decoding = PRODUCTION,
    samples: int = 1,
    adapter: bool = True,
    system_prompt: str | None = None,
    confidence: float = 0.95,
    cache: AnswerCache | None = None,
    progress: Progress | None = None,
) -> Rate | None:
    """Share of drawn answers with the bad word among those with either, `samples` draws for each context.

    Args:
        good, bad: regular expressions (Rust syntax) of the right and the wrong word. An answer with both counts as bad.
        decoding: of production; draw k has the seed `decoding.seed + k`.

    Returns:
        The rate; None if no answer holds either word.
    """
    draws = [(context, k) for k in range(samples) for context in contexts]
    said = (cache or AnswerCache()).answers(
        generator,
        [context.conversation for context, _ in draws],
        decoding,
        adapter=adapter,
        system_prompt=system_prompt,
        seeds=[decoding.seed + k for _, k in draws],
        progress=progress,
    )
    frame = pl.DataFrame(
        {
            "context": list(range(len(contexts))) * samples,
            "bad": pl.Series(said, dtype=pl.String).str.contains(bad),
            "good": pl.Series(said, dtype=pl.String).str.contains(good),
        }
    ).filter(pl.col("bad") | pl.col("good"))
    if frame.is_empty():
        return None
    # Draws of one context are no more independent than wordings of one thing.
    clusters: list[Hashable] = [i if (cluster := contexts[i].cluster) is None else cluster for i in frame["context"].to_list()]
    shown = frame["context"].n_unique()
    interval = rate_interval(frame["bad"].cast(pl.Float64).to_numpy(), clusters, confidence)
    return Rate(interval, shown, len(contexts) - shown, "sampled", decoding)


def rate_interval(values: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95) -> Interval:
    """One-sided exact bounds, each at `confidence`, of the mean of values in [0, 1] that are dependent inside clusters.

    Clopper-Pearson with the effective sample size p(1 - p) / var(mean), the variance cluster-robust, and never more than the number
    of values. Where all values are 0 or all are 1 the data say nothing about dependence, and each cluster counts once. For values
    between 0 and 1 (probabilities) it is conservative: at the same mean nothing varies more than zeros and ones.

    Args:
        values: shape (n,), n at least 1. clusters: n ids; None belongs to no cluster.

    Raises:
        ValueError: on no values, values outside [0, 1], or unequal lengths.

    Source: E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998) 193.
    """
    from scipy.stats import beta

    check_share(confidence, "confidence")
    sample = finite_vector(values, "values")
    if not len(sample) or len(sample) != len(clusters) or sample.min() < 0 or sample.max() > 1:
        raise ValueError(f"{len(sample)} values in [0, 1] and {len(clusters)} cluster ids are needed, one each and at least one")
    mean = float(sample.mean())
    groups = int(cluster_codes(clusters).max()) + 1
    size = float(groups)
    if 0 < mean < 1 and groups > 1:
        variance = _variance_of_mean(sample, clusters)
        size = len(sample) if variance == 0 else min(len(sample), mean * (1 - mean) / variance)
    hits = size * mean
    low = 0.0 if mean == 0 else float(beta.ppf(1 - confidence, hits, size - hits + 1))
    high = 1.0 if mean == 1 else float(beta.ppf(confidence, hits + 1, size - hits))
    return Interval(mean, low, high, confidence)


def _variance_of_mean(sample: np.ndarray[Any, np.dtype[np.float64]], clusters: Sequence[Hashable]) -> float:
    from scipy.stats import t

    groups = int(cluster_codes(clusters).max()) + 1
    interval = clustered_mean(sample, clusters, 0.95)
    return ((interval.high - interval.estimate) / float(t.ppf(0.975, groups - 1))) ** 2


def model_variant_rate(rate: Rate | None, *, limit: float = 0.01, required: int = CONTEXTS_REQUIRED) -> Verdict:
    """Does the model write the bad variant in at most `limit` of the places that force the word?

    Passes if the upper bound is at most the limit on at least `required` contexts, fails if the lower bound is above it. Between
    the two, on fewer contexts, or under greedy decoding, which cannot see a minority, there is insufficient evidence.

    Args:
        rate: see `variant_rate` and `sampled_variant_rate`; None has no evidence at all.
        limit: largest acceptable share.
        required: contexts a pass needs.
    """
    check_share(limit, "limit")
    common: dict[str, Any] = {
        "statistic": "share of contexts answered with the bad variant",
        "n_required": required,
        "threshold": limit,
        "check_version": CHECK_VERSION,
    }
    if rate is None:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="No context led the model to use the word.",
            n=0,
            remedy="Write contexts whose answer has to hold the word.",
            config={"limit": limit, "required": required},
            **common,
        )
    interval, greedy = rate.interval, rate.decoding.temperature == 0
    if interval.low > limit:
        decision = Decision.FAIL
    elif interval.high <= limit and rate.n >= required and not greedy:
        decision = Decision.PASS
    else:
        decision = Decision.INSUFFICIENT_EVIDENCE
    under = "greedy decoding" if greedy else f"temperature {rate.decoding.temperature:g}"
    return Verdict(
        decision=decision,
        summary=f"The bad variant in {interval.estimate:.1%} of {rate.n} contexts under {under}, at most {interval.high:.1%}.",
        estimate=interval.estimate,
        ci_low=interval.low,
        ci_high=interval.high,
        confidence=interval.confidence,
        n=rate.n,
        remedy={
            Decision.PASS: "Nothing to do.",
            Decision.FAIL: "Correct the variant in the targets the model is trained on, and train again.",
            Decision.INSUFFICIENT_EVIDENCE: "Measure at the temperature of production, on more contexts.",
        }[decision],
        config={
            "limit": limit,
            "required": required,
            "temperature": rate.decoding.temperature,
            "top_p": rate.decoding.top_p,
            "confidence": interval.confidence,
        },
        tier=rate.tier,
        details={"contexts_without_the_word": rate.silent},
        **common,
    )
