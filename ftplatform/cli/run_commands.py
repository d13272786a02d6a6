"""`run` and `check`: the same jobs the UI launches, in this process, ending with the table of checks."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT, progress_bars, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption

SelectionArgument = Annotated[
    str | None, typer.Argument(help="Dagster selection, e.g. adapters/support or '+key:\"releases/support\"'; default: everything.")
]


def load_plan(project: Path | None) -> Any:
    """The plan of the project file named on the command line."""
    from ftplatform.defs.plan import Plan
    from ftplatform.project.loading import load_project, project_path

    return Plan(load_project(project_path(project)))


def run(
    selection: SelectionArgument = None,
    project: ProjectOption = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again even where nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Materializes a selection with all its checks; ends with the check table."""
    from ftplatform.defs.instance import open_instance
    from ftplatform.defs.running import materialize

    plan = load_plan(project)
    with open_instance(plan.root) as instance, progress_bars(len(plan.lineage.assets) + len(plan.checks), "run"):
        outcome = materialize(plan, instance, selection, rebuild=rebuild)
    report(plan, outcome, as_json=as_json)
    raise typer.Exit(1 if outcome.refused else 0)


def check(
    selection: SelectionArgument = None,
    project: ProjectOption = None,
    nightly: Annotated[bool, typer.Option("--nightly", help="Judge as the nightly schedule does (alpha .001).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judges checks on what exists; materializes nothing."""
    from ftplatform.defs.checks import Mode
    from ftplatform.defs.instance import open_instance
    from ftplatform.defs.running import check as run_checks

    plan = load_plan(project)
    with open_instance(plan.root) as instance, progress_bars(len(plan.checks), "check"):
        outcome = run_checks(plan, instance, selection, mode=Mode.NIGHTLY if nightly else Mode.RUN)
    report(plan, outcome, as_json=as_json)
    raise typer.Exit(1 if outcome.refused else 0)


def check_rows(outcome: Any) -> list[dict[str, Any]]:
    """One record per selected check, with the keys of SPEC 2.5."""
    from ftplatform.defs.metadata import verdict_row

    rows = []
    for check_, evaluation in outcome.checks:
        if evaluation is None:
            rows.append({"asset": check_.asset, "check": check_.name, "decision": "not run", "severity": check_.severity})
        else:
            rows.append({**verdict_row(evaluation), "check": check_.name})
    return rows


def report(plan: Any, outcome: Any, *, as_json: bool) -> None:
    """Print what a run did: the table of checks, what was refused and why."""
    rows = check_rows(outcome)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "project": plan.project.name,
                    "run_id": outcome.run_id,
                    "success": not outcome.refused,
                    "materialized": list(outcome.materialized),
                    "refusals": outcome.refusals,
                    "errors": outcome.errors,
                    "checks": rows,
                },
                default=str,
            )
        )
        return
    columns = ["asset", "check", "decision", "estimate", "interval", "limit", "n", "summary"]
    OUT.print(
        table(
            f"Checks of {plan.project.name}", columns, [{**r, "interval": _interval(r), "limit": r.get("threshold")} for r in rows]
        )
    )
    remedies = [{k: r.get(k) for k in ("asset", "check", "remedy")} for r in rows if r["decision"] not in {"pass", "not run"}]
    if remedies:
        OUT.print(table("What to do", ["asset", "check", "remedy"], remedies))
    stopped = [
        {"step": step, "kind": kind, "reason": reason}
        for kind, steps in (("refused", outcome.refusals), ("error", outcome.errors))
        for step, reason in steps.items()
    ]
    if stopped:
        OUT.print(table("Steps that did not go through", ["step", "kind", "reason"], stopped))


def _interval(row: dict[str, Any]) -> str | None:
    low, high = row.get("ci_low"), row.get("ci_high")
    return None if low is None and high is None else f"{_bound(low)} .. {_bound(high)}"


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def register(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command()(run)
    app.command()(check)
