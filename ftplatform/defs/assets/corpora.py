"""`corpora/*`: the mix of a dataset, after the license filter and exact deduplication."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
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
from ftplatform.rows.slices import SliceRule, assign_slices
from ftplatform.store import Snapshot, SnapshotDraft, Store

#: Columns that say where a row came from.
PROVENANCE = ["row_id", "origins", "parents"]

CODE_VERSION = "1"


def corpus_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One corpus per dataset."""
    for name, dataset in plan.project.datasets.items():
        yield _corpus(plan, asset_name(Family.CORPORA, name), dataset)


def _corpus(plan: Plan, asset: str, dataset: Dataset) -> dg.AssetsDefinition:
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
        snapshots = [inputs[argument(p)] for p in parents]
        opened = store.open()

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.licensing.checks import filter_unlicensed

            mixed = pa.concat_tables([s.read_table("rows.parquet") for s in snapshots])
            tagged = assign_slices(mixed, _rules(dataset))
            unique, copies = drop_exact_duplicates(tagged)
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
            return {
                "counts": {
                    "read": mixed.num_rows,
                    "exact_copies": copies.num_rows,
                    "unlicensed": unlicensed.num_rows,
                    "kept": kept.num_rows,
                }
            }

        recipe = Recipe(
            asset,
            CODE_VERSION,
            config={
                "slices": {name: rule.model_dump() for name, rule in dataset.slices.items()},
                # What the terms permit, not the terms: MIT becoming Apache-2.0 changes no row and need not retrain anything.
                "usable": _usable(plan, asset),
            },
            inputs=[("rows", s) for s in snapshots],
        )
        return build(context, opened, recipe, fill, _describe)

    return corpus


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
    rows = snapshot.read_table("rows.parquet")
    return {**table_metadata(rows), "steps": records_table([{"step": k, "rows": v} for k, v in snapshot.facts["counts"].items()])}
