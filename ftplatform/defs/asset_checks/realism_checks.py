"""M9 on the graph: do the inputs look like what users type, and does the release hang on what they really asked?"""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.project.models import Adapter, EvalKind
from ftplatform.store import Snapshot
from ftplatform.synthesis import content_mix, coverage, eval_population, gaps, reference_health, surface
from ftplatform.synthesis.calibration import calibrate_surface
from ftplatform.synthesis.samples import COLUMNS, Rows
from ftplatform.verdict import Verdict

_TEACHER = "teacher:"
#: The eval set that an evaluation makes of reserved rows of the mix.
_RESERVE = "reserve"


def realism_checks(plan: Plan) -> Iterator[Check]:
    """Four checks on every synthetic set and split for which the project names production inputs, one on those inputs, and
    `eval_population` on every adapter that is trained on synthetic rows."""
    references: dict[str, None] = {}
    for family, blocks in ((Family.SYNTHETIC, plan.project.synthetic), (Family.SPLITS, plan.project.datasets)):
        for name, block in blocks.items():
            if block.production_inputs:
                reference = asset_name(Family.RAW, block.production_inputs)
                references[reference] = None
                yield from _comparisons(plan, asset_name(family, name), reference)
    yield from (_reference_health(plan, reference) for reference in references)
    for name, adapter in plan.project.adapters.items():
        if plan.project.datasets[adapter.dataset].synthetic:
            yield _eval_population(plan, asset_name(Family.EVAL_RESULTS, name), adapter)


def _comparisons(plan: Plan, asset: str, reference: str) -> Iterator[Check]:
    settings = plan.project.realism

    def candidate(judging: Judging) -> Rows:
        return _stream(judging.snapshot, ROWS_FILE[family_of(asset)])

    def production(judging: Judging) -> Rows:
        return _stream(judging.others[reference], "rows.parquet")

    def surface_match(judging: Judging) -> Verdict:
        calibration = None
        if settings.calibrate_by is not None:
            calibration = calibrate_surface(production(judging), settings.calibrate_by, groups=settings.parts)
        return surface.input_surface_match(
            candidate(judging),
            production(judging),
            calibration=calibration,
            pass_below=judging.threshold,
            # Each bound of the interval is one-sided at alpha, so both together cover 1 - 2 alpha.
            confidence=1 - 2 * judging.alpha,
        )

    def feature_gaps(judging: Judging) -> Verdict:
        # Twelve features are looked at together at a fifth of alpha: .99 in a run.
        return gaps.input_feature_gaps(candidate(judging), production(judging), confidence=1 - judging.alpha / 5)

    def tail_coverage(judging: Judging) -> Verdict:
        return coverage.input_tail_coverage(candidate(judging), production(judging), confidence=1 - 2 * judging.alpha)

    def mix_match(judging: Judging) -> Verdict:
        return content_mix.content_mix_match(candidate(judging), production(judging), alpha=judging.alpha)

    def check(name: str, version: str, description: str, judge: Callable[[Judging], Verdict], **options: Any) -> Check:
        return Check(
            name=name,
            asset=asset,
            judge=judge,
            version=version,
            description=description,
            looks_at=(reference,),
            statistical=True,
            **options,
        )

    yield check(
        "input_surface_match",
        surface.CHECK_VERSION,
        "A classifier on surface features cannot tell the user turns from what users type in production.",
        surface_match,
        deciding={"calibrate_by": settings.calibrate_by, "parts": list(settings.parts)} if settings.calibrate_by else {},
    )
    yield check(
        "input_feature_gaps",
        gaps.CHECK_VERSION,
        "No two surface features of the user turns differ widely from what users type.",
        feature_gaps,
        blocking=False,
    )
    yield check(
        "input_tail_coverage",
        coverage.CHECK_VERSION,
        "Real inputs have neighbors among the user turns, and no tail of them is missing.",
        tail_coverage,
        blocking=False,
    )
    yield check(
        "content_mix_match",
        content_mix.CHECK_VERSION,
        "The user turns are about the same things as what users type.",
        mix_match,
        severity="warn",
        blocking=False,
    )


def _reference_health(plan: Plan, reference: str) -> Check:
    max_age = plan.project.realism.max_age_days

    def judge(judging: Judging) -> Verdict:
        now = datetime.datetime.now(datetime.UTC)
        return reference_health.reference_health(_stream(judging.snapshot, "rows.parquet"), now=now, max_age_days=max_age)

    return Check(
        name="reference_health",
        asset=reference,
        judge=judge,
        version=reference_health.CHECK_VERSION,
        description="The sample of real inputs is recent, large, written by people and by many of them.",
        severity="warn",
        blocking=False,
        deciding={"max_age_days": max_age},
    )


def _eval_population(plan: Plan, asset: str, adapter: Adapter) -> Check:
    evals = {name: asset_name(Family.EVAL_SETS, name) for name in evals_of(plan.project, adapter)}
    split = asset_name(Family.SPLITS, adapter.dataset)
    real = plan.project.realism.real_evals

    def judge(judging: Judging) -> Verdict:
        answers = judging.snapshot.read_table("answers.parquet", columns=["eval_set", "kind", "item_id"])
        frame = pl.DataFrame(pl.from_arrow(answers))
        sizes = frame.group_by("eval_set", "kind", maintain_order=True).agg(n=pl.col("item_id").n_unique())
        inputs = []
        for name, kind, n in sizes.iter_rows():
            snapshot, file = (
                (judging.others[split], "eval.parquet") if name == _RESERVE else (judging.others[evals[name]], "rows.parquet")
            )
            inputs.append(
                eval_population.EvalInputs(
                    name=name,
                    n=n,
                    teachers=_teachers(snapshot, file),
                    real=True if name in real else None,
                    decides=kind == EvalKind.TASK and name != _RESERVE,
                )
            )
        return eval_population.eval_population(inputs, _teachers(judging.others[split], "train.parquet"))

    return Check(
        name="eval_population",
        asset=asset,
        judge=judge,
        version=eval_population.CHECK_VERSION,
        description="The release hangs on at least 300 real inputs, and not on questions of a teacher of the training set.",
        looks_at=(split, *evals.values()),
        deciding={"real_evals": list(real)},
    )


def _teachers(snapshot: Snapshot, file: str) -> frozenset[str]:
    """Ids of the models that wrote any of the rows, by their parents."""
    found: set[str] = set()
    for batch in snapshot.iter_batches(file, columns=["parents"]):
        parents = pc.unique(pc.list_flatten(batch["parents"]))
        found.update(parents.filter(pc.starts_with(parents, _TEACHER)).to_pylist())
    return frozenset(name.removeprefix(_TEACHER) for name in found)


def _stream(snapshot: Snapshot, file: str) -> Iterator[pa.RecordBatch]:
    return snapshot.iter_batches(file, columns=COLUMNS)
