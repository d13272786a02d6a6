"""Entry point: builds the app, turns the platform's errors into one sentence and exit code 2."""

import json
import sys

import typer

from ftplatform import __version__
from ftplatform.cli import (
    clean_commands,
    closure_commands,
    contamination_commands,
    dedup_commands,
    demo_command,
    eval_commands,
    feedback_commands,
    habits_commands,
    license_commands,
    migrate_command,
    project_commands,
    realism_commands,
    reward_commands,
    run_commands,
    serving_commands,
    status_command,
    waiver_commands,
)
from ftplatform.cli.console import ERRORS
from ftplatform.errors import FtplatformError
from ftplatform.project.problems import ProjectFileError
from ftplatform.rows.masking import mask_logs

#: Exit codes (SPEC 2.3).
OK, GATE_FAILED, BAD_INPUT = 0, 1, 2

app = typer.Typer(
    name="ftplatform",
    help="Fine-tuning as data assets whose checks refuse, with evidence, the ways it fails silently.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
project_commands.register(app)
run_commands.register(app)
status_command.register(app)
license_commands.register(app)
waiver_commands.register(app)
closure_commands.register(app)
migrate_command.register(app)
dedup_commands.register(app)
contamination_commands.register(app)
clean_commands.register(app)
eval_commands.register(app)
feedback_commands.register(app)
reward_commands.register(app)
serving_commands.register(app)
habits_commands.register(app)
realism_commands.register(app)
demo_command.register(app)


@app.command()
def version() -> None:
    """Prints the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; never returns."""
    mask_logs()
    as_json = "--json" in sys.argv[1:]
    try:
        app()
    except FtplatformError as error:
        if as_json:
            problems = [problem.to_record() for problem in error.problems] if isinstance(error, ProjectFileError) else []
            typer.echo(
                json.dumps({"error": type(error).__name__, "message": error.message, "remedy": error.remedy, "problems": problems})
            )
        else:
            ERRORS.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(BAD_INPUT) from None
