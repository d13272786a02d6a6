"""M6 on the graph: is the exam another than the reward, does it mean anything, and has it been worn out?"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from ftplatform.defs.access import ledger, vault_names
from ftplatform.defs.asset_checks.rubric_answers import answered, grade, panel_of, prefer_by_panel, prefer_by_reference
from ftplatform.defs.assets.rubrics import REAL, rubric_card
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.encoding import encoder_of
from ftplatform.defs.judging import grading_by, judge_settings
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.lineage import evals_of, reward_rubrics_of
from ftplatform.defs.op_tags import GPU_POOL
from ftplatform.defs.plan import Plan
from ftplatform.project.models import Adapter
from ftplatform.rubrics import budget, null_floor, preference, separation, shape, transfer
from ftplatform.rubrics.paired import Gain
from ftplatform.store import Store
from ftplatform.verdict import Decision, Verdict

_SEVERITY = [Decision.PASS, Decision.WARN, Decision.INSUFFICIENT_EVIDENCE, Decision.FAIL]


def rubric_checks(plan: Plan) -> Iterator[Check]:
    """`rubric_role_separation` on every reward rubric, before anything is trained; `null_model_floor` on every rubric; three checks on
    the evaluation of every adapter that a reward rubric steers; `eval_budget` on every vault."""
    for name, rubric in plan.project.rubrics.items():
        if rubric.purpose == "reward":
            yield _role_separation(plan, name)
        yield _null_model_floor(plan, name)
    for name, adapter in plan.project.adapters.items():
        if rewards := reward_rubrics_of(plan.project, name):
            asset = asset_name(Family.EVAL_RESULTS, name)
            yield _gain_transfer(plan, asset, rewards)
            yield _criterion_shape(plan, asset, rewards)
            yield _preference(plan, asset, adapter, rewards)
    for name in sorted(vault_names(plan.project)):
        yield _eval_budget(plan, name)


# ---- on rubrics and vaults -------------------------------------------------------------------------------------------------


def _role_separation(plan: Plan, name: str) -> Check:
    """Decided by what the project declares, so that nothing has to be generated, or graded, before a training is refused."""
    exams = [other for other, rubric in plan.project.rubrics.items() if rubric.purpose == "eval"]

    def judge(judging: Judging) -> Verdict:
        encoder = encoder_of(plan)
        encode = None if encoder is None else encoder.encode
        return separation.rubric_role_separation(
            rubric_card(plan, name), [rubric_card(plan, other) for other in exams], encode=encode
        )

    return Check(
        name="rubric_role_separation",
        asset=asset_name(Family.RUBRICS, name),
        judge=judge,
        version=separation.CHECK_VERSION,
        description="No criterion of the reward, and no judge of its family, is in a rubric that examines.",
        deciding={
            "rubrics": [_declared(plan, rubric) for rubric in (name, *exams)],
            "encoder": None if plan.project.encoder is None else plan.project.encoder.path,
        },
    )


def _null_model_floor(plan: Plan, name: str) -> Check:
    """A reward rubric is compared with the answers of the rows; an eval rubric with those of base models, as soon as there are any.

    Evaluations are read as they are and are not among what the check looks at: a rubric must not wait for every adapter.
    """
    project = plan.project
    reward = project.rubrics[name].purpose == "reward"
    results = [
        asset_name(Family.EVAL_RESULTS, adapter)
        for adapter, spec in project.adapters.items()
        if not reward and any(project.eval_sets[e].rubric == name for e in evals_of(project, spec))
    ]

    def judge(judging: Judging) -> Verdict:
        scores = pl.DataFrame(pl.from_arrow(judging.snapshot.read_table("null_scores.parquet"))).drop_nulls("score")
        scores = scores.with_columns(key=pl.concat_str("asset", "item_id", separator="/"))
        real = scores.filter(model=REAL).select("key", real="score") if reward else _base_scores(judging.store, name, results, plan)
        nulls = scores.filter(pl.col("model") != REAL).pivot("model", index=["key", "group"], values="score")
        nulls = nulls.drop_nulls([column for column in nulls.columns if column != "group"])
        if real.height:
            nulls = nulls.join(real, on="key", maintain_order="left")
        families = [group or key for group, key in nulls.select("group", "key").iter_rows()]
        models = [column for column in nulls.columns if column not in {"key", "group", "real"}]
        limits = judging.limit("ceiling")
        return null_floor.null_model_floor(
            {model: nulls[model].to_numpy() for model in models},
            nulls["real"].to_numpy() if real.height else None,
            clusters=families,
            alpha=judging.alpha,
            baseline="the answers of the rows" if reward else "the base models' answers",
            **limits,
        )

    return Check(
        name="null_model_floor",
        asset=asset_name(Family.RUBRICS, name),
        judge=judge,
        version=null_floor.CHECK_VERSION,
        description="Answers without content score low by this rubric, and far below real ones.",
        order_after=tuple(results),
        statistical=True,
        deciding=_declared(plan, name),
    )


def _base_scores(store: Store, rubric: str, results: Sequence[str], plan: Plan) -> pl.DataFrame:
    """Mean score of base models' answers by item, where a current evaluation has some."""
    sets = [name for name, spec in plan.project.eval_sets.items() if spec.rubric == rubric]
    frames = [
        pl.DataFrame(pl.from_arrow(store.current(asset).read_table("answers.parquet", ["eval_set", "item_id", "base_score"])))
        for asset in results
        if store.head(asset) is not None
    ]
    if not frames:
        return pl.DataFrame(schema={"key": pl.String, "real": pl.Float64})
    prefix = f"{Family.EVAL_SETS}/"
    found = pl.concat(frames).filter(pl.col("eval_set").is_in(sets)).drop_nulls("base_score")
    keyed = found.with_columns(key=pl.concat_str(pl.lit(prefix), "eval_set", pl.lit("/"), "item_id"))
    return keyed.group_by("key", maintain_order=True).agg(real=pl.col("base_score").mean())


def _eval_budget(plan: Plan, name: str) -> Check:
    allowed = plan.project.eval_sets[name].selections

    def judge(judging: Judging) -> Verdict:
        items = judging.snapshot.read_table("rows.parquet", ["row_id"])["row_id"].to_pylist()
        limit = allowed if judging.threshold is None else max(1, int(judging.threshold))
        return budget.eval_budget(items, ledger(judging.store, name), budget=limit)

    return Check(
        name="eval_budget",
        asset=asset_name(Family.EVAL_SETS, name),
        judge=judge,
        version=budget.CHECK_VERSION,
        description="Few checkpoints were selected on the vault since it was refreshed.",
        blocking=False,
        deciding={"selections": allowed},
    )


# ---- on the evaluation of a steered adapter --------------------------------------------------------------------------------


def _gain_transfer(plan: Plan, asset: str, rewards: Sequence[str]) -> Check:
    def judge(judging: Judging) -> Verdict:
        return _worst([_transferred(plan, judging, reward) for reward in rewards])

    return Check(
        name="gain_transfer",
        asset=asset,
        judge=judge,
        version=transfer.CHECK_VERSION,
        description="A gain by the rubric trained on shows at least half as large by a rubric that was held out.",
        statistical=True,
        deciding=_deciding(plan, rewards),
        pool=GPU_POOL,
    )


def _transferred(plan: Plan, judging: Judging, reward: str) -> Verdict:
    graded = [a for a in answered(plan, judging) if a.examined]
    kept = [
        (a, s, before, after)
        for a, s in zip(graded, grade(plan, judging.store, reward, graded), strict=True)
        if s is not None and (before := a.base_score) is not None and (after := a.tuned_score) is not None
    ]
    items = [a.key for a, *_ in kept]
    training = Gain(items, [s.base for _, s, _, _ in kept], [s.tuned for _, s, _, _ in kept])
    held_out = Gain(items, [before for _, _, before, _ in kept], [after for *_, after in kept])
    return transfer.gain_transfer(training, held_out, [a.family for a, *_ in kept], alpha=judging.alpha)


def _criterion_shape(plan: Plan, asset: str, rewards: Sequence[str]) -> Check:
    def judge(judging: Judging) -> Verdict:
        return _worst([_shaped(plan, judging, reward) for reward in rewards])

    return Check(
        name="criterion_shape",
        asset=asset,
        judge=judge,
        version=shape.CHECK_VERSION,
        description="The gain by the rubric trained on is not all in what answers mention, nor in their length.",
        severity="warn",
        blocking=False,
        statistical=True,
        deciding=_deciding(plan, rewards),
        pool=GPU_POOL,
    )


def _shaped(plan: Plan, judging: Judging, reward: str) -> Verdict:
    graded = [a for a in answered(plan, judging) if a.examined]
    scores = grade(plan, judging.store, reward, graded)
    kept = [(a, s) for a, s in zip(graded, scores, strict=True) if s is not None]
    card = rubric_card(plan, reward)
    items = [a.key for a, _ in kept]
    by_criterion = {
        c.id: Gain(items, [s.base_criteria[c.id] for _, s in kept], [s.tuned_criteria[c.id] for _, s in kept])
        for c in card.criteria
    }
    before, after = (
        [float(len(text.split())) for text in side] for side in ((a.base for a, _ in kept), (a.tuned for a, _ in kept))
    )
    families = [a.family for a, _ in kept]
    return shape.criterion_shape(card.criteria, by_criterion, before, after, families, alpha=judging.alpha)


def _preference(plan: Plan, asset: str, adapter: Adapter, rewards: Sequence[str]) -> Check:
    """Asked of the judges that prefer and are of another family than those of the reward; without any, of the items' references."""
    panel = panel_of(plan, rewards)

    def judge(judging: Judging) -> Verdict:
        answers = answered(plan, judging)
        if panel:
            asked, who, tier = answers, ", ".join(panel), "model"
            said = prefer_by_panel(plan, judging.store, panel, asked)
        else:
            asked, who, tier = [a for a in answers if a.reference is not None], "likeness to the reference", "reference"
            said = prefer_by_reference(asked)
        pairs = [preference.Pair(a.key, a.prompt, a.base, a.tuned, a.family) for a in asked]
        verdict = preference.rubric_free_preference(preference.compare(pairs, said), alpha=judging.alpha, judge=who, tier=tier)
        return said.with_agreement(verdict)

    return Check(
        name="rubric_free_preference",
        asset=asset,
        judge=judge,
        version=preference.CHECK_VERSION,
        description="Asked without any rubric, in both orders and at equal length, nobody prefers the base.",
        statistical=True,
        deciding={"panel": {name: judge_settings(plan, name) for name in panel}, "evals": evals_of(plan.project, adapter)},
        pool=GPU_POOL,
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=lambda verdict: _SEVERITY.index(verdict.decision))


def _declared(plan: Plan, name: str) -> dict[str, Any]:
    """A rubric and its judge as far as they decide."""
    rubric = plan.project.rubrics[name]
    family = plan.project.judges[rubric.judge].family if rubric.judge in plan.project.judges else rubric.judge
    return {"name": name, "rubric": rubric.model_dump(mode="json"), "family": family, "grading": grading_by(plan, name)}


def _deciding(plan: Plan, rewards: Sequence[str]) -> dict[str, Any]:
    return {"rewards": [_declared(plan, name) for name in rewards]}
