"""`ftplatform dedup ...`: what deduplication removed or weighs less, to be looked at and signed."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.cli.sheets import inert, read_sheet
from ftplatform.errors import InputDataError

app = typer.Typer(help="What deduplication did to a dataset.", no_args_is_help=True, rich_markup_mode=None)

_SHOWN = 20
_COLUMNS = ["similarity", "reason", "slices", "removed", "kept"]
_SHEET = ["row_id", "kept_row_id", "similarity", "slices", "removed_text", "kept_text", "judgment"]

DatasetArgument = Annotated[str, typer.Argument(help="Name of the dataset.")]


@app.command("diff")
def diff(
    dataset: DatasetArgument,
    html: Annotated[Path | None, typer.Option(help="Also write a page to browse, with the differences marked.")] = None,
    slice_: Annotated[str | None, typer.Option("--slice", help="Only rows of this slice.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rows that left the training set or count for less, each beside the row that stands for it; the least similar first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from ftplatform.dedup.removal_page import removal_page

    split = _split(project, dataset)
    pairs = pa.concat_tables([split.read_table("removed.parquet"), split.read_table("repeated.parquet")])
    if slice_ is not None:
        holds = [slice_ in names for names in pairs["slices"].to_pylist()]
        pairs = pairs.filter(pa.array(holds, pa.bool_()))
    counts = {c["values"]: c["counts"] for c in pc.value_counts(pairs["reason"]).to_pylist()}
    shown = pairs.sort_by("similarity").slice(0, _SHOWN).to_pylist()
    rows = [
        {
            "similarity": f"{p['similarity']:.2f}",
            "reason": p["reason"],
            "slices": ", ".join(p["slices"]),
            "removed": p["removed_text"],
            "kept": p["kept_text"],
        }
        for p in shown
    ]
    if html is not None:
        note = f"Snapshot {split.digest[:12]}" + (f", slice {slice_}" if slice_ else "")
        html.write_text(removal_page(pairs, title=f"What deduplication did to {dataset}", note=note), encoding="utf-8")
    if as_json:
        print(json.dumps({"dataset": dataset, "snapshot": split.digest, "counts": counts, "pairs": shown}))
        return
    OUT.print(table(f"{dataset}: {pairs.num_rows:,} rows, the {len(rows)} least similar", _COLUMNS, rows))
    OUT.print(", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "Nothing was removed.")
    if html is not None:
        OUT.print(f"Page: {html}")


@app.command("review")
def review(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="CSV file to write; fill in its last column.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes the sample of removed pairs somebody should read: of every slice that lost rows, the small ones above all."""
    from ftplatform.dedup.review import Judgment, review_sample

    sample = review_sample(_split(project, dataset).read_table("removed.parquet"))
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _SHEET, extrasaction="ignore")
        writer.writeheader()
        for pair in sample.to_pylist():
            texts = {name: inert(pair[name]) for name in ("removed_text", "kept_text")}
            writer.writerow({**pair, **texts, "slices": inert(", ".join(pair["slices"])), "judgment": ""})
    allowed = ", ".join(Judgment)
    if as_json:
        print(json.dumps({"dataset": dataset, "pairs": sample.num_rows, "file": str(out), "judgments": list(Judgment)}))
        return
    OUT.print(f"{sample.num_rows:,} pairs in {out}. Fill in the column judgment ({allowed}), then:")
    OUT.print(f"  ftplatform dedup sign {dataset} {out} --by NAME")


@app.command("sign")
def sign(
    dataset: DatasetArgument,
    sheet: Annotated[Path, typer.Argument(help="The CSV file of `dedup review`, filled in.")],
    by: Annotated[str, typer.Option(help="Who read it.")],
    note: Annotated[str, typer.Option(help="What the next reader should know.")] = "",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Records that somebody has read the sample, and what they found."""
    from ftplatform.dedup.review import review_sample, sign_off
    from ftplatform.defs.reviews import record_signoff

    plan = load_plan(project)
    store, asset = plan.open_store(), _asset(plan, dataset)
    removed = store.current(asset).read_table("removed.parquet")
    signed = sign_off(
        removed,
        _judgments(sheet),
        reviewer=by,
        signed_at=datetime.now(UTC),
        threshold=plan.project.datasets[dataset].dedup.threshold,
        note=note,
        sample=review_sample(removed),
    )
    record = record_signoff(store, asset, signed)
    if as_json:
        print(json.dumps({"asset": asset, "record": record, **signed.to_record()}))
        return
    OUT.print(f"Signed by {by}: {len(signed.judgments):,} pairs, record {record[:12]}. Next: ftplatform check {asset}")


def _split(project: Path | None, dataset: str) -> Any:
    plan = load_plan(project)
    return plan.open_store().current(_asset(plan, dataset))


def _asset(plan: Any, dataset: str) -> str:
    from ftplatform.defs.keys import Family, asset_name

    if dataset not in plan.project.datasets:
        raise InputDataError(
            f"the project has no dataset {dataset!r}.", remedy=f"Its datasets: {', '.join(plan.project.datasets)}."
        )
    return asset_name(Family.SPLITS, dataset)


def _judgments(sheet: Path) -> dict[tuple[str, str], Any]:
    from ftplatform.dedup.review import Judgment

    lines = read_sheet(sheet, ["row_id", "kept_row_id"], "judgment", list(Judgment))
    return {(line["row_id"], line["kept_row_id"]): Judgment(line["judgment"]) for line in lines}


def register(parent: typer.Typer) -> None:
    """Add ``dedup`` to the command line."""
    parent.add_typer(app, name="dedup")
