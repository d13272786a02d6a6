"""`ftplatform feedback ...`: hand out events and rows to people, take their answers back, and see what still waits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import InputDataError

if TYPE_CHECKING:
    from ftplatform.defs.plan import Plan
    from ftplatform.store import Snapshot

app = typer.Typer(help="Feedback: annotate, decide, audit.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the feedback block.")]
PurposeOption = Annotated[str, typer.Option("--for", help="annotation, adjudication or review.")]

#: Field of the block that names the log, by what a sheet is for.
_LOGS = {"annotation": "annotations", "adjudication": "adjudication", "review": "reviews"}


@app.command("sample")
def sample(
    name: NameArgument,
    out: Annotated[Path, typer.Option(help="Sheet to write, .csv or .jsonl; each annotator gets one with their name in it.")],
    purpose: PurposeOption = "annotation",
    annotators: Annotated[
        list[str] | None, typer.Option("--annotator", help="Who annotates; name two or more, each gets a sheet of the same events.")
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Events to annotate, or without an intent to decide.")] = 250,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes sheets to be filled in: a random sample for annotators, who do not see each other's; what awaits a decision; or the audit."""
    from ftplatform.feedback import agenda
    from ftplatform.feedback.decision_log import Adjudication, Annotation, Review
    from ftplatform.feedback.sheets import Purpose, write_sheet

    wanted = _purpose(purpose)
    plan, snapshot = _open(project, name)
    events, rows = snapshot.read_table("events.parquet"), snapshot.read_table("rows.parquet")
    sheets: dict[Path, list[dict[str, Any]]]
    if wanted is Purpose.ANNOTATION:
        people = list(dict.fromkeys(annotators or ()))
        if len(people) < 2:
            raise InputDataError("agreement needs two people.", remedy="Give --annotator twice or more.")
        known = _entries(plan, name, Annotation)
        sheets = {
            out.with_name(f"{out.stem}-{_file_name(who)}{out.suffix}"): agenda.to_annotate(events, known, who, size)
            for who in people
        }
    elif wanted is Purpose.ADJUDICATION:
        waiting = agenda.to_adjudicate(events, rows, _entries(plan, name, Annotation), _entries(plan, name, Adjudication), size)
        sheets = {out: waiting}
    else:
        sheets = {out: agenda.to_review(rows, _entries(plan, name, Review), plan.project.feedback[name].defect_limit)}
    for path, lines in sheets.items():
        write_sheet(path, wanted, lines)
    if as_json:
        print(
            json.dumps({"feedback": name, "for": str(wanted), "sheets": {str(path): len(lines) for path, lines in sheets.items()}})
        )
        return
    for path, lines in sheets.items():
        OUT.print(f"{len(lines):,} lines in {path}. Fill in the empty columns, then:", markup=False, highlight=False)
        OUT.print(f"  ftplatform feedback import {name} {path} --for {wanted} --by NAME", markup=False, highlight=False)


@app.command("import")
def import_(
    name: NameArgument,
    sheet: Annotated[Path, typer.Argument(help="The sheet, filled in.")],
    by: Annotated[str, typer.Option(help="Who filled it in.")],
    purpose: PurposeOption = "annotation",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adds the answers of a sheet to the log that the project file names. Empty lines are left for later."""
    from ftplatform.feedback.decision_log import append, now
    from ftplatform.feedback.sheets import LAYOUTS, Purpose, read_sheet

    wanted = _purpose(purpose)
    if not by.strip():
        raise InputDataError("--by is empty.", remedy="Name the person who filled in the sheet.")
    plan, snapshot = _open(project, name)
    table_, column = ("rows.parquet", "row_id") if wanted is Purpose.REVIEW else ("events.parquet", "event_id")
    known = set(snapshot.read_table(table_, [column])[column].to_pylist())
    entries, empty = read_sheet(sheet, wanted, known, by=by.strip(), at=now())
    path = _log_path(plan, name, wanted)
    if path is None:
        field = _LOGS[wanted]
        raise InputDataError(
            f"feedback {name!r} names no log for this.", remedy=f"Add to the block: {field}: feedback/{name}-{field}.jsonl"
        )
    added = append(path, entries, LAYOUTS[wanted].kind)
    if as_json:
        print(json.dumps({"feedback": name, "for": str(wanted), "log": str(path), "added": added, "empty": empty}))
        return
    after = "run" if wanted is Purpose.ADJUDICATION else "check"
    said = f"{added:,} answers by {by} added to {path}, {empty:,} lines are empty. Next: ftplatform {after} feedback/{name}"
    OUT.print(said, markup=False, highlight=False)


@app.command("status")
def status(name: NameArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """What became of the events, and what waits for a person."""
    from ftplatform.feedback import agenda
    from ftplatform.feedback.decision_log import Adjudication, Annotation, Review

    plan, snapshot = _open(project, name)
    events, rows = snapshot.read_table("events.parquet"), snapshot.read_table("rows.parquet")
    annotations, decided = _entries(plan, name, Annotation), _entries(plan, name, Adjudication)
    reviews, limit = _entries(plan, name, Review), plan.project.feedback[name].defect_limit
    coded: dict[str, set[str]] = {}
    for annotation in annotations:
        coded.setdefault(annotation.event_id, set()).add(annotation.by)
    facts = {
        "events": events.num_rows,
        "quarantined": snapshot.facts["counts"]["quarantined"],
        "curated": rows.num_rows,
        **{f"rejected: {reason}": count for reason, count in sorted(snapshot.facts["rejections"].items())},
        "annotators": len({a.by for a in annotations}),
        "annotated by two or more": sum(len(people) > 1 for people in coded.values()),
        "decided": len({a.event_id for a in decided}),
        "waiting for a decision": len(agenda.to_adjudicate(events, rows, annotations, decided)),
        "audited": len({r.row_id for r in reviews}),
        "waiting for the audit": len(agenda.to_review(rows, reviews, limit)),
    }
    if as_json:
        print(json.dumps({"feedback": name, "snapshot": snapshot.digest, **facts}))
        return
    OUT.print(table(f"feedback/{name}", ["what", "count"], [{"what": what, "count": count} for what, count in facts.items()]))


def _open(project: Path | None, name: str) -> "tuple[Plan, Snapshot]":
    from ftplatform.defs.keys import Family, asset_name

    plan = load_plan(project)
    if name not in plan.project.feedback:
        known = ", ".join(plan.project.feedback) or "none"
        raise InputDataError(f"the project has no feedback {name!r}.", remedy=f"Its feedback: {known}.")
    return plan, plan.open_store().current(asset_name(Family.FEEDBACK, name))


def _purpose(given: str) -> Any:
    from ftplatform.feedback.sheets import Purpose

    if given not in set(Purpose):
        raise InputDataError(f"--for {given!r} is unknown.", remedy=f"Give one of {', '.join(Purpose)}.")
    return Purpose(given)


def _log_path(plan: "Plan", name: str, purpose: str) -> Path | None:
    file = getattr(plan.project.feedback[name], _LOGS[purpose])
    return None if file is None else plan.root / file


def _entries(plan: "Plan", name: str, kind: Any) -> list[Any]:
    from ftplatform.feedback.decision_log import read_log
    from ftplatform.feedback.sheets import LAYOUTS

    (purpose,) = (purpose for purpose, layout in LAYOUTS.items() if layout.kind is kind)
    path = _log_path(plan, name, purpose)
    return [] if path is None else read_log(path, kind)


def _file_name(person: str) -> str:
    """What of a name can be part of a file's name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in person).strip(".") or "annotator"


def register(parent: typer.Typer) -> None:
    """Add ``feedback`` to the command line."""
    parent.add_typer(app, name="feedback")
