"""`ftplatform closure ...`: what an adapter is made of, what changed, whether it is whole, and whether it comes out again."""

import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftplatform.cli.console import OUT, progress_bars, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import InputDataError

if TYPE_CHECKING:
    from ftplatform.closure.diff import Change
    from ftplatform.closure.finding import Found
    from ftplatform.store import Store

app = typer.Typer(help="The closure of an adapter: show, diff, verify, reproduce.", no_args_is_help=True, rich_markup_mode=None)

ClosureArgument = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="Adapter, ADAPTER@DIGEST for an older version, or a closure.json.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Read this store (folder or URL) instead of the project's; then no project is needed.")
]

_SHOWN = 20


@app.command("show")
def show(adapter: ClosureArgument, project: ProjectOption = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What an adapter is made of: rows, base, code, environment, seeds, licenses, checks, waivers, and what will not hold."""
    from ftplatform.closure.explain import composition

    found, _ = _find(adapter, project, store)
    made = composition(found)
    if as_json:
        typer.echo(json.dumps({**made, "manifest": dict(found.manifest)}))
        return
    OUT.print(_tree(found.origin, made))


@app.command("diff")
def diff(
    before: ClosureArgument,
    after: Annotated[str, typer.Argument(metavar="OTHER", help="What to compare it with, named likewise.")],
    project: ProjectOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every field in which two closures differ, causes first, and how many rows were added, removed or moved. Exits with 1 if any."""
    from ftplatform.closure.explain import difference, grouped, row_changes, row_order

    left, opened = _find(before, project, store)
    right, _ = _find(after, project, store)
    changes = difference(left, right)
    orders = row_order(left, opened), row_order(right, opened)
    rows = row_changes(orders[0], orders[1]) if orders[0] is not None and orders[1] is not None else None
    counts = None if rows is None else {name: getattr(rows, name) for name in ("added", "removed", "moved", "common")}
    if as_json:
        parts = [{"part": p, "meaning": m, "changes": [_record(c) for c in found]} for p, m, found in grouped(changes)]
        typer.echo(json.dumps({"before": left.digest, "after": right.digest, "parts": parts, "rows": counts}))
        raise typer.Exit(1 if changes else 0)
    for part, meaning, found in grouped(changes):
        OUT.print(table(f"{part}: {meaning}", ["field", "before", "after"], [_cells(c) for c in found[:_SHOWN]]))
        if len(found) > _SHOWN:
            OUT.print(f"... and {len(found) - _SHOWN:,} more fields.")
    if not changes:
        OUT.print("The closures are the same.")
    elif counts is not None:
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        OUT.print(f"Rows: {said}.")
    raise typer.Exit(1 if changes else 0)


@app.command("verify")
def verify(
    adapter: ClosureArgument,
    name: Annotated[str | None, typer.Option("--name", help="The hash the closure is known by; default: its adapter's.")] = None,
    project: ProjectOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hashes everything a closure refers to again, lints it, and compares it with its name and with what the store holds."""
    from ftplatform.closure.verify import verify_closure
    from ftplatform.training.tensors import tensors_digest

    found, opened = _find(adapter, project, store)
    seen = verify_closure(found, opened, name=name, tensors_digest=tensors_digest)
    if as_json:
        typer.echo(json.dumps({"adapter": found.origin, "closure": found.digest, **seen.to_record()}))
        raise typer.Exit(0 if seen.intact else 1)
    if seen.complete.evidence:
        OUT.print(table("Problems", ["field", "rule", "value", "remedy"], [dict(row) for row in seen.complete.evidence]))
    if seen.edited:
        OUT.print(table("Edited since it was named", ["field", "before", "after"], [_cells(c) for c in seen.edited[:_SHOWN]]))
    if seen.contradicted:
        OUT.print(table("Contradicts the store", ["field", "before", "after"], [_cells(c) for c in seen.contradicted[:_SHOWN]]))
    if seen.unread:
        OUT.print(seen.unread, markup=False, highlight=False)
    OUT.print(seen.complete.summary, markup=False, highlight=False)
    raise typer.Exit(0 if seen.intact else 1)


@app.command("reproduce")
def reproduce(
    adapter: ClosureArgument,
    steps: Annotated[int | None, typer.Option(min=1, help="Only the first steps; losses are compared, no tensors.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Also train so many replicates with other seeds and keep their scores.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who rehearses; default: the user of this machine.")] = None,
    project: ProjectOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trains an adapter again from its closure alone, without network, compares, and records what came of it.

    Exits with 0 if it came out identical or equivalent, else with 1.
    """
    from ftplatform.closure.outcome import Outcome

    if seeds is not None and (steps is not None or store is not None):
        raise InputDataError(
            "Replicates are trained whole and scored on the project's eval sets.", remedy="Leave out --steps and --store."
        )
    found, opened = _find(adapter, project, store)
    if found.snapshot is None:
        raise InputDataError(f"{found.origin} is the closure of no adapter in {opened.url}.", remedy="Name the adapter.")
    who = by or _user()
    with progress_bars(1, "reproduce"):
        rehearsal, shown = _rehearse(found, opened, project, steps=steps, seeds=seeds, by=who)
    if as_json:
        record = {key: value for key, value in rehearsal.to_record().items() if key != "token"}
        typer.echo(json.dumps({"record": rehearsal.id, **record}))
    else:
        if shown.differences:
            OUT.print(
                table("Differs from the closure", ["field", "before", "after"], [_cells(c) for c in shown.differences[:_SHOWN]])
            )
        OUT.print(f"{rehearsal.outcome}: {rehearsal.reason}", markup=False, highlight=False)
        OUT.print(f"Rehearsed by {rehearsal.by}, record {rehearsal.id[:12]}.", markup=False, highlight=False)
    raise typer.Exit(0 if rehearsal.outcome in (Outcome.IDENTICAL, Outcome.EQUIVALENT) else 1)


@app.command("lint")
def lint(
    files: Annotated[list[Path], typer.Argument(help="Files or folders of training code.", exists=True)],
    as_json: JsonOption = False,
) -> None:
    """What in training code will not hold elsewhere: moving models, images and versions, unset seeds. Exits with 1 if anything."""
    from ftplatform.closure.source_lint import lint_source

    found = []
    for path in _files(files):
        for finding in lint_source(str(path), path.read_text(encoding="utf-8", errors="replace")):
            place = f"{path}:{finding.path[1:]}"
            found.append({"place": place, "rule": finding.rule, "value": finding.value, "remedy": finding.remedy})
    if as_json:
        typer.echo(json.dumps({"findings": found}))
    else:
        OUT.print(table("Findings", ["place", "rule", "value", "remedy"], found) if found else "Nothing found.")
    raise typer.Exit(1 if found else 0)


def _rehearse(found: "Found", store: "Store", project: Path | None, *, steps: int | None, seeds: int | None, by: str) -> Any:
    from ftplatform import progress
    from ftplatform.defs.rehearsals import rehearse, rehearse_with_seeds

    assert found.snapshot is not None
    name = found.snapshot.asset.split("/", 1)[1]

    def report(done: int, total: int) -> None:
        progress.advance(f"replay {name}", done, total)

    if seeds is None:
        return rehearse(store, found.snapshot, by=by, steps=steps, progress=report)
    plan = load_plan(project)
    head = store.head(found.snapshot.asset)
    if name not in plan.project.adapters or head is None or head.snapshot != found.snapshot.digest:
        raise InputDataError(f"{found.origin} is no current adapter of the project.", remedy="Replicates are scored as it is now.")
    return rehearse_with_seeds(plan, store, name, replicates=seeds, by=by, progress=report)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as error:  # a container without a user database
        raise InputDataError("This machine does not say who you are.", remedy="Give --by.") from error


def _find(name: str, project: Path | None, store: str | None) -> "tuple[Found, Store]":
    from ftplatform.closure.finding import find_closure
    from ftplatform.store import Store

    opened = Store.open(store) if store is not None else load_plan(project).open_store()
    return find_closure(name, opened), opened


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return found


def _record(change: "Change") -> dict[str, Any]:
    return {"field": change.path, "kind": change.kind, "before": change.before, "after": change.after}


def _cells(change: "Change") -> dict[str, str | None]:
    return {
        "field": change.path,
        "before": None if change.kind == "added" else _text(change.before),
        "after": None if change.kind == "removed" else _text(change.after),
    }


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _tree(title: str, made: Mapping[str, Any]) -> Any:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(title))

    def grow(branch: Any, value: Any) -> None:
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            label = f"{key}: " if isinstance(value, Mapping) else ""
            if isinstance(item, Mapping) or (isinstance(item, list) and item):
                grow(branch.add(Text(str(key))), item)
            elif item not in (None, "", [], {}):
                branch.add(Text(f"{label}{item}"))

    grow(tree, made)
    return tree


def register(parent: typer.Typer) -> None:
    """Add ``closure`` to the command line."""
    parent.add_typer(app, name="closure")
