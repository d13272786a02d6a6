"""`corpora/*`: the mix of a dataset, after the license filter and exact deduplication."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform import progress
from ftplatform.canonical import digest, sha256_hex
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.behavior import behavior_policy
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import known_parents
from ftplatform.licensing.rights import Use
from ftplatform.licensing.terms import assess, withdrawn_rows
from ftplatform.project.models import Dataset
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.rows.schema import MASKS_SCHEMA, ROW_SCHEMA, Role
from ftplatform.rows.slices import SliceRule, add_slices, assign_slices
from ftplatform.store import Snapshot, SnapshotDraft, Store
from ftplatform.targets.habits.detection import DETECTION_VERSION
from ftplatform.targets.variants.cleaning import UNCLEANED_FILE, clean_table

#: Columns that say where a row came from.
PROVENANCE = ["row_id", "origins", "parents"]

#: Parts of the rows that are read and not learned, where the dataset masks habits.
MASKS_FILE = "masks.parquet"

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

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.licensing.checks import filter_unlicensed

            mixed = pa.concat_tables([s.read_table("rows.parquet") for s in snapshots])
            tagged = assign_slices(mixed, _rules(dataset))
            unique, copies = drop_exact_duplicates(tagged)
            unique, cleaned = _cleaned(plan, asset, unique, draft)
            unique, remedied = _without_habits(plan, dataset, unique, draft)
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
            return (
                {
                    "counts": {
                        "read": mixed.num_rows,
                        "exact_copies": copies.num_rows,
                        "unlicensed": unlicensed.num_rows,
                        "kept": kept.num_rows,
                    }
                }
                | cleaned
                | remedied
            )

        recipe = Recipe(
            asset,
            CODE_VERSION,
            config={
                "slices": {name: rule.model_dump() for name, rule in dataset.slices.items()},
                # What the terms permit, not the terms: MIT becoming Apache-2.0 changes no row and need not retrain anything.
                "usable": _usable(plan, asset),
            }
            | ({"discover_slices": True} if dataset.discover_slices else {})
            | _edits_digest(plan, asset)
            | _habits_digest(plan, dataset),
            inputs=[*(("rows", s) for s in snapshots), *([("selection", hardness_model)] if hardness_model else [])],
        )
        return build(context, opened, recipe, fill, _describe)

    return corpus


def _cleaned(plan: Plan, asset: str, rows: pa.Table, draft: SnapshotDraft) -> tuple[pa.Table, dict[str, Any]]:
    """Rows with the accepted edits of the dataset's diff applied; the rows before are kept for `user_turn_untouched`."""
    diff = plan.project.language.edits.get(asset.split("/", 1)[1])
    if diff is None:
        return rows, {}
    from ftplatform.targets.variants.edits import read_edits

    edited, counts = clean_table(rows, read_edits(Path(plan.loaded.resolve(diff))))
    draft.add_table(UNCLEANED_FILE, rows, ROW_SCHEMA)
    # An edit may make a row say what another says already.
    unique, _ = drop_exact_duplicates(edited)
    return unique, {"cleaning": counts.to_record()}


def _edits_digest(plan: Plan, asset: str) -> dict[str, str]:
    diff = plan.project.language.edits.get(asset.split("/", 1)[1])
    return {} if diff is None else {"edits": sha256_hex(Path(plan.loaded.resolve(diff)).read_bytes())}


def _without_habits(plan: Plan, dataset: Dataset, rows: pa.Table, draft: SnapshotDraft) -> tuple[pa.Table, dict[str, Any]]:
    """Rows with the sentences rewritten that the dataset wants rewritten, and the places of those it wants masked beside them."""
    if dataset.habits is None or plan.project.behavior_policy is None:
        return rows, {}
    from ftplatform.targets.habits.detection import Habit, scan
    from ftplatform.targets.habits.remedies import CHANGES_SCHEMA, masks, rewrite

    policy = behavior_policy(plan, plan.project.behavior_policy)
    wanted = {Habit(name): how for name, how in dataset.habits.model_dump().items() if how is not None}
    to_rewrite, to_mask = ([habit for habit, how in wanted.items() if how == chosen] for chosen in ("rewrite", "mask"))
    changes = CHANGES_SCHEMA.empty_table()
    if to_rewrite:
        done = rewrite(rows, scan(rows, policy, habits=to_rewrite).unallowed(), policy)
        # Two rows may say the same now.
        rows, changes = drop_exact_duplicates(done.rows)[0], done.changes
    found = masks(scan(rows, policy, habits=to_mask).unallowed()) if to_mask else MASKS_SCHEMA.empty_table()
    draft.add_table(MASKS_FILE, found, MASKS_SCHEMA)
    draft.add_table("rewritten.parquet", changes, CHANGES_SCHEMA)
    return rows, {"habits": {"masked": found.num_rows, "rewritten": changes.num_rows}}


def _habits_digest(plan: Plan, dataset: Dataset) -> dict[str, Any]:
    if dataset.habits is None or plan.project.behavior_policy is None:
        return {}
    policy = behavior_policy(plan, plan.project.behavior_policy)
    return {"habits": {**dataset.habits.model_dump(), "policy": policy.digest, "detection": DETECTION_VERSION}}


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
