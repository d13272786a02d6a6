"""`ftplatform evals ...`: look at the items of an eval set on the record, and see who has."""

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
    from ftplatform.store import Snapshot, Store

app = typer.Typer(help="Eval sets: look at items on the record, and see who has.", no_args_is_help=True, rich_markup_mode=None)

#: Digits of an id in a table, and the fewest that may name an item.
_SHOWN = 12

SetArgument = Annotated[str, typer.Argument(metavar="SET", help="Name of the eval set.")]


@app.command("results")
def results(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Name of the adapter.")],
    slices: Annotated[bool, typer.Option("--slices", help="One line per slice.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prints what base and tuned model scored on every eval set, with standard errors and the paired gain."""
    from ftplatform.defs.keys import Family, asset_name
    from ftplatform.evaluation.summary import result_rows

    evaluated = load_plan(project).open_store().current(asset_name(Family.EVAL_RESULTS, adapter))
    rows = result_rows(evaluated.read_json("summary.json"), slices=slices)
    if as_json:
        typer.echo(json.dumps({"adapter": adapter, "snapshot": evaluated.digest, "results": rows}))
        return
    OUT.print(table(f"{adapter}: {len(rows):,} result(s)", list(dict.fromkeys(key for row in rows for key in row)), rows))


@app.command("view")
def view(
    eval_set: SetArgument,
    by: Annotated[str, typer.Option(help="Who looks.")],
    why: Annotated[str, typer.Option(help="What for, for whoever reads the ledger.")],
    items: Annotated[
        list[str] | None, typer.Option(help="Row id of an item, or its first 12 digits; several with commas or repeated.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Show what this adapter answered where it failed; without --items only these items.")
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prints items and records first who looks at which. A family of which an item was seen has to leave a vault."""
    import polars as pl

    from ftplatform.store import access_log
    from ftplatform.store.access_log import AccessKind

    plan, store, exam = _open(project, eval_set)
    rows = pl.DataFrame(pl.from_arrow(exam.read_table("rows.parquet"))).unique("row_id", keep="first", maintain_order=True)
    results, answers = (None, None) if adapter is None else _failed_answers(plan, store, eval_set, adapter)
    if items:
        rows = rows.filter(pl.col("row_id").is_in(_named(items, rows["row_id"].to_list(), eval_set)))
    elif answers is not None:
        rows = rows.join(answers, left_on="row_id", right_on="item_id", how="semi", maintain_order="left")
    if rows.is_empty():
        raise InputDataError(f"There is nothing to see: {adapter} failed no item of {eval_set}.", remedy="Give --items.")
    record = access_log.record(
        store.backend,
        eval_set,
        AccessKind.VIEW,
        by=by,
        purpose=why,
        items=rows["row_id"].to_list(),
        snapshot=exam.digest,
        adapter=None if results is None else next(ref.snapshot for ref in results.inputs if ref.role == "adapter"),
    )
    shown = [_item(row, answers) for row in rows.iter_rows(named=True)]
    if as_json:
        typer.echo(json.dumps({"eval_set": eval_set, "snapshot": exam.digest, "record": record.id, "items": shown}))
        return
    lines = [
        {
            "item": item["row_id"][:_SHOWN],
            "slices": ", ".join(item["slices"]),
            "said": "\n".join(f"{m['role']}: {m['content']}" for m in item["messages"]),
            "failed answers": "\n".join(a["answer"] for a in item.get("failed_answers", ())),
        }
        for item in shown
    ]
    columns = ["item", "slices", "said", *(["failed answers"] if adapter else [])]
    OUT.print(table(f"{eval_set}: {len(shown):,} item(s)", columns, lines))
    OUT.print(f"Recorded as seen by {record.by}, record {record.id[:_SHOWN]}.", markup=False, highlight=False)


@app.command("log")
def log(eval_set: SetArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Every recorded act on an eval set, oldest first: who saw items, what was decided on its results, what entered."""
    from ftplatform.defs.access import ledger

    plan = load_plan(project)
    _require_known(plan, eval_set)
    records = [{"id": record.id, **record.to_record()} for record in ledger(plan.open_store(), eval_set)]
    if as_json:
        typer.echo(json.dumps({"eval_set": eval_set, "vault": plan.project.eval_sets[eval_set].vault, "records": records}))
        return
    lines = [
        {
            **record,
            "id": record["id"][:_SHOWN],
            "items": record["items"] if isinstance(record["items"], str) else len(record["items"]) or None,
            "adapter": record["adapter"] and record["adapter"][:_SHOWN],
        }
        for record in records
    ]
    OUT.print(table(f"Access to {eval_set}", ["at", "kind", "by", "items", "adapter", "purpose", "id"], lines))


@app.command("registry")
def registry(eval_set: SetArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Every item of an eval set: its family, when it entered, who has seen it, how many decisions it was part of."""
    from ftplatform.contamination.exposures import eval_registry
    from ftplatform.defs.access import ledger

    _, store, exam = _open(project, eval_set)
    lines = eval_registry(exam.read_table("rows.parquet"), ledger(store, eval_set)).to_pylist()
    if as_json:
        typer.echo(json.dumps({"eval_set": eval_set, "snapshot": exam.digest, "items": lines}, default=_time))
        return
    shown = [
        {
            **{name: _time(value) if name.endswith(("_at", "_refreshed")) else value for name, value in line.items()},
            "item_id": line["item_id"][:_SHOWN],
            "family": line["family"][:_SHOWN] if line["family"] == line["item_id"] else line["family"],
            "exposed_to": ", ".join(line["exposed_to"]),
        }
        for line in lines
    ]
    columns = ["item_id", "family", "created_by", "last_refreshed", "exposures", "last_exposed_at", "exposed_to", "decisions"]
    OUT.print(table(f"Items of {eval_set}", columns, shown))


@app.command("demoted")
def demoted(eval_set: SetArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """What must leave a vault because somebody saw it, and how many families have to replace it. Exits with 1 if anything must."""
    from ftplatform.contamination import exposures
    from ftplatform.defs.access import ledger, retired_items

    plan, store, exam = _open(project, eval_set)
    vault = plan.project.eval_sets[eval_set].vault
    records = ledger(store, eval_set)
    retired, _ = retired_items(store, exam, records)
    leaving = exposures.demoted(exam.read_table("rows.parquet"), records, retired)
    if as_json:
        record = {"families": leaving.families, "row_ids": leaving.row_ids, "replacements": leaving.replacements}
        typer.echo(json.dumps({"eval_set": eval_set, "vault": vault, "snapshot": exam.digest, **record}))
    else:
        OUT.print(table(f"Seen in {eval_set}", ["row_id"], [{"row_id": row_id} for row_id in leaving.row_ids]))
        families = f"{len(leaving.families):,} families with {len(leaving.row_ids):,} items"
        wanted = (
            f"leave the vault; {leaving.replacements:,} new families replace them." if vault else "were seen; the set is no vault."
        )
        OUT.print(f"{families} {wanted}")
    raise typer.Exit(1 if vault and leaving.families else 0)


def _open(project: Path | None, eval_set: str) -> "tuple[Plan, Store, Snapshot]":
    from ftplatform.defs.keys import Family, asset_name

    plan = load_plan(project)
    _require_known(plan, eval_set)
    store = plan.open_store()
    return plan, store, store.current(asset_name(Family.EVAL_SETS, eval_set))


def _require_known(plan: Any, eval_set: str) -> None:
    if eval_set not in plan.project.eval_sets:
        raise InputDataError(
            f"the project has no eval set {eval_set!r}.", remedy=f"Its eval sets: {', '.join(plan.project.eval_sets) or 'none'}."
        )


def _named(given: list[str], row_ids: list[str], eval_set: str) -> set[str]:
    """Row ids of the items that are meant."""
    found = set()
    for name in (part.strip() for text in given for part in text.split(",") if part.strip()):
        meant = [row_id for row_id in row_ids if row_id.startswith(name)] if len(name) >= _SHOWN else []
        if len(meant) != 1:
            problem = f"{len(meant)} items of {eval_set} begin with {name!r}" if meant else f"{eval_set} has no item {name!r}"
            raise InputDataError(f"{problem}.", remedy=f"Give row ids as in: ftplatform evals registry {eval_set} --json")
        found.add(meant[0])
    return found


def _failed_answers(plan: Any, store: Any, eval_set: str, adapter: str) -> tuple[Any, Any]:
    """The evaluation of an adapter, and its answers to the items of the set that it failed."""
    import polars as pl

    from ftplatform.defs.access import asked
    from ftplatform.defs.keys import Family, asset_name
    from ftplatform.defs.outcomes import outcomes

    if adapter not in plan.project.adapters:
        raise InputDataError(
            f"the project has no adapter {adapter!r}.", remedy=f"Its adapters: {', '.join(plan.project.adapters) or 'none'}."
        )
    results = store.current(asset_name(Family.EVAL_RESULTS, adapter))
    if eval_set not in asked(results):
        raise InputDataError(
            f"{adapter} was not asked {eval_set}.", remedy=f"It was asked: {', '.join(asked(results)) or 'nothing'}."
        )
    answers = results.read_table("answers.parquet")
    failed = outcomes(answers).filter(eval_set=eval_set, failed=True)
    frame = pl.DataFrame(pl.from_arrow(answers)).filter(eval_set=eval_set)
    return results, frame.join(failed, on="item_id", how="semi", maintain_order="left")


def _item(row: dict[str, Any], answers: Any) -> dict[str, Any]:
    """An item for people: personal data masked, control characters shown."""
    from ftplatform.rows.masking import mask_text

    shown = {
        "row_id": row["row_id"],
        "slices": list(row["slices"]),
        "group": row["group"],
        "messages": [{"role": m["role"], "content": mask_text(m["content"])} for m in row["messages"]],
    }
    if answers is not None:
        shown["failed_answers"] = [
            {
                "condition": answer["condition"],
                "answer": mask_text(answer["tuned_answer"]),
                "label": answer["tuned_label"],
                "score": answer["tuned_score"],
            }
            for answer in answers.filter(item_id=row["row_id"]).iter_rows(named=True)
        ]
    return shown


def _time(moment: Any) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def register(parent: typer.Typer) -> None:
    """Add ``evals`` to the command line."""
    parent.add_typer(app, name="evals")
