"""`splits/*`: the reserve, then near-deduplication, with the removal diff (SPEC 2.4; the order is deliberate)."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ftplatform.dedup.slices import SliceSpec
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.corpora import MASKS_FILE
from ftplatform.defs.encoding import encoder_identity, encoder_of
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, table_metadata
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.project.models import Dataset
from ftplatform.rows.schema import MASKS_SCHEMA, ROW_SCHEMA
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "2"

#: Rows that left, and rows that stayed and count for less.
_DIFFS = ("removed", "repeated")


def split_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One split per dataset."""
    for name, dataset in plan.project.datasets.items():
        yield _split(plan, name, dataset)


def slice_specs(dataset: Dataset) -> list[SliceSpec]:
    """Declared slices as the dedup package sees them: the corpus has tagged the rows already."""
    return [SliceSpec(name=name, tag=name, must_keep=rule.must_keep) for name, rule in dataset.slices.items()]


def _split(plan: Plan, name: str, dataset: Dataset) -> dg.AssetsDefinition:
    asset, corpus_asset = asset_name(Family.SPLITS, name), asset_name(Family.CORPORA, name)
    options = asset_options(
        asset,
        kinds=["parquet"],
        owner=dataset.owner,
        description=None,
        default="Training rows and reserved eval rows; what was removed as a near duplicate, and for which kept row.",
    )

    @define(options, code_version=CODE_VERSION, ins={argument(corpus_asset): dg.AssetIn(to_key(corpus_asset))})
    def split(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        corpus = inputs[argument(corpus_asset)]

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.contamination.matching import leaks
            from ftplatform.contamination.near import near_leaks
            from ftplatform.dedup.near import NearDedup
            from ftplatform.dedup.reserve import ReserveRule
            from ftplatform.dedup.split import split as split_rows

            settings = dataset.dedup
            encoder = None if settings.semantic_threshold is None else encoder_of(plan)
            result = split_rows(
                corpus.read_table("rows.parquet"),
                slice_specs(dataset),
                ReserveRule(**dataset.reserve.model_dump()),
                NearDedup(
                    threshold=settings.threshold,
                    num_perm=settings.num_perm,
                    floor=settings.keep_per_slice,
                    method=settings.method,
                    semantic_threshold=settings.semantic_threshold,
                ),
                against_eval=settings.against_eval,
                leaks=leaks,
                near_leaks=near_leaks,
                encode=None if encoder is None else encoder.encode,
            )
            draft.add_table("train.parquet", result.train, ROW_SCHEMA)
            draft.add_table("eval.parquet", result.eval, ROW_SCHEMA)
            draft.add_table("weights.parquet", result.weights)
            draft.add_table("removed.parquet", result.removal_diff)
            draft.add_table("repeated.parquet", result.repeated)
            draft.add_table("conflicts.parquet", result.conflicts)
            if any(entry.path == MASKS_FILE for entry in corpus.files):
                draft.add_table(MASKS_FILE, corpus.read_table(MASKS_FILE), MASKS_SCHEMA)
            return {"stats": dict(result.stats)}

        config = dataset.model_dump(mode="json", include={"slices", "reserve", "dedup"})
        if dataset.dedup.semantic_threshold is not None:
            config["encoder"] = encoder_identity(plan)
        recipe = Recipe(asset, CODE_VERSION, config=config, inputs=[("rows", corpus)])
        return build(context, store.open(), recipe, fill, _describe)

    return split


def _describe(snapshot: Snapshot) -> Metadata:
    # The least similar first: what may be wrong, and what nobody sees in a count.
    removed, repeated = (snapshot.read_table(f"{name}.parquet").sort_by("similarity").slice(0, 50) for name in _DIFFS)
    dataset = snapshot.asset.split("/", 1)[1]
    return {
        **table_metadata(snapshot.read_table("train.parquet")),
        "stats": records_table([{"what": k, "rows": v} for k, v in snapshot.facts["stats"].items()]),
        "removal_diff": records_table([{**r, "slices": ", ".join(r["slices"])} for r in removed.to_pylist()]),
        "counting_for_less": records_table([{**r, "slices": ", ".join(r["slices"])} for r in repeated.to_pylist()]),
        "browse_removal_diff": f"ftplatform dedup diff {dataset} --html {dataset}.html",
        "removed_rows": snapshot.file("removed.parquet").rows or 0,
        "eval_rows": snapshot.file("eval.parquet").rows or 0,
    }
