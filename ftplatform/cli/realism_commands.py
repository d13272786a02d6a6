"""`ftplatform realism`: how far the inputs of a set are from what users type, and in what."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import InputDataError, NotMaterialized


def realism(
    name: Annotated[str, typer.Argument(metavar="SET", help="A synthetic set or a dataset, e.g. imagined or splits/support.")],
    html: Annotated[Path | None, typer.Option(help="Also write a page with plots and texts of both sides.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compares the user turns of a set with what users really type: features by effect size, tails, topics, remedies."""
    from ftplatform.synthesis.realism_view import realism_view_page

    view = _view(load_plan(project), name)
    if html is not None:
        html.write_text(realism_view_page(view), encoding="utf-8")
    if as_json:
        print(json.dumps(view.to_record()))
        return
    columns = ["asset", "check", "decision", "estimate", "interval", "n", "summary"]
    OUT.print(table(f"{view.asset} beside {view.reference}", columns, [_with_interval(row) for row in view.check_rows]))
    heads = ["feature", "d", "typical synthetic", "typical real"]
    gaps = [
        {"feature": g["feature"], "d": f"{g['d']:+.2f}", heads[2]: g["candidate_example"], heads[3]: g["reference_example"]}
        for g in view.gap_rows
    ]
    tails = [
        {
            "tail": t["tail"],
            "in the set": f"{t['candidate']:.1%}",
            "real": f"{t['reference']:.1%}",
            "lost": "lost" if t["lost"] else "",
        }
        for t in view.tail_rows
    ]
    topics = [
        {"topic": t["topic"], "in the set": f"{t['candidate_share']:.1%}", "real": f"{t['reference_share']:.1%}"}
        for t in view.topic_rows
    ]
    for title, shown, rows in (
        ("Surface features, largest effect first", heads, gaps),
        ("Tails", ["tail", "in the set", "real", "lost"], tails),
        ("Topics", ["topic", "in the set", "real"], topics),
    ):
        if rows:
            OUT.print(table(title, shown, rows))
    if view.report is not None:
        OUT.print(view.report.to_text(), markup=False, highlight=False, soft_wrap=True)
    if html is not None:
        OUT.print(f"Page: {html}")


def _with_interval(row: dict[str, Any]) -> dict[str, Any]:
    bounds = None if row["ci_low"] is None else f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
    estimate = None if row["estimate"] is None else f"{row['estimate']:.3f}"
    return {**row, "estimate": estimate, "interval": bounds}


def _view(plan: Any, name: str) -> Any:
    from ftplatform.defs.assets.synthetic import report_of
    from ftplatform.defs.keys import Family, asset_name, family_of
    from ftplatform.synthesis.realism_view import RealismView

    asset, block = _set(plan, name)
    if block.production_inputs is None:
        raise InputDataError(
            f"{asset} names no production inputs, so there is nothing to compare it with.",
            remedy="Give it 'production_inputs': a source with what users really type.",
        )
    store = plan.open_store()
    snapshot = store.current(asset)
    reference = asset_name(Family.RAW, block.production_inputs)
    report = None
    if family_of(asset) is Family.SYNTHETIC and (block.generate is not None or block.remedies):
        report = report_of(plan, asset.split("/", 1)[1], snapshot, [store.snapshot(ref.snapshot) for ref in snapshot.inputs])
    return RealismView(asset, snapshot.digest, reference, list(_checks(plan, asset, reference, store)), report)


def _set(plan: Any, name: str) -> tuple[str, Any]:
    from ftplatform.defs.keys import Family, asset_name

    blocks = {asset_name(Family.SYNTHETIC, n): block for n, block in plan.project.synthetic.items()}
    blocks |= {asset_name(Family.SPLITS, n): block for n, block in plan.project.datasets.items()}
    for asset in (name, asset_name(Family.SYNTHETIC, name), asset_name(Family.SPLITS, name)):
        if asset in blocks:
            return asset, blocks[asset]
    raise InputDataError(f"the project has no synthetic set and no dataset {name!r}.", remedy=f"It has: {', '.join(blocks)}.")


def _checks(plan: Any, asset: str, reference: str, store: Any) -> Iterator[Any]:
    """The checks of mode M9 on the set, on its yardstick, and on evaluations of adapters trained on it."""
    from ftplatform.synthesis.realism_view import CHECKS, CheckView

    trained = [a for a in plan.lineage.descendants([asset]) if a.startswith("eval_results/")]
    for check in plan.checks_of([asset, reference, *trained]):
        if check.name not in CHECKS:
            continue
        try:
            verdict, recorded = _verdict(check, store)
            yield CheckView(check.asset, check.name, verdict, recorded)
        except NotMaterialized as missing:
            if check.asset == asset:
                raise
            yield CheckView(check.asset, check.name, None, reason=str(missing))


def _verdict(check: Any, store: Any) -> tuple[Any, bool]:
    """The verdict on record if it is about what exists now and by today's settings; else one judged here and not recorded."""
    from ftplatform.defs.checks import ALPHA_RUN, Judging, judged_now

    judged = judged_now(check, store)
    latest = store.latest_evaluation(check.asset, check.name)
    verdict = latest.verdict if latest is not None and dict(latest.judged) == judged else None
    if verdict is not None and verdict.config.get("binding") == check.binding:
        return verdict, True
    snapshots = {asset: store.snapshot(digest) for asset, digest in judged.items()}
    own = snapshots.pop(check.asset)
    return check.judge(Judging(store, check.asset, own, snapshots, ALPHA_RUN, check.threshold)), False


def register(parent: typer.Typer) -> None:
    """Add ``realism`` to the command line."""
    parent.command("realism")(realism)
