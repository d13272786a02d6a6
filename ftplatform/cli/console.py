"""Terminal output: tables, progress bars. Text from data is printed as text, never as markup."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ftplatform import progress

# Outside a terminal (pipes, CI) rich assumes 80 columns and would break every table row.
_WIDTH = int(os.environ["COLUMNS"]) if os.environ.get("COLUMNS", "").isdigit() else None
OUT = Console(width=_WIDTH if _WIDTH or Console().is_terminal else 160)
ERRORS = Console(stderr=True, width=OUT.width)

STYLES = {
    "pass": "green",
    "warn": "yellow",
    "fail": "bold red",
    "insufficient_evidence": "magenta",
    "not run": "dim",
    "released": "bold green",
    "refused": "bold red",
}


def table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of records; the cell of a known decision is colored."""
    built = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        built.add_column(column, overflow="fold")
    for row in rows:
        built.add_row(*(_cell(row.get(column)) for column in columns))
    return built


def _cell(value: Any) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, float):
        return Text(f"{value:.4g}")
    return Text(str(value), style=STYLES.get(str(value), ""))


@contextmanager
def progress_bars(total: int, title: str) -> Iterator[None]:
    """One bar for the steps of the run and one for the task at work, on standard error."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=ERRORS,
        transient=True,
    )
    with bars:
        overall = bars.add_task(title, total=total)
        tasks: dict[str, Any] = {}
        finished: set[str] = set()

        def listen(task: str, done: int, size: int | None) -> None:
            if ":" in task or task.startswith("asset "):  # a check or an asset came to its end
                if task not in finished:
                    finished.add(task)
                    bars.update(overall, completed=len(finished), description=f"{title}: {task}")
                for inner in tasks.values():
                    bars.remove_task(inner)
                tasks.clear()
                return
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=size)
            bars.update(tasks[task], completed=done, total=size)

        with progress.listening(listen):
            yield
