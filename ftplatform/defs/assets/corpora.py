"""`corpora/*`: the mix of a dataset, after the license filter and exact deduplication."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform import progress
from ftplatform.canonical import digest
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.corpus_edits import MASKS_FILE, CorpusEdits
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import known_parents
from ftplatform.licensing.rights import Use
from ftplatform.licensing.terms import assess, withdrawn_rows
from ftplatform.project.models import Dataset
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.rows.slices import SliceRule, add_slices, assign_slices
from ftplatform.store import Snapshot, SnapshotDraft, Store

__all__ = ["LOSSES_FILE", "MASKS_FILE", "corpus_assets"]

#: Columns that say where a row came from.
PROVENANCE = ["row_id", "origins", "parents"]

#: Loss of each row under the dataset's hardness model, and the slices nobody declared.
LOSSES_FILE, DISCOVERED_FILE = "losses.parquet", "discovered_slices.parquet"

CODE_VERSION = "1"


def corpus_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One corpus per dataset."""
    for name, dataset in plan.project.datasets.items():
        yield _corpus(plan, asset_name(Family.CORPORA, name), dataset)


def _corpus(plan: Plan, asset: str, dataset: Dataset) -> dg.AssetsDefinition:
    model = None if dataset.hardness_model is None else asset_name(Family.BASE_MODELS, dataset.hardness_model)
    parents = plan.lineage.parents[asset]
    options = asset_options(
        asset,
        kinds=["parquet"],
        owner=dataset.owner,
        description=dataset.description,
        default="The mix: rows whose license allows the declared uses, exact copies merged with the union of their origins.",
    )

    @define(options, code_version=CODE_VERSION, ins={argument(p): dg.AssetIn(to_key(p)) for p in parents})
    def corpus(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        snapshots = [inputs[argument(p)] for p in parents if p != model]
        hardness_model = None if model is None else inputs[argument(model)]
        opened = store.open()
        edits = CorpusEdits(plan, asset.split("/", 1)[1], dataset)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.licensing.checks import filter_unlicensed

            mixed = pa.concat_tables([s.read_table("rows.parquet") for s in snapshots])
            tagged = assign_slices(mixed, _rules(dataset))
            unique, copies = drop_exact_duplicates(tagged)
            unique, edited = edits.applied(unique, draft)
            losses = None if hardness_model is None else _losses(unique, hardness_model, draft)
            if dataset.discover_slices:
                unique = _with_discovered_slices(unique, losses, draft)
            # After merging: text that we also hold under a license that allows the use may be used (SPEC M2).
            kept, unlicensed = filter_unlicensed(
                unique,
                known_parents(plan.terms, mixed),
                plan.project.use,
                plan.policy,
                parent_rows=pa.concat_tables([mixed.select(PROVENANCE), *_seeds(opened, snapshots)]),
            )
            draft.add_table("rows.parquet", kept, ROW_SCHEMA)
            draft.add_table("unlicensed.parquet", unlicensed)
            draft.add_table("before.parquet", unique, ROW_SCHEMA)
            counts = {
                "read": mixed.num_rows,
                "exact_copies": copies.num_rows,
                "unlicensed": unlicensed.num_rows,
                "kept": kept.num_rows,
            }
            return {"counts": counts, **edited}

        recipe = Recipe(
            asset,
            CODE_VERSION,
            config={
                "slices": {name: rule.model_dump() for name, rule in dataset.slices.items()},
                # What the terms permit, not the terms: MIT becoming Apache-2.0 changes no row and need not retrain anything.
                "usable": _usable(plan, asset),
            }
            | ({"discover_slices": True} if dataset.discover_slices else {})
            | edits.config,
            inputs=[*(("rows", s) for s in snapshots), *([("selection", hardness_model)] if hardness_model else [])],
        )
        return build(context, opened, recipe, fill, _describe)

    return corpus


def _losses(rows: pa.Table, model: Snapshot, draft: SnapshotDraft) -> NDArray[np.float64]:
    """Mean loss of each row under the untuned model, kept for whoever asks later which rows are hard."""
    from ftplatform.training.row_loss import row_losses

    losses = row_losses(
        rows,
        model.local_folder(MODEL_FOLDER),
        progress=lambda done, total: progress.advance(f"loss of {model.asset}", done, total),
    )
    draft.add_table(LOSSES_FILE, pa.table({"row_id": rows["row_id"], "loss": losses}))
    return losses


def _with_discovered_slices(rows: pa.Table, losses: NDArray[np.float64] | None, draft: SnapshotDraft) -> pa.Table:
    from ftplatform.dedup.discovery import discover_slices

    found = discover_slices(rows, losses)
    draft.add_table(DISCOVERED_FILE, found.to_arrow())
    return add_slices(rows, found)


def _seeds(store: Store, snapshots: Sequence[Snapshot]) -> list[pa.Table]:
    """Provenance of the rows that rows of the mix were made from, and that are no part of the mix themselves."""
    own = {snapshot.digest for snapshot in snapshots}
    above = {s.digest: s for snapshot in snapshots for s in store.lineage(snapshot.digest) if s.digest not in own}
    return [s.read_table("rows.parquet", PROVENANCE) for s in above.values() if any(f.path == "rows.parquet" for f in s.files)]


def _rules(dataset: Dataset) -> dict[str, SliceRule]:
    return {
        name: SliceRule(tag=rule.tag, field=rule.field, equals=rule.equals, regex=rule.regex, role=Role(rule.role))
        for name, rule in dataset.slices.items()
    }


def _usable(plan: Plan, asset: str) -> dict[str, list[str]]:
    ancestors = plan.lineage.ancestors(asset)
    involved = [t for name, t in plan.terms.items() if name in ancestors]
    involved += [plan.terms[p] for t in involved for p in t.derived_from if p not in ancestors]
    usable = {t.name: [str(use) for use in plan.project.use if assess(t, plan.policy).rights[Use(use)].usable] for t in involved}
    # Withdrawn rows of a source are judged by themselves.
    return usable | {name: [digest(list(rows))] for rows, name in withdrawn_rows(involved).values()}


def _describe(snapshot: Snapshot) -> Metadata:
    described: Metadata = {
        **table_metadata(snapshot.read_table("rows.parquet")),
        "steps": records_table([{"step": k, "rows": v} for k, v in snapshot.facts["counts"].items()]),
    }
    if any(f.path == DISCOVERED_FILE for f in snapshot.files):
        sizes = pl.DataFrame(pl.from_arrow(snapshot.read_table(DISCOVERED_FILE))).group_by("slice").len("rows")
        described["discovered_slices"] = records_table(sizes.sort(["rows", "slice"], descending=[True, False]).to_dicts())
    return described
