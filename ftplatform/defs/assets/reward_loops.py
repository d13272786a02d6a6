"""A reward loop that runs here: an adapter's answers graded by a rubric, the best learned, an exam asked after every round (mode M8)."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ftplatform import progress
from ftplatform.canonical import digest
from ftplatform.defs.assets.adapter_job import lora_settings
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.judging import grading_by, judge_of_rubric
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.errors import InputDataError
from ftplatform.project.models import Adapter
from ftplatform.project.rewards import Reward, RewardLoop
from ftplatform.rows.schema import ROW_SCHEMA, Role, row_id
from ftplatform.store import Snapshot, SnapshotDraft, Store
from ftplatform.verdict import Decision

if TYPE_CHECKING:
    from ftplatform.evaluation.generation import Generator
    from ftplatform.rewards.loop import Actions, Exam, RewardFunction

#: Raise when the same loop should leave another ledger.
LOOP_VERSION = "1"
LOOP_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")
#: Where the policies lie in the snapshot, by checkpoint: what a roll back goes back to.
POLICIES = "policies"
#: Prompts on which the distance from the first policy is measured, one drawn answer each.
_KL_PROMPTS = 32


def loop_role(loop: RewardLoop, asset: str) -> str:
    """As what a loop takes one of its inputs."""
    roles = {
        asset_name(Family.ADAPTERS, loop.start): "continued_adapter",
        asset_name(Family.RAW, loop.prompts): "rows",
        asset_name(Family.RUBRICS, loop.reward): "reward_model",
        asset_name(Family.EVAL_SETS, loop.exam): "evaluates",
    }
    return roles.get(asset, "base_model")


def loop_config(plan: Plan, reward: Reward, loop: RewardLoop) -> dict[str, Any]:
    """Everything but the inputs that decides what the loop does; JSON-able."""
    exam = plan.project.eval_sets[loop.exam]
    return {
        "loop": loop.model_dump(mode="json"),
        "grading": grading_by(plan, loop.reward),
        "exam": exam.model_dump(mode="json", include={"metric", "max_new_tokens"}),
        "governed_by": {"window": reward.window, "approved": list(reward.approved)},
    }


def run_loop(
    plan: Plan, asset: str, reward: Reward, loop: RewardLoop, snapshots: Mapping[str, Snapshot], store: Store, draft: SnapshotDraft
) -> tuple[pa.Table, str | None]:
    """Run it; the policies go into the draft.

    Returns:
        The ledger, and why the governor stopped the loop, None if it ran to its end.

    Raises:
        InputDataError: prompts or exam hold nothing to ask, or share a question.
    """
    from ftplatform.rewards.loop import LoopSettings, best_of_n_loop

    with tempfile.TemporaryDirectory(prefix="ftplatform-loop-") as folder:
        world = _World(plan, asset, loop, snapshots, store, Path(folder))
        if shared := set(world.asked) & set(world.questions):
            raise InputDataError(
                f"{asset}: {len(shared)} questions of the exam {loop.exam} are among the prompts {loop.prompts}, {min(shared)[:80]!r} for"
                " one.",
                remedy="Take them out of the prompts: the loop would be trained on what measures it.",
            )

        def governor(ledger: pa.Table) -> str | None:
            done = int(max(ledger["checkpoint"].to_pylist()))
            progress.advance(f"reward loop {asset}", done, loop.rounds)
            return stopping(ledger, reward)

        done = best_of_n_loop(
            world.first,
            world.asked,
            world.exam,
            world.reward,
            LoopSettings(rounds=loop.rounds, n=loop.samples, seed=loop.seed),
            world.actions,
            governor=governor,
        )
        for checkpoint, policy in enumerate(done.policies):
            for file in sorted(path for path in policy.iterdir() if path.name.startswith("adapter_")):
                draft.add_bytes(f"{POLICIES}/{checkpoint:03d}/{file.name}", file.read_bytes())
    return done.ledger, done.stopped


def stopping(ledger: pa.Table, reward: Reward) -> str | None:
    """Why the next round is not trained: what would hold the ledger once it is built holds the loop while it runs."""
    from ftplatform.rewards.divergence import reward_task_divergence
    from ftplatform.rewards.noninferiority import anchored_noninferiority

    for verdict in (
        reward_task_divergence(ledger, window=reward.window),
        anchored_noninferiority(ledger, approved=reward.approved),
    ):
        if verdict.decision is Decision.FAIL:
            return verdict.summary
    return None


@dataclass(frozen=True)
class _World:
    """What the loop acts on: models, prompts, exam, and a folder for new policies."""

    plan: Plan
    asset: str
    loop: RewardLoop
    snapshots: Mapping[str, Snapshot]
    store: Store
    folder: Path

    @property
    def first(self) -> Path:
        """The policy it begins with."""
        return self.snapshots[asset_name(Family.ADAPTERS, self.loop.start)].local_folder(ADAPTER_FOLDER)

    @property
    def start(self) -> Adapter:
        """The adapter it begins with, as it is declared."""
        return self.plan.project.adapters[self.loop.start]

    @property
    def base(self) -> Snapshot:
        """The model below every policy."""
        return self.snapshots[asset_name(Family.BASE_MODELS, self.start.base)]

    @cached_property
    def references(self) -> dict[str, str]:
        """Prompt to the answer its row holds, for the prompts answers are drawn to."""
        rows = self.snapshots[asset_name(Family.RAW, self.loop.prompts)].read_table("rows.parquet", ["row_id", "messages"])
        found = dict(pair for pair in _asked(rows) if pair[1] is not None or not self.loop.outcome_share)
        if not found:
            needed = " with an answer, which `outcome_share` is measured by" if self.loop.outcome_share else ""
            raise InputDataError(
                f"{self.asset}: the source {self.loop.prompts} holds no question{needed}.",
                remedy="Name another source as `prompts`.",
            )
        return {prompt: found[prompt] or "" for prompt in list(found)[: self.loop.prompts_per_round]}

    @property
    def asked(self) -> list[str]:
        return list(self.references)

    @cached_property
    def questions(self) -> dict[str, str | None]:
        """Question to right answer of the whole exam, whether or not the loop asks it."""
        rows = self.snapshots[asset_name(Family.EVAL_SETS, self.loop.exam)].read_table("rows.parquet", ["row_id", "messages"])
        return dict(_asked(rows))

    @cached_property
    def examined(self) -> dict[str, str]:
        """Question to right answer, of what is asked after every round."""
        items = [(prompt, answer) for prompt, answer in self.questions.items() if answer is not None][: self.loop.exam_items]
        if not items:
            raise InputDataError(
                f"{self.asset}: the exam {self.loop.exam} holds no question with an answer.", remedy="Name another one."
            )
        return dict(items)

    @cached_property
    def exam(self) -> "Exam":
        from ftplatform.evaluation.tasks import score
        from ftplatform.rewards.loop import Exam

        metric, right = self.plan.project.eval_sets[self.loop.exam].metric, list(self.examined.values())

        def outcome(items: Sequence[str], answers: Sequence[str]) -> list[float]:
            return score(list(answers), [right[int(item)] for item in items], metric).to_pylist()

        prompts = {str(i): prompt for i, prompt in enumerate(self.examined)}
        return Exam(prompts=prompts, outcome=outcome, judge={"metric": metric, "references": digest(right)})

    @cached_property
    def reward(self) -> "RewardFunction":
        from ftplatform.evaluation.judges.interface import JudgeItem
        from ftplatform.evaluation.tasks import score

        judge = judge_of_rubric(self.plan, self.loop.reward, self.store)
        assert judge is not None, "the project file was checked for a judge that can be asked"
        metric, share = self.plan.project.eval_sets[self.loop.exam].metric, self.loop.outcome_share
        known = {**self.examined, **self.references}

        def reward(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
            items = [
                JudgeItem(str(i), [{"role": Role.USER, "content": prompt}], answer, known[prompt] or None)
                for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
            ]
            # An answer the judge could not grade is nobody's favorite.
            graded = [verdict.score or 0.0 for verdict in judge.judge(items).verdicts]
            if not share:
                return graded
            right = score(list(answers), [known[prompt] for prompt in prompts], metric).to_pylist()
            return [(1 - share) * said + share * value for said, value in zip(graded, right, strict=True)]

        return reward

    @cached_property
    def actions(self) -> "Actions[Path]":
        from ftplatform.evaluation.decoding import Decoding
        from ftplatform.rewards.loop import Actions

        loop, tokens = self.loop, self.plan.project.eval_sets[self.loop.exam].max_new_tokens

        def talk(policy: Path, prompts: Sequence[str], decoding: Decoding, seeds: Sequence[int] | None = None) -> list[str]:
            conversations = [[{"role": str(Role.USER), "content": prompt}] for prompt in prompts]
            return self._generator(policy).generate(conversations, decoding, adapter=True, seeds=seeds)

        def sample(policy: Path, prompts: Sequence[str], n: int, seed: int) -> list[list[str]]:
            repeated = [prompt for prompt in prompts for _ in range(n)]
            seeds = [seed * n + k for _ in prompts for k in range(n)]
            said = talk(policy, repeated, Decoding(max_new_tokens=tokens, temperature=loop.temperature), seeds)
            return [said[i : i + n] for i in range(0, len(said), n)]

        def kl(policy: Path) -> float:
            asked = self.asked[:_KL_PROMPTS]
            said = talk(policy, asked, Decoding(max_new_tokens=tokens, temperature=1.0), list(range(len(asked))))
            conversations = [[{"role": str(Role.USER), "content": prompt}] for prompt in asked]
            ours, theirs = (
                self._generator(p).teacher_forced_logprob(conversations, said, adapter=True).total for p in (policy, self.first)
            )
            return max(0.0, float((ours - theirs).mean()))

        return Actions(
            sample=sample,
            train=self._train,
            answer=lambda policy, prompts: talk(policy, prompts, Decoding(max_new_tokens=tokens)),
            kl=kl,
        )

    @cached_property
    def _loaded(self) -> "dict[Path, Generator]":
        """The first policy, which distances are measured from, and the one at hand."""
        return {}

    def _generator(self, policy: Path) -> "Generator":
        from ftplatform.evaluation.generation import Generator

        if policy not in self._loaded:
            for gone in set(self._loaded) - {self.first}:
                del self._loaded[gone]
            threads = self.start.training.threads
            self._loaded[policy] = Generator.load(self.base.local_folder(MODEL_FOLDER), policy, threads=threads)
        return self._loaded[policy]

    def _train(self, policy: Path, pairs: Sequence[tuple[str, str]], seed: int) -> Path:
        import pyarrow.parquet as pq

        from ftplatform.training.loop import Optimization
        from ftplatform.training.manifest import prepare
        from ftplatform.training.train import train

        place = self.folder / f"round-{seed:06d}"
        place.mkdir()
        pq.write_table(_rows(pairs, self.asset), place / "rows.parquet")
        manifest = prepare(
            self.base.local_folder(MODEL_FOLDER),
            place / "rows.parquet",
            base_name=self.base.asset,
            optimization=Optimization(
                steps=self.loop.steps, batch_size=self.loop.batch_size, learning_rate=self.loop.learning_rate, seed=seed
            ),
            lora=lora_settings(self.start.training.lora),
            max_tokens=self.start.training.max_tokens,
            adapter_seed=seed,
            precision=self.start.training.precision,
            threads=self.start.training.threads,
            initial_adapter=policy,
        )
        return train(manifest, place / "out").folder


def _asked(rows: pa.Table) -> list[tuple[str, str | None]]:
    """First user turn of each row and the answer right after it, None without; each question once, in order of the row ids."""
    found: dict[str, str | None] = {}
    for row in rows.sort_by("row_id").to_pylist():
        turns = [m for m in row["messages"] if m["role"] != Role.SYSTEM]
        if turns and turns[0]["role"] == Role.USER:
            answered = len(turns) > 1 and turns[1]["role"] == Role.ASSISTANT
            found.setdefault(turns[0]["content"], turns[1]["content"] if answered else None)
    return list(found.items())


def _rows(pairs: Sequence[tuple[str, str]], source: str) -> pa.Table:
    rows = []
    for prompt, answer in pairs:
        messages = [
            {"role": str(Role.USER), "content": prompt, "trainable": False},
            {"role": str(Role.ASSISTANT), "content": answer, "trainable": True},
        ]
        rows.append(
            {
                "row_id": row_id(messages),
                "messages": messages,
                "source": source,
                "origins": [source],
                "parents": [],
                "slices": [],
                "surface": "synthetic",
                "meta": "{}",
            }
        )
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
