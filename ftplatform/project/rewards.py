"""Reward ledgers in the project file (mode M8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ftplatform.project.fields import Model, Name, Owner, Uris
from ftplatform.rows.schema import Surface

if TYPE_CHECKING:
    from ftplatform.project.models import Project

#: Columns of a ledger that may have other names in the file.
Column = Literal[
    "checkpoint", "item", "reward", "outcome", "rater", "eval_root", "kl", "heads", "answer",
    "words", "apologies", "hedges", "caveats", "agreements",
]  # fmt: skip


def _in_order(checkpoints: list[int]) -> list[int]:
    if checkpoints != sorted(set(checkpoints)):
        raise ValueError("must be checkpoints in ascending order, each once; the first is the anchor of all comparisons")
    return checkpoints


class RewardLoop(Model):
    """A loop that runs here: best of n drawn answers, by a rubric, and training on the winners; an exam is asked after every round."""

    start: Name
    """Entry of `adapters` the loop begins with. It stays what it is."""
    prompts: Name
    """Entry of `sources`. Answers to the first user turn of its rows are drawn and trained on."""
    reward: Name
    """Entry of `rubrics` with purpose `reward`, and a judge the platform can ask."""
    exam: Name
    """Entry of `eval_sets` with a `metric`: the frozen outcome, never trained on."""
    outcome_share: float = Field(default=0.0, ge=0, le=1)
    """Part of the reward that is the outcome itself, by the exam's metric against the answers that the rows of `prompts` hold."""
    rounds: int = Field(default=6, ge=1, le=1000)
    """Rounds of training; the governor may stop it before."""
    samples: int = Field(default=4, ge=2, le=64)
    """Answers drawn to each prompt, of which the best is learned."""
    prompts_per_round: int = Field(default=96, ge=1)
    """Prompts answers are drawn to; the same ones in every round."""
    exam_items: int = Field(default=400, ge=1)
    """Questions of the exam that are asked after every round; 400 show a fall of 4 points over 13 checkpoints with probability .8."""
    temperature: float = Field(default=0.9, gt=0, le=2)
    """Of the drawn answers. Hot sampling teaches a small model to babble, which nobody would miss."""
    steps: int = Field(default=18, ge=1)
    """Training steps in a round."""
    batch_size: int = Field(default=32, ge=1)
    """Rows in a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of each round."""
    seed: int = 0
    """Of everything that is drawn."""


class Reward(Model):
    """A reward ledger: per checkpoint and item, the proxy reward and the human outcome (mode M8)."""

    path: Uris = []
    """The ledger's file, glob or URL, or a list of them."""
    loop: RewardLoop | None = None
    """The loop that writes the ledger, in place of `path`."""
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

    @model_validator(mode="after")
    def _recorded_or_run(self) -> Reward:
        if bool(self.path) == (self.loop is not None):
            raise ValueError("give either 'path' (a ledger that was recorded) or 'loop'")
        if self.loop is not None and (given := sorted(self.model_fields_set & {"fields", "method"})):
            raise ValueError(f"'{given[0]}' says how a recorded ledger is read; a loop writes its own")
        return self

    @property
    def moved_by(self) -> Literal["reinforcement", "best_of_n"]:
        """How the policy is moved along the reward."""
        return self.method if self.loop is None else "best_of_n"


def check_reward_loops(project: Project, report: Callable[..., None]) -> None:
    """Reports what the loops of a project cannot be; names that do not exist are reported elsewhere."""
    for name, reward in project.rewards.items():
        loop, path = reward.loop, ("rewards", name, "loop")
        if loop is None:
            continue
        rubric, exam = project.rubrics.get(loop.reward), project.eval_sets.get(loop.exam)
        if rubric is not None and rubric.purpose != "reward":
            report((*path, "reward"), f"the rubric {loop.reward!r} examines; a loop that learns it would learn its exam")
        elif rubric is not None and rubric.judge != "rules" and rubric.judge not in project.judges:
            who = f"the judge {rubric.judge!r} of {loop.reward!r}"
            report((*path, "reward"), f"{who} cannot be asked from here; use 'rules' or an entry of 'judges'")
        if exam is not None and (exam.kind != "task" or exam.rubric is not None):
            report((*path, "exam"), f"{loop.exam!r} is not scored by a metric; name a set of kind 'task' without a rubric")
        elif exam is not None and exam.vault:
            report((*path, "exam"), f"{loop.exam!r} is a vault, and a loop asks its exam after every round; name another set")
        source = project.sources.get(loop.prompts)
        if source is not None and source.surface in (Surface.DEBUG, Surface.EVAL):
            report((*path, "prompts"), f"{loop.prompts!r} has surface '{source.surface}', which is never trained on")
        elif source is not None and exam is not None and set(source.path) & set(exam.path):
            report((*path, "prompts"), f"{loop.prompts!r} is read from the file of the exam {loop.exam!r}; keep them apart")
        start = project.adapters.get(loop.start)
        if start is not None and start.shards is not None:
            report((*path, "start"), f"{loop.start!r} is trained in shards; only a single adapter can be continued")
        before = loop.start
        while before is not None and before in project.adapters:
            if before == reward.adapter:
                report(
                    ("rewards", name, "adapter"),
                    f"the loop begins with {loop.start!r}, which would wait for its own loop; govern another adapter",
                )
                break
            before = project.adapters[before].continues
