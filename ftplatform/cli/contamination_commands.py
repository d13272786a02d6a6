"""`ftplatform contamination ...`: suspected paraphrases of eval items, and what a person says of them."""

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.cli.sheets import inert, read_sheet
from ftplatform.errors import InputDataError

app = typer.Typer(help="Eval items in the training data.", no_args_is_help=True, rich_markup_mode=None)

_SHEET = ["eval_set", "eval_row_id", "train_row_id", "similarity", "status", "question", "text", "verdict"]

AssetArgument = Annotated[str, typer.Argument(help="What is trained on, e.g. splits/support.")]


@app.command("pairs")
def pairs(
    asset: AssetArgument,
    out: Annotated[Path, typer.Option(help="CSV file to write; fill in its last column.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes every pair of eval item and training row that nobody has confirmed or cleared. Items of a vault are left out."""
    from ftplatform.contamination.paraphrase import paraphrase_pairs
    from ftplatform.defs.access import withheld_names
    from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
    from ftplatform.defs.encoding import encoder_of
    from ftplatform.defs.keys import Family, asset_name, family_of
    from ftplatform.defs.reviews import paraphrase_verdicts
    from ftplatform.rows.masking import mask_text

    plan = load_plan(project)
    store = plan.open_store()
    train = store.current(_known(plan, asset)).read_table(ROWS_FILE[family_of(asset)])
    evals = {
        name: store.current(asset_name(Family.EVAL_SETS, name)).read_table("rows.parquet")
        for name in sorted(plan.project.eval_sets.keys() - withheld_names(plan.project))
    }
    found = paraphrase_pairs(train, evals, encoder=encoder_of(plan), reviewed=paraphrase_verdicts(store, asset)).to_pylist()
    waiting = [pair for pair in found if pair["status"] == "open"]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _SHEET, extrasaction="ignore")
        writer.writeheader()
        for pair in waiting:
            writer.writerow({**pair, **{name: inert(mask_text(pair[name])) for name in ("question", "text")}, "verdict": ""})
    if as_json:
        print(json.dumps({"asset": asset, "suspects": len(found), "waiting": len(waiting), "file": str(out)}))
        return
    OUT.print(f"{len(waiting):,} of {len(found):,} suspected pairs wait, in {out}. Fill in the column verdict, then:")
    OUT.print(f"  ftplatform contamination judge {asset} {out} --by NAME")


@app.command("judge")
def judge(
    asset: AssetArgument,
    sheet: Annotated[Path, typer.Argument(help="The CSV file of `contamination pairs`, filled in.")],
    by: Annotated[str, typer.Option(help="Who read it.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Records which pairs are paraphrases and which are different; `contamination_paraphrase` follows it."""
    from ftplatform.contamination.paraphrase.reviews import VERDICTS
    from ftplatform.defs.reviews import record_paraphrase_verdicts

    if not by.strip():
        raise InputDataError("--by is empty.", remedy="Name the person who read the pairs.")
    plan = load_plan(project)
    verdicts = read_sheet(sheet, ["eval_row_id", "train_row_id"], "verdict", VERDICTS)
    if not verdicts:
        raise InputDataError(f"{sheet} holds no verdict.", remedy="Fill in the column verdict.")
    record = record_paraphrase_verdicts(plan.open_store(), _known(plan, asset), verdicts, by=by)
    if as_json:
        print(json.dumps({"asset": asset, "record": record, "pairs": len(verdicts)}))
        return
    OUT.print(f"{len(verdicts):,} verdicts by {by}, record {record[:12]}. Next: ftplatform check {asset}")


def _known(plan: Any, asset: str) -> str:
    compared = [check.asset for check in plan.checks_of(plan.lineage.assets) if check.name == "contamination_paraphrase"]
    if asset not in compared:
        raise InputDataError(f"nothing compares {asset!r} with eval sets.", remedy=f"Give one of: {', '.join(compared) or 'none'}.")
    return asset


def register(parent: typer.Typer) -> None:
    """Add ``contamination`` to the command line."""
    parent.add_typer(app, name="contamination")
