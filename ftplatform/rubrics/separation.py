"""`rubric_role_separation`: the rubric that steers the training must not be the one that examines it, under whatever ids and words.

Thresholds were set on labeled pairs of criteria (`ftplatform_tests/unit/rubrics/criterion_pairs.jsonl`): rewordings that share hardly a
content word, against pairs that differ in one word that matters. docs/guide/rubrics.md has the precision and recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftplatform.plots import bars
from ftplatform.rows.masking import excerpt
from ftplatform.rubrics.criteria import RubricCard
from ftplatform.rubrics.families import RULES, judge_family
from ftplatform.rubrics.similarity import Encode, Matrix, lexical_similarity, matched, meaning_similarity
from ftplatform.verdict import MAX_EVIDENCE, Decision, Scalar, Verdict

CHECK_VERSION = "rubric_role_separation/1"

#: From here two criteria share their words.
SAME_WORDS = 0.8
#: From here two criteria ask for the same by meaning; from the lower limit somebody should look.
SAME_MEANING = 0.575
CLOSE_MEANING = 0.475
#: From here, on average over one-to-one matched criteria, one rubric is a rewording of the other, whatever each single pair says.
REWORDED_RUBRIC = 0.5
#: Criteria the shorter rubric needs for an average to mean something.
LEAST_CRITERIA = 3

_EXCERPT = 160


@dataclass(frozen=True, slots=True)
class _Shared:
    """Something reward and eval have in common."""

    how: str
    similarity: float
    decision: Decision
    row: dict[str, Scalar]


def rubric_role_separation(reward: RubricCard, evals: Sequence[RubricCard], *, encode: Encode | None = None) -> Verdict:
    """No criterion of `reward` may be in, or be a near duplicate of one in `evals`, and no judge may be of the same maker.

    Ids are ignored. Two criteria are the same if they have the same rule of a program or share their words; with an encoder also if
    they say the same in other words. A program (`rules`) is no judge with a taste, so it may serve both.

    Args:
        reward: the rubric that steers training. evals: those that examine it.
        encode: vectors of texts; without it paraphrases go unnoticed, and the verdict's tier says so.

    Returns:
        Verdict whose estimate is the highest similarity of two criteria and n the number of pairs compared. Close pairs warn.
        Insufficient without an eval rubric: then nothing says what else the exam is.
    """
    pairs = sum(len(reward.criteria) * len(card.criteria) for card in evals)
    common: dict[str, Any] = {
        "statistic": "highest similarity of a reward criterion with an eval criterion (n: pairs)",
        "threshold": SAME_MEANING if encode is not None else SAME_WORDS,
        "n": pairs,
        "n_required": 1,
        "baseline": ", ".join(card.name for card in evals) or None,
        "check_version": CHECK_VERSION,
        "config": {
            "same_words": SAME_WORDS,
            "same_meaning": SAME_MEANING,
            "close_meaning": CLOSE_MEANING,
            "reworded_rubric": REWORDED_RUBRIC,
            "least_criteria": LEAST_CRITERIA,
        },
        "tier": "lexical" if encode is None else "embedding",
    }
    if not pairs:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"There is no eval rubric to keep {reward.name} apart from.",
            remedy="Declare a rubric of purpose eval, by another author and another judge.",
            **common,
        )
    shared: list[_Shared] = []
    highest: list[tuple[str, float]] = []
    for card in evals:
        mine, theirs = ([c.text for c in side.criteria] for side in (reward, card))
        words = lexical_similarity(mine, theirs)
        meaning = None if encode is None else meaning_similarity(mine, theirs, encode)
        strongest = words if meaning is None else np.maximum(words * (words >= SAME_WORDS), meaning)
        highest += [(f"{reward.name} / {card.name}", float(strongest.max()))]
        shared += [*_criteria(reward, card, words, meaning), *_reworded(reward, card, meaning), *_judges(reward, card)]
    shared.sort(key=lambda found: (found.decision is not Decision.FAIL, -found.similarity))
    failed = [found for found in shared if found.decision is Decision.FAIL]
    decision = Decision.FAIL if failed else Decision.WARN if shared else Decision.PASS
    return Verdict(
        decision=decision,
        summary=_summary(reward, evals, shared, failed, encode is None),
        estimate=max(value for _, value in highest),
        evidence=[found.row for found in shared[:MAX_EVIDENCE]],
        remedy={
            Decision.PASS: "None needed.",
            Decision.WARN: "Read the pairs listed; reword or replace what asks for the same.",
            Decision.FAIL: "Write the eval rubric anew, by another author and with a judge of another maker.",
        }[decision],
        plot=bars(
            highest,
            threshold=common["threshold"],
            title="Closest criteria of reward and eval rubrics",
            x_label="similarity of the closest pair",
            highlight=[label for label, value in highest if value >= common["threshold"]],
        ),
        details={"shared": len(failed), "close": len(shared) - len(failed), "pairs": pairs},
        **common,
    )


def _criteria(reward: RubricCard, card: RubricCard, words: Matrix, meaning: Matrix | None) -> list[_Shared]:
    found = []
    for i, mine in enumerate(reward.criteria):
        for j, theirs in enumerate(card.criteria):
            close = 0.0 if meaning is None else float(meaning[i, j])
            if mine.rule is not None and mine.rule == theirs.rule:
                how, value, decision = "same rule", 1.0, Decision.FAIL
            elif words[i, j] >= SAME_WORDS:
                how, value, decision = "same words", float(words[i, j]), Decision.FAIL
            elif close >= SAME_MEANING:
                how, value, decision = "same meaning", close, Decision.FAIL
            elif close >= CLOSE_MEANING:
                how, value, decision = "close in meaning", close, Decision.WARN
            else:
                continue
            row: dict[str, Scalar] = {
                "how": how,
                "similarity": round(value, 3),
                "reward": f"{reward.name}/{mine.id}",
                "reward_criterion": excerpt(mine.text, _EXCERPT),
                "eval": f"{card.name}/{theirs.id}",
                "eval_criterion": excerpt(theirs.text, _EXCERPT),
            }
            found.append(_Shared(how, value, decision, row))
    return found


def _reworded(reward: RubricCard, card: RubricCard, meaning: Matrix | None) -> list[_Shared]:
    """Each pair may stay below its limit and all together still be one rubric twice."""
    if meaning is None or min(meaning.shape) < LEAST_CRITERIA:
        return []
    average = float(np.mean([meaning[pair] for pair in matched(meaning)]))
    if average < REWORDED_RUBRIC:
        return []
    row: dict[str, Scalar] = {
        "how": "reworded rubric",
        "similarity": round(average, 3),
        "reward": reward.name,
        "eval": card.name,
    }
    return [_Shared("reworded rubric", average, Decision.FAIL, row)]


def _judges(reward: RubricCard, card: RubricCard) -> list[_Shared]:
    mine, theirs = judge_family(reward.family), judge_family(card.family)
    if mine != theirs or mine == RULES:
        return []
    row: dict[str, Scalar] = {
        "how": "same judge family",
        "similarity": 1.0,
        "reward": f"{reward.name}: {excerpt(reward.judge, 80)}",
        "eval": f"{card.name}: {excerpt(card.judge, 80)}",
        "family": excerpt(mine, 80),
    }
    return [_Shared("same judge family", 1.0, Decision.FAIL, row)]


def _summary(
    reward: RubricCard, evals: Sequence[RubricCard], shared: Sequence[_Shared], failed: Sequence[_Shared], words_only: bool
) -> str:
    blind = " Compared by words only: a paraphrase would go unnoticed without an encoder." if words_only else ""
    listed = failed or shared
    if not listed:
        return f"{reward.name} shares no criterion and no judge with {len(evals)} eval rubric(s).{blind}"
    kinds = ", ".join(f"{sum(f.how == how for f in listed)} x {how}" for how in dict.fromkeys(f.how for f in listed))
    verb = "shares what it asks with the exam" if failed else "comes close to the exam"
    return f"{reward.name} {verb}: {kinds}; the closest is {listed[0].row['reward']} and {listed[0].row['eval']}.{blind}"
