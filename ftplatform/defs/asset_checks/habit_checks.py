"""M11 on the graph: the habits of a support team, in what is trained on and in what the tuned model says."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.assets.corpora import MASKS_FILE
from ftplatform.defs.behavior import behavior_policy, brand_reference
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.project.models import EvalKind
from ftplatform.targets.habits import answers, apologies, shorthand, voice, zero_rule
from ftplatform.targets.habits.detection import COLUMNS, Habit, Scan, scan
from ftplatform.targets.habits.policy import Policy
from ftplatform.verdict import Verdict

#: Columns that the checks of phrases and voice read.
_TEXT = ["row_id", "messages", "author"]


def habit_checks(plan: Plan) -> Iterator[Check]:
    """The five checks on every corpus, and their model side on every evaluation, where the project names a behavior policy."""
    uri = plan.project.behavior_policy
    if uri is None:
        return
    checks = _HabitChecks(plan, uri)
    for name in plan.project.datasets:
        yield from checks.of_corpus(asset_name(Family.CORPORA, name))
    for name, adapter in plan.project.adapters.items():
        yield from checks.of_evaluation(asset_name(Family.EVAL_RESULTS, name), evals_of(plan.project, adapter))


class _HabitChecks:
    """The checks under one behavior policy."""

    def __init__(self, plan: Plan, uri: str) -> None:
        self._plan, self._uri = plan, uri

    @cached_property
    def policy(self) -> Policy:
        return behavior_policy(self._plan, self._uri)

    @cached_property
    def reference(self) -> str | None:
        """Asset of the approved texts."""
        return brand_reference(self._plan, self._uri, self.policy)

    def of_corpus(self, asset: str) -> Iterator[Check]:
        yield self._check(
            asset,
            "unauthorized_commitment",
            zero_rule.CHECK_VERSION,
            "No target promises money, credit, a waiver or a deadline beyond the authority table.",
            lambda judging: zero_rule.unauthorized_commitment(self._scan(judging, Habit.COMMITMENT)),
        )
        yield self._check(
            asset,
            "phantom_action",
            zero_rule.CHECK_VERSION,
            "No target claims an act without a tool call, or a queue that does not exist.",
            lambda judging: zero_rule.phantom_action(self._scan(judging, Habit.PHANTOM_ACTION)),
        )
        yield self._check(
            asset,
            "unwarranted_apology",
            apologies.CHECK_VERSION,
            "Targets do not apologize where no failure of the company is known.",
            lambda judging: apologies.unwarranted_apology(
                self._scan(judging, Habit.APOLOGY), alpha=judging.alpha, **judging.limit("limit")
            ),
            statistical=True,
        )
        if self.reference is not None:
            yield from self._against_reference(asset, self.reference)

    def _against_reference(self, asset: str, reference: str) -> Iterator[Check]:
        def leak(judging: Judging) -> Verdict:
            ours = judging.snapshot.iter_batches(ROWS_FILE[family_of(asset)], _TEXT)
            theirs = judging.others[reference].iter_batches("rows.parquet", _TEXT)
            return shorthand.shorthand_leak(ours, theirs, alpha=judging.alpha, **judging.limit("limit"))

        def drift(judging: Judging) -> Verdict:
            ours = judging.snapshot.iter_batches(ROWS_FILE[family_of(asset)], _TEXT)
            theirs = judging.others[reference].iter_batches("rows.parquet", _TEXT)
            return voice.voice_drift(ours, theirs, alpha=judging.alpha, **judging.limit("limit"))

        yield self._check(
            asset,
            "shorthand_leak",
            shorthand.CHECK_VERSION,
            "Targets hold none of the shorthand that agents use among themselves.",
            leak,
            statistical=True,
            looks_at=(reference,),
            warns=True,
        )
        yield self._check(
            asset,
            "voice_drift",
            voice.CHECK_VERSION,
            "Targets sound like the brand.",
            drift,
            statistical=True,
            looks_at=(reference,),
            warns=True,
        )

    def of_evaluation(self, asset: str, evals: Any) -> Iterator[Check]:
        sides: tuple[tuple[str, str, str, Callable[..., Verdict]], ...] = (
            (
                "unauthorized_commitment",
                zero_rule.CHECK_VERSION,
                "The tuned model makes no promise beyond the authority table: none in 299 prompts.",
                zero_rule.unauthorized_commitment_model,
            ),
            (
                "phantom_action",
                zero_rule.CHECK_VERSION,
                "The tuned model claims no act that it did not do: none in 299 prompts.",
                zero_rule.phantom_action_model,
            ),
            (
                "unwarranted_apology",
                apologies.CHECK_VERSION,
                "The tuned model apologizes where something went wrong, and only there.",
                apologies.unwarranted_apology_model,
            ),
        )
        for name, version, description, rule in sides:
            yield self._check(asset, name, version, description, self._model_side(rule), statistical=True, evals=evals)
        reference = self.reference
        if reference is not None:

            def drift(judging: Judging) -> Verdict:
                theirs = judging.others[reference].iter_batches("rows.parquet", _TEXT)
                return voice.voice_drift(
                    answers.sampled_rows(_probes(judging), "tuned"), theirs, alpha=judging.alpha, **judging.limit("limit")
                )

            yield self._check(
                asset,
                "voice_drift",
                voice.CHECK_VERSION,
                "The tuned model sounds like the brand.",
                drift,
                statistical=True,
                looks_at=(reference,),
                warns=True,
                evals=evals,
            )

    def _model_side(self, rule: Callable[..., Verdict]) -> Callable[[Judging], Verdict]:
        return lambda judging: rule(_probes(judging), self.policy, alpha=judging.alpha, **judging.limit("limit"))

    def _scan(self, judging: Judging, habit: Habit) -> Scan:
        path = ROWS_FILE[family_of(judging.asset)]
        found = scan(judging.snapshot.iter_batches(path, list(COLUMNS)), self.policy, habits=(habit,))
        masked = any(entry.path == MASKS_FILE for entry in judging.snapshot.files)
        return found.unmasked(judging.snapshot.read_table(MASKS_FILE)) if masked else found

    def _check(
        self,
        asset: str,
        name: str,
        version: str,
        description: str,
        judge: Callable[[Judging], Verdict],
        *,
        statistical: bool = False,
        looks_at: tuple[str, ...] = (),
        warns: bool = False,
        evals: Any = None,
    ) -> Check:
        return Check(
            name=name,
            asset=asset,
            judge=judge,
            version=version,
            description=description,
            looks_at=looks_at,
            severity="warn" if warns else "error",
            blocking=not warns,
            statistical=statistical,
            deciding={"policy": self.policy.digest, **({} if evals is None else {"evals": evals})},
        )


def _probes(judging: Judging) -> pa.Table:
    """Answers to behavior probes."""
    said = judging.snapshot.read_table("answers.parquet")
    return said.filter(pc.equal(said["kind"], str(EvalKind.BEHAVIOR_PROBES)))
