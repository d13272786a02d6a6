"""`corpora/*`: the mix of a dataset, after the license filter and exact deduplication."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import known_parents
from ftplatform.licensing.rights import Use
from ftplatform.licensing.terms import assess
from ftplatform.project.models import Dataset
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.rows.schema import ROW_SCHEMA, Role
from ftplatform.rows.slices import SliceRule, assign_slices
from ftplatform.store import Snapshot, SnapshotDraft

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

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.licensing.checks import filter_unlicensed

            mixed = pa.concat_tables([s.read_table("rows.parquet") for s in snapshots])
            tagged = assign_slices(mixed, _rules(dataset))
            unique, copies = drop_exact_duplicates(tagged)
            # After merging: text that we also hold under a license that allows the use may be used (SPEC M2).
            kept, unlicensed = filter_unlicensed(
                unique, known_parents(plan.terms, mixed), plan.project.use, plan.policy, parent_rows=mixed
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
        return build(context, store.open(), recipe, fill, _describe)

    return corpus


def _rules(dataset: Dataset) -> dict[str, SliceRule]:
    return {
        name: SliceRule(tag=rule.tag, field=rule.field, equals=rule.equals, regex=rule.regex, role=Role(rule.role))
        for name, rule in dataset.slices.items()
    }


def _usable(plan: Plan, asset: str) -> dict[str, list[str]]:
    ancestors = plan.lineage.ancestors(asset)
    involved = [t for name, t in plan.terms.items() if name in ancestors]
    involved += [plan.terms[p] for t in involved for p in t.derived_from if p not in ancestors]
    return {t.name: [str(use) for use in plan.project.use if assess(t, plan.policy).rights[Use(use)].usable] for t in involved}


def _describe(snapshot: Snapshot) -> Metadata:
    rows = snapshot.read_table("rows.parquet")
    return {**table_metadata(rows), "steps": records_table([{"step": k, "rows": v} for k, v in snapshot.facts["counts"].items()])}
