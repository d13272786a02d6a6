"""`init`, `validate`, `schema`, `dev`: the project file and the UI on it."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ftplatform.cli.console import OUT, table

ProjectOption = Annotated[Path | None, typer.Option("--project", "-p", help="Project file or folder; default: ./ftplatform.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def init(directory: Annotated[Path, typer.Argument(help="Folder to create.")], as_json: JsonOption = False) -> None:
    """Writes a runnable project with a commented ftplatform.yaml."""
    from ftplatform.project.scaffold import init_project

    created = init_project(directory)
    if as_json:
        typer.echo(json.dumps({"project": str(created)}))
    else:
        OUT.print(f"Created {created}.\nNext: cd {directory} && ftplatform run", markup=False, highlight=False, soft_wrap=True)


def validate(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Checks the file and everything it points to, without running."""
    from ftplatform.project.loading import load_project, project_path
    from ftplatform.project.references import check_files

    loaded = load_project(project_path(project))
    problems = [*loaded.warnings, *check_files(loaded)]
    errors = [p for p in problems if p.severity == "error"]
    if as_json:
        typer.echo(json.dumps({"file": str(loaded.path), "valid": not errors, "problems": [p.to_record() for p in problems]}))
    else:
        for problem in problems:
            OUT.print(str(problem), markup=False, highlight=False, soft_wrap=True)
        if not errors:
            blocks = (
                "sources",
                "synthetic",
                "feedback",
                "datasets",
                "eval_sets",
                "base_models",
                "adapters",
                "rewards",
                "endpoints",
            )
            rows = [{"block": b, "names": ", ".join(getattr(loaded.project, b))} for b in blocks if getattr(loaded.project, b)]
            OUT.print(table(f"{loaded.path.name} is valid", ["block", "names"], rows))
    raise typer.Exit(2 if errors else 0)


def schema(as_json: JsonOption = False) -> None:
    """Prints the JSON Schema of ftplatform.yaml; editors complete from it."""
    from ftplatform.project.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=None if as_json else 2))


def dev(
    project: ProjectOption = None,
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on. The UI has no login: leave it on loopback.")] = "127.0.0.1",
) -> None:
    """Starts the Dagster UI and daemon on this project."""
    from ftplatform.defs.instance import dagster_home
    from ftplatform.project.loading import load_project, project_path

    loaded = load_project(project_path(project))
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home(loaded.root)), "FTPLATFORM_PROJECT": str(loaded.path)}
    OUT.print(f"Dagster UI: http://{host}:{port} (Ctrl-C stops it)", markup=False, highlight=False)
    arguments = ["-m", "dagster", "dev", "-m", "ftplatform.definitions", "-d", str(loaded.root), "-h", host, "-p", str(port)]
    os.chdir(loaded.root)
    os.execve(sys.executable, [sys.executable, *arguments], environment)


def register(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command()(init)
    app.command()(validate)
    app.command()(schema)
    app.command()(dev)
