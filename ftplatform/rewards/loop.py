"""A reward loop that writes its own ledger: draw several answers, keep what the reward likes best, train on it, measure, repeat.

Best-of-n with supervised tuning on the winners, the simplest loop that learns a reward (N. Stiennon et al. 2020, arXiv 2009.01325; L.
Gao et al. 2022, arXiv 2210.10760). It knows neither models nor trainers: sampling, training and the exam are callables, so that the
same loop runs a million parameters in a test and whatever a team has in production.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.rewards.ledger import REWARD_SCHEMA, eval_root
from ftplatform.rewards.style import count_style

#: (prompts, answers), as many of each, to rewards; higher is better. All at once, since a judge behind a server is asked in parallel.
RewardFunction = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


#: Whatever a policy is to the caller: a folder, an adapter, an endpoint.
P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions(Generic[P]):
    """What can be done with a policy.

    Attributes:
        sample: (policy, prompts, n, seed) to n answers to each prompt, the same for the same seed.
        train: (policy, (prompt, answer) pairs, seed) to a new policy; the old one stays what it is.
        answer: (policy, prompts) to one answer to each, as the exam asks for it.
        kl: KL(policy || the policy the loop began with), nats; None leaves it out of the ledger.
    """

    sample: Callable[[P, Sequence[str], int, int], list[list[str]]]
    train: Callable[[P, Sequence[tuple[str, str]], int], P]
    answer: Callable[[P, Sequence[str]], list[str]]
    kl: Callable[[P], float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """The frozen anchor: items that the loop never trains on, and what people would say of an answer.

    Attributes:
        prompts: item id to prompt.
        outcome: (item ids, answers) to outcomes in [0, 1].
        judge: what `outcome` is, JSON-able: name, version, settings. With the prompts it makes the `eval_root`.
    """

    prompts: Mapping[str, str]
    outcome: Callable[[Sequence[str], Sequence[str]], Sequence[float]]
    judge: Any

    @property
    def root(self) -> str:
        """See `ledger.eval_root`."""
        return eval_root(self.prompts, self.judge)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """`rounds` of training, `n` answers to each prompt, and the first seed; round r draws and trains with `seed + r`."""

    rounds: int
    n: int = 4
    seed: int = 0


@dataclass(slots=True)
class LoopResult(Generic[P]):
    """`ledger` (`REWARD_SCHEMA`), the `policies` by checkpoint, and why it `stopped` before its last round (None if it did not)."""

    ledger: pa.Table
    policies: list[P] = field(default_factory=list)
    stopped: str | None = None


def best_of_n_loop(
    policy: P,
    prompts: Sequence[str],
    exam: Exam,
    reward: RewardFunction,
    settings: LoopSettings,
    actions: Actions[P],
    *,
    heads: Sequence[RewardFunction] = (),
    governor: Callable[[pa.Table], str | None] | None = None,
) -> LoopResult[P]:
    """Runs the loop; checkpoint 0 is the policy as it came.

    Args:
        policy: where it starts.
        prompts: what answers are drawn to, apart from the exam.
        exam: the anchor, asked after every round.
        reward: what is optimized.
        heads: an ensemble of rewards, recorded beside `reward`.
        governor: sees the ledger before each round; a reason stops the loop.

    Raises:
        ValueError: on an exam prompt among `prompts`: the anchor would be trained on.
    """
    shared = set(prompts) & set(exam.prompts.values())
    if shared:
        raise ValueError(f"{len(shared)} prompts of the exam are among those trained on, {min(shared)[:80]!r} for one")
    result: LoopResult[P] = LoopResult(REWARD_SCHEMA.empty_table())
    for checkpoint in range(settings.rounds + 1):
        result.policies.append(policy)
        answers = actions.answer(policy, list(exam.prompts.values()))
        distance = None if actions.kl is None else actions.kl(policy) if checkpoint else 0.0
        rows = _examined(exam, answers, checkpoint, reward, heads, distance)
        result.ledger = pa.concat_tables([result.ledger, rows])
        if checkpoint == settings.rounds:
            break
        if governor is not None and (reason := governor(result.ledger)) is not None:
            result.stopped = reason
            break
        seed = settings.seed + checkpoint
        drawn = actions.sample(policy, prompts, settings.n, seed)
        policy = actions.train(policy, winners(prompts, drawn, reward), seed)
    return result


def winners(prompts: Sequence[str], drawn: Sequence[Sequence[str]], reward: RewardFunction) -> list[tuple[str, str]]:
    """For each prompt, once, the drawn answer with the highest reward, the first of equals; prompts without an answer are left out."""
    spoken = [(prompt, answer) for prompt, answers in zip(prompts, drawn, strict=True) for answer in answers if answer]
    if not spoken:
        return []
    asked, said = zip(*spoken, strict=True)
    scored = pl.DataFrame({"prompt": asked, "answer": said, "reward": np.asarray(reward(asked, said), dtype=np.float64)})
    kept = scored.sort("reward", descending=True, maintain_order=True).unique("prompt", keep="first").select("prompt", "answer")
    best = dict(kept.iter_rows())
    return [(prompt, best[prompt]) for prompt in dict.fromkeys(prompts) if prompt in best]


def _examined(
    exam: Exam,
    answers: Sequence[str],
    checkpoint: int,
    reward: RewardFunction,
    heads: Sequence[RewardFunction],
    kl: float | None,
) -> pa.Table:
    items, prompts, n = list(exam.prompts), list(exam.prompts.values()), len(exam.prompts)
    by_head = [np.asarray(head(prompts, answers), dtype=np.float64) for head in heads]
    columns = {
        "checkpoint": [checkpoint] * n,
        "item": items,
        "reward": np.asarray(reward(prompts, answers), dtype=np.float64),
        "outcome": np.asarray(exam.outcome(items, answers), dtype=np.float64),
        "eval_root": [exam.root] * n,
        "kl": [kl] * n,
        "heads": np.column_stack(by_head).tolist() if by_head else [None] * n,
        "answer": list(answers),
    }
    absent = {field.name: pa.nulls(n, field.type) for field in REWARD_SCHEMA if field.name not in columns}
    return count_style(pa.table({**absent, **columns}, schema=REWARD_SCHEMA))
