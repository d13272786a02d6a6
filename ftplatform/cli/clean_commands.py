"""`ftplatform clean ...`: corrections of targets as a diff that people review, and probes of how a tuned model spells."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import InputDataError

app = typer.Typer(help="Correct misspellings in what models are tuned on.", no_args_is_help=True, rich_markup_mode=None)

_SHOWN = 30
_COLUMNS = ["from", "to", "edits", "decision", "reason"]

DatasetArgument = Annotated[str, typer.Argument(help="Name of the dataset.")]
DiffArgument = Annotated[Path, typer.Argument(help="Diff, JSON Lines.")]
PairsOption = list[str] | None


@app.command("propose")
def propose(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Diff to write; decisions in an older one of this name are kept.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes an edit for every misspelling in the targets of a dataset; all pending, until somebody decides."""
    from ftplatform.targets.variants.edits import propose_edits, read_edits, with_decisions, write_edits
    from ftplatform.targets.variants.findings import find_variants

    plan = load_plan(project)
    rows = _rows(_corpus(plan, dataset))
    found = find_variants(rows, _lexicon(plan))
    decided = read_edits(out) if out.exists() else []
    written = out.with_name(f"{out.name}.new")
    count = write_edits(written, with_decisions(propose_edits(rows, found), decided))
    written.replace(out)
    _show(out, as_json, {"dataset": dataset, "edits": count, "variants": found.variants.height})


@app.command("show")
def show(diff: DiffArgument, as_json: JsonOption = False) -> None:
    """The words of a diff with their decisions."""
    _show(diff, as_json, {})


@app.command("decide")
def decide(
    diff: DiffArgument,
    by: Annotated[str, typer.Option(help="Who read the edits.")],
    accept: Annotated[PairsOption, typer.Option(help="FROM=TO, e.g. deductable=deductible; may be repeated.")] = None,
    reject: Annotated[PairsOption, typer.Option(help="FROM=TO; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Decides all pending edits of some words; single places are decided in the file itself."""
    from ftplatform.targets.variants import edits

    decided = edits.decide(edits.read_edits(diff), by=by, accept=_pairs(accept), reject=_pairs(reject))
    written = diff.with_name(f"{diff.name}.new")
    edits.write_edits(written, decided)
    written.replace(diff)
    _show(diff, as_json, {})


@app.command("apply")
def apply(
    dataset: DatasetArgument,
    diff: DiffArgument,
    out: Annotated[Path, typer.Option(help="Parquet file to write: the rows of the corpus with the accepted edits.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes the rows of a dataset with the accepted edits applied. To train on them, name the diff as `language.edits` instead."""
    from ftplatform.rows.schema import ROW_SCHEMA
    from ftplatform.store.tables import write_table
    from ftplatform.targets.variants.cleaning import clean
    from ftplatform.targets.variants.edits import read_edits

    snapshot = _corpus(load_plan(project), dataset)
    tables, counts = clean(_rows(snapshot), read_edits(diff))
    batches = (batch for part in tables for batch in part.to_batches())
    write_table(out, batches, ROW_SCHEMA, str(out))
    if as_json:
        print(json.dumps({"dataset": dataset, "snapshot": snapshot.digest, "file": str(out), **counts.to_record()}))
        return
    OUT.print(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.to_record().items()))
    OUT.print(f"Rows: {out}")


@app.command("probes")
def probes(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="JSON Lines file to write, an eval set of behavior_probes.")],
    most: Annotated[int, typer.Option(help="Contexts to write; 299 that show the word are needed.", min=1)] = 600,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes contexts that force the misspelled words, from the rows held out of training, to ask a tuned model."""
    import orjson

    from ftplatform.defs.keys import Family, asset_name
    from ftplatform.targets.variants.findings import find_variants
    from ftplatform.targets.variants.forcing import forcing_contexts

    plan = load_plan(project)
    found = find_variants(_rows(_corpus(plan, dataset)), _lexicon(plan)).variants
    pairs = dict(zip(found["variant"].to_list(), found["partner"].to_list(), strict=True))
    if not pairs:
        raise InputDataError(f"No misspelling was found in {dataset}, so there is nothing to probe.", remedy="Nothing to do.")
    held_out = plan.open_store().current(asset_name(Family.SPLITS, dataset)).read_table("eval.parquet")
    contexts = forcing_contexts(held_out, pairs, most=most)
    out.write_bytes(b"".join(orjson.dumps(context.to_probe()) + b"\n" for context in contexts))
    if as_json:
        print(json.dumps({"dataset": dataset, "contexts": len(contexts), "variants": len(pairs), "file": str(out)}))
        return
    OUT.print(
        f"{len(contexts):,} contexts for {len(pairs):,} misspellings in {out}. Add it to eval_sets and name it as language.probes."
    )


def _show(diff: Path, as_json: bool, facts: dict[str, Any]) -> None:
    import polars as pl

    from ftplatform.targets.variants.edits import read_edits

    records = [edit.to_record() for edit in read_edits(diff)]
    counts = {d: sum(r["decision"] == d for r in records) for d in ("pending", "accept", "reject")}
    if as_json:
        print(json.dumps({**facts, "file": str(diff), **counts}))
        return
    lines = pl.DataFrame(records, schema=dict.fromkeys(("from", "to", "decision", "reason"), pl.String))
    grouped = lines.group_by("from", "to", "decision", "reason").len("edits").sort(["edits", "from"], descending=[True, False])
    shown = [{name: str(line[name]) for name in _COLUMNS} for line in grouped.head(_SHOWN).iter_rows(named=True)]
    OUT.print(table(f"{diff}: {len(records):,} edits", _COLUMNS, shown))
    OUT.print(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if counts["pending"]:
        OUT.print("Decide in the file, or: ftplatform clean decide FILE --accept FROM=TO --by NAME", markup=False)


def _corpus(plan: Any, dataset: str) -> Any:
    from ftplatform.defs.keys import Family, asset_name

    if dataset not in plan.project.datasets:
        raise InputDataError(
            f"the project has no dataset {dataset!r}.", remedy=f"Its datasets: {', '.join(plan.project.datasets)}."
        )
    return plan.open_store().current(asset_name(Family.CORPORA, dataset))


def _rows(corpus: Any) -> Any:
    """The rows edits refer to: those before earlier edits were applied."""
    from ftplatform.targets.variants.cleaning import UNCLEANED_FILE

    file = UNCLEANED_FILE if any(entry.path == UNCLEANED_FILE for entry in corpus.files) else "rows.parquet"
    return lambda: corpus.iter_batches(file, batch_rows=16_384)


def _lexicon(plan: Any) -> Any:
    from ftplatform.defs.asset_checks.variant_checks import project_lexicon

    return project_lexicon(plan.loaded)


def _pairs(options: PairsOption) -> list[tuple[str, str]]:
    found = []
    for option in options or ():
        before, equals, after = option.partition("=")
        if not (equals and before and after):
            raise InputDataError(f"{option!r} is no pair of words.", remedy="Write FROM=TO, e.g. deductable=deductible.")
        found.append((before, after))
    return found


def register(parent: typer.Typer) -> None:
    """Add ``clean`` to the command line."""
    parent.add_typer(app, name="clean")
