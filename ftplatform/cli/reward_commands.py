"""`ftplatform reward ...`: the course of a reward loop, what governs it, and signing for it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.cli.waiver_commands import lifetime_of, refused
from ftplatform.errors import InputDataError

if TYPE_CHECKING:
    from ftplatform.defs.governor import Governor
    from ftplatform.defs.plan import Plan
    from ftplatform.store import Store

app = typer.Typer(
    help="Reward loops: reward and outcome per checkpoint, and the governor.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the reward ledger.")]
_STYLE = ("words", "apologies", "hedges", "caveats", "agreements")
_BARS = "▁▂▃▄▅▆▇█"


@app.command("show")
def show(
    name: NameArgument,
    html: Annotated[Path | None, typer.Option(help="Write a page with the plot to this file.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows every checkpoint, what the checks say, and whether the loop may run. Exits with 1 if the governor holds it."""
    from ftplatform.defs.governor import State, course, governor

    plan, store = _open(project, name)
    found = governor(plan, name, store)
    rows = store.current(found.ledger).read_table("checkpoints.parquet").to_pylist() if found.judged else []
    checks = _checks(plan, store, found.ledger)
    if html is not None:
        html.write_text(_page(found, rows, checks, _plot(store, found)), encoding="utf-8")
    if as_json:
        history = list(course(store, found.ledger))
        typer.echo(json.dumps({"governor": found.to_record(), "checkpoints": rows, "checks": checks, "course": history}))
    else:
        _print(found, rows, checks)
        if html is not None:
            OUT.print(f"Wrote {html}.", markup=False, highlight=False)
    raise typer.Exit(0 if found.state is State.RUN else 1)


@app.command("release")
def release(
    name: NameArgument,
    by: Annotated[str, typer.Option(help="Who signs.")],
    why: Annotated[str, typer.Option(help="The reason, for whoever reads the release.")],
    days: Annotated[float, typer.Option(help="Days until it expires, at most 30.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lets a held loop run for a time: signs for each check that holds it, which stays failed. Exits with 1 if none can be signed."""
    from ftplatform.defs import governor as governors
    from ftplatform.defs.gates import WaiverRefused

    lifetime = lifetime_of(days)
    plan, store = _open(project, name)
    try:
        signed = governors.release(plan, name, store, by=by, why=why, lifetime=lifetime)
    except WaiverRefused as refusal:
        refused(refusal, as_json)
    found = governors.governor(plan, name, store)
    governors.record(store, found)
    rows = [
        {
            "id": w.id,
            "check": w.check,
            "decision": str(w.decision),
            "by": w.by,
            "why": w.why,
            "until": f"{w.expires_at:%Y-%m-%d %H:%M}",
        }
        for w in signed
    ]
    if as_json:
        typer.echo(json.dumps({"waivers": rows, "governor": found.to_record()}))
        return
    OUT.print(table("Waived, not passed", list(rows[0]), [{**row, "id": row["id"][:12]} for row in rows]))
    OUT.print(f"The governor says: {found.state}. It can be taken back: ftplatform waiver revoke ID", markup=False, highlight=False)


def _open(project: Path | None, name: str) -> "tuple[Plan, Store]":
    plan = load_plan(project)
    if name not in plan.project.rewards:
        known = ", ".join(plan.project.rewards) or "none"
        raise InputDataError(f"the project has no reward ledger {name!r}.", remedy=f"Its ledgers: {known}.")
    return plan, plan.open_store()


def _checks(plan: "Plan", store: "Store", ledger: str) -> list[dict[str, Any]]:
    """The latest conclusion of every check of the ledger."""
    found = []
    for check in plan.checks_of([ledger]):
        evaluation = store.latest_evaluation(ledger, check.name)
        verdict = evaluation.verdict if evaluation is not None else None
        found.append(
            {
                "check": check.name,
                "decision": "not run" if verdict is None else str(verdict.decision),
                "severity": check.severity if evaluation is None else evaluation.severity,
                "summary": "" if verdict is None else verdict.summary,
                "remedy": "" if verdict is None else verdict.remedy,
            }
        )
    return found


def _print(found: "Governor", rows: Sequence[Mapping[str, Any]], checks: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        cells = _cells(rows)
        OUT.print(table(f"{found.ledger}, per checkpoint", list(cells[0]), cells))
        for column in ("reward", "outcome", "kl"):
            OUT.print(f"{column:>8} {_bars([row[column] for row in rows])}", markup=False, highlight=False)
    else:
        OUT.print(f"{found.ledger} has no checkpoint yet.", markup=False, highlight=False)
    OUT.print(table("Checks", ["check", "decision", "summary"], checks))
    OUT.print(f"Governor: {found.state}", style="green" if not found.reasons else "bold red", markup=False, highlight=False)
    for line in (*found.reasons, *found.warnings, *([found.releases] if found.reasons else [])):
        OUT.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Every checkpoint: means with their intervals, and what there is of KL and style."""
    cells = [
        {
            "checkpoint": str(row["checkpoint"]),
            "items": str(row["items"]),
            "reward": _interval(row, "reward"),
            "judged": str(row["judged"]),
            "outcome": _interval(row, "outcome"),
            **{name: _number(row[name]) for name in ("kl", *_STYLE)},
        }
        for row in rows
    ]
    filled = [column for column in cells[0] if any(cell[column] for cell in cells)]
    return [{column: cell[column] for column in filled} for cell in cells]


def _interval(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return _number(row[name]) + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _bars(values: Sequence[float | None]) -> str:
    """One character per checkpoint, from the lowest to the highest value; a dot where there is none."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    heights = ["·" if v is None else _BARS[round((v - low) / span * 7) if span else 3] for v in values]
    return f"{''.join(heights)}  {known[0]:.3f} to {known[-1]:.3f}"


def _plot(store: "Store", found: "Governor") -> str:
    from ftplatform.plots.canvas import no_data
    from ftplatform.rewards.course_plot import course_plot

    if not found.judged:
        return no_data("Reward and outcome per checkpoint")
    return course_plot(store.current(found.ledger).read_table("checkpoints.parquet"))


def _page(found: "Governor", rows: Sequence[Mapping[str, Any]], checks: Sequence[Mapping[str, Any]], plot: str) -> str:
    from ftplatform import pages

    held = bool(found.reasons)
    said = f"Governor: {found.state}. " + " ".join((*found.reasons, *found.warnings, *([found.releases] if held else [])))
    cells = _cells(rows) if rows else []
    body = [
        f"<h1>{pages.plain(found.ledger)}</h1>",
        f'<p class="verdict {"fail" if held else "pass"}"><span>{pages.plain(said, 4000)}</span></p>',
        plot,
        pages.section(
            "Checks",
            "checks",
            pages.table(
                ["check", "decision", "what it found", "what to do"],
                [(c["check"], _decision(c["decision"]), c["summary"], c["remedy"]) for c in checks],
            ),
        ),
    ]
    if cells:
        listed = pages.table(list(cells[0]), [list(cell.values()) for cell in cells], numbers=range(len(cells[0])))
        body.append(pages.section("Checkpoints", "checkpoints", listed))
    return pages.page(found.ledger, "\n".join(body))


def _decision(word: str) -> str:
    from ftplatform.pages import Marked

    return word if " " in word else Marked(word)


def register(parent: typer.Typer) -> None:
    """Add these commands to the app."""
    parent.add_typer(app, name="reward")
