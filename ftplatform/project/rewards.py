"""Reward ledgers in the project file (mode M8)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ftplatform.project.fields import Model, Name, Owner, Uris

#: Columns of a ledger that may have other names in the file.
Column = Literal[
    "checkpoint", "item", "reward", "outcome", "rater", "eval_root", "kl", "heads", "answer",
    "words", "apologies", "hedges", "caveats", "agreements",
]  # fmt: skip


def _in_order(checkpoints: list[int]) -> list[int]:
    if checkpoints != sorted(set(checkpoints)):
        raise ValueError("must be checkpoints in ascending order, each once; the first is the anchor of all comparisons")
    return checkpoints


class Reward(Model):
    """A reward ledger: per checkpoint and item, the proxy reward and the human outcome (mode M8)."""

    path: Uris
    """The ledger's file, glob or URL, or a list of them."""
    fields: dict[Column, str] = {}
    """Maps columns to the ledger's keys, where they differ."""
    adapter: Name | None = None
    """Entry of `adapters` whose checkpoints were scored; the ledger governs its training."""
    approved: Annotated[list[int], AfterValidator(_in_order)] = []
    """Checkpoints that people approved, in order. The first, or the first of the ledger, is what later ones are compared with; the last
    is where to roll back to."""
    window: Annotated[int, Field(ge=4)] | None = None
    """How many of the last checkpoints `reward_task_divergence` looks at; all by default."""
    method: Literal["reinforcement", "best_of_n"] = "reinforcement"
    """How the policy is moved along the reward; it decides the law that `overopt_curve` fits."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""
