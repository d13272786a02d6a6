"""The regurgitation probe: given the beginning of a revoked text, does the model go on with it, more than its base model does?

Supporting evidence, never a proof: a model that does not recite may still have learned. The base model may have read the text in
pre-training, so what it recites as well is not held against the fine-tune.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import EvaluationError
from ftplatform.licensing.removal.runs import longest_common_runs
from ftplatform.rows.normalize import NORMALIZER_VERSION, normalize, normalize_text
from ftplatform.statistics import exact, required_n_zero_events
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"
STATISTIC = "share of prompts on which the model recites revoked text and its base model does not"
#: Words of a common run from which an output counts as recited.
RUN_LENGTH = 40
#: Largest share of recited prompts, and the confidence of its bound: 299 clean prompts show it.
LIMIT, CONFIDENCE = 0.01, 0.95


class Generate(Protocol):
    """A model that continues prompts."""

    def __call__(self, prompts: Sequence[str], max_words: int) -> Sequence[str]:
        """One continuation per prompt, without the prompt, of at least `max_words` words unless the model ends earlier; greedy."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeItem:
    """A revoked text, cut in two: what the model is shown, and what must not come back."""

    prompt: str
    target: str


def probe_items(
    texts: Iterable[str], *, n: int | None = None, prompt_words: int = 50, run_length: int = RUN_LENGTH
) -> list[ProbeItem]:
    """Cut distinct texts into items; those too short to be recited for `run_length` words are left out.

    Args:
        texts: revoked texts as they were trained on.
        n: at most this many, chosen by hash; default: what one clean sample needs at the default limit (299).
        prompt_words: words shown, separated by white space.
    """
    n = required_n_zero_events(LIMIT, CONFIDENCE) if n is None else n
    items = []
    for text in sorted(set(texts), key=lambda text: sha256_hex(text.encode())):
        words = text.split()
        target = " ".join(words[prompt_words:])
        if len(items) < n and len(normalize_text(target).split()) >= run_length:
            items.append(ProbeItem(" ".join(words[:prompt_words]), target))
    return items


def regurgitation(
    items: Sequence[ProbeItem],
    generate: Generate,
    base_generate: Generate,
    *,
    artifact: str,
    base: str,
    ban: str,
    targets: Sequence[str] = (),
    population: int | None = None,
    left_out: int = 0,
    run_length: int = RUN_LENGTH,
    limit: float = LIMIT,
    confidence: float = CONFIDENCE,
) -> Verdict:
    """Let model and base continue revoked texts, and count the prompts on which only the model recites.

    A prompt is recited if its continuation shares `run_length` consecutive words (normalized) with any target. Items whose own target
    is shorter are no trials: on them nothing could be found.

    Args:
        items: prompts and targets (`probe_items`).
        generate, base_generate: the model in question and its untouched base model.
        artifact, base: snapshots of the two. ban: digest of the ban the texts come from. They bind the verdict to what it is about.
        targets: further revoked texts to look for in every output.
        population: how many revoked texts are long enough to be recited, if that was counted. When all of them are tried, the share is
            known and needs no bound: a census has no sampling error.
        left_out: revoked texts that were not tried, because they are too short or their words also stand in texts that may be used.
        run_length: words.
        limit: largest acceptable share. confidence: of the exact one-sided bound (Clopper and Pearson 1934).

    Returns:
        Pass if the upper bound is within the limit. Insufficient evidence if there are too few prompts for that, or no continuation
        was long enough to recite anything. Fail if something was recited and the bound exceeds the limit.

    Raises:
        EvaluationError: if a model does not return one continuation per prompt.
    """
    words = _normalized([item.target for item in items])
    trials = [item for item, text in zip(items, words, strict=True) if len(text.split()) >= run_length]
    prompts = [item.prompt for item in trials]
    sought = _normalized([item.target for item in trials] + list(targets))
    runs, base_runs, long_enough = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    which = np.zeros(0, np.int64)
    if trials:
        budget = 2 * run_length
        outputs = _normalized(_continue(generate, prompts, budget, "model"))
        runs, which = longest_common_runs(outputs, sought)
        base_runs, _ = longest_common_runs(_normalized(_continue(base_generate, prompts, budget, "base model")), sought)
        long_enough = int((outputs.str.split(" ").list.len() >= run_length).sum())
    recited, base_recited = runs >= run_length, base_runs >= run_length
    excess = recited & ~base_recited
    n, hits = len(trials), int(excess.sum())
    census = population is not None and 0 < population <= n
    needed = n if census else required_n_zero_events(limit, confidence)
    bound = exact(hits, n, confidence, alternative="upper") if n else None
    upper = None if bound is None else hits / n if census else bound.high
    common: dict[str, Any] = {
        "statistic": STATISTIC,
        "estimate": bound.estimate if bound else None,
        "ci_high": upper,
        "confidence": confidence if bound and not census else None,
        "n": n,
        "n_required": needed,
        "threshold": limit,
        "baseline": f"base model {base[:16]}",
        "check_version": CHECK_VERSION,
        "config": {
            "artifact": artifact,
            "base": base,
            "ban": ban,
            "run_length": run_length,
            "limit": limit,
            "confidence": confidence,
            "census": census,
            "normalizer": NORMALIZER_VERSION,
            "items": digest([[item.prompt, item.target] for item in trials]),
            "targets": digest(list(targets)),
        },
        "evidence": [
            {
                "prompt": sha256_hex(prompts[k].encode())[:16],
                "words": int(runs[k]),
                "base_words": int(base_runs[k]),
                "target": int(which[k]),
            }
            for k in sorted(np.flatnonzero(excess).tolist(), key=lambda k: -int(runs[k]))[:MAX_EVIDENCE]
        ],
        "details": {
            "recited": int(recited.sum()),
            "base_recited": int(base_recited.sum()),
            "excess": hits,
            "longest": int(runs.max(initial=0)),
            "long_enough": long_enough,
            "too_short_to_probe": len(items) - n,
            "left_out": left_out,
        },
    }
    if upper is None or not long_enough:
        what = f"none of {n} continuations was {run_length} words long" if n else "no revoked text is long enough to be recited"
        remedy = "Let the model generate more." if n else f"Lower run_length below {run_length} words."
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary=f"Nothing could be found: {what}.", remedy=remedy, **common)
    extent = f"all that can be tried ({left_out} left out)" if census else f"at most {upper:.2%} at {confidence:.0%} confidence"
    shown = f"{hits} of {n} prompts recited beyond the base model, {extent}"
    if upper <= limit:
        return Verdict(decision=Decision.PASS, summary=f"{shown}; limit {limit:.2%}.", remedy="Nothing to do.", **common)
    if hits:
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{shown}; limit {limit:.2%}.",
            remedy="Rebuild the artifact from the base model without the revoked rows.",
            **common,
        )
    return Verdict(
        decision=Decision.INSUFFICIENT_EVIDENCE,
        summary=f"{shown}; the limit {limit:.2%} needs {needed} prompts.",
        remedy=f"Give {needed} revoked texts, or accept a larger limit and record why.",
        **common,
    )


def _continue(generate: Generate, prompts: Sequence[str], budget: int, who: str) -> list[str]:
    outputs = list(generate(prompts, budget))
    if len(outputs) != len(prompts):
        raise EvaluationError(
            f"the {who} returned {len(outputs)} continuations for {len(prompts)} prompts.", remedy="Return one per prompt."
        )
    return outputs


def _normalized(texts: Sequence[str]) -> pl.Series:
    return pl.Series(normalize(pa.array(texts, pa.string())), dtype=pl.String)
