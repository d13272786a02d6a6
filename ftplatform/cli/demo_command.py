"""`demo`: the bundled project end to end, and what to look at afterwards."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ftplatform.cli.console import OUT, progress_bars, table
from ftplatform.cli.project_commands import JsonOption


def demo(
    directory: Annotated[Path, typer.Argument(help="Where the bundled project is copied to; reused if it is there.")] = Path(
        "ftplatform-demo"
    ),
    as_json: JsonOption = False,
) -> None:
    """Runs the bundled project: data, checks, training, evaluation, and the release that is or is not made.

    Refusals are part of the demonstration and exit with 0; an error exits with 1.
    """
    from ftplatform.cli.run_commands import check_rows, load_plan, report
    from ftplatform.defs.instance import open_instance
    from ftplatform.defs.keys import Family, asset_name
    from ftplatform.defs.running import materialize
    from ftplatform.project.scaffold import init_project

    file = directory / "ftplatform.yaml"
    if not file.exists():
        file = init_project(directory)
    plan = load_plan(file)
    with open_instance(plan.root) as instance, progress_bars(len(plan.lineage.assets) + len(plan.checks), "demo"):
        outcome = materialize(plan, instance)
    adapters = []
    for name in plan.project.adapters:
        release = asset_name(Family.RELEASES, name)
        released = release in outcome.materialized
        wanted = {*plan.lineage.ancestors(release), release} if release in plan.lineage.parents else set()
        why = [
            f"{row['check']} on {row['asset']}: {row.get('summary', '')}"
            for row in check_rows(outcome)
            if row["asset"] in wanted and row.get("severity") == "error" and row["decision"] in {"fail", "insufficient_evidence"}
        ]
        adapters.append({"adapter": name, "state": "released" if released else "refused", "why": "\n".join(why)})
    if as_json:
        typer.echo(
            json.dumps(
                {"project": str(file), "adapters": adapters, "errors": outcome.errors, "checks": check_rows(outcome)}, default=str
            )
        )
    else:
        report(plan, outcome, as_json=False)
        OUT.print(table("Adapters", ["adapter", "state", "why"], adapters))
        OUT.print(f"\nLook at it: ftplatform dev --project {file}\nThen open http://127.0.0.1:3000", markup=False, highlight=False)
    raise typer.Exit(1 if outcome.errors else 0)


def register(app: typer.Typer) -> None:
    """Add this command to the app."""
    app.command()(demo)
