"""Assets read from files as rows: raw corpora, recorded synthetic sets, eval sets, and curated feedback."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform import progress
from ftplatform.canonical import digest
from ftplatform.defs.access import record_entered, vault_names, withheld_names
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.feedback import feedback_asset
from ftplatform.defs.assets.harness_sets import harness_set
from ftplatform.defs.assets.reading import content, counts_record, file_kinds
from ftplatform.defs.assets.row_metadata import describe_rows, describe_withheld
from ftplatform.defs.keys import Family, asset_name, family_of, to_key
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import teacher_name
from ftplatform.licensing.terms import SourceTerms
from ftplatform.project.models import Data, EvalKind
from ftplatform.rows.reading import QUARANTINE_SCHEMA, ReadSpec, RowReader, read_rows
from ftplatform.rows.schema import ROW_SCHEMA, Surface
from ftplatform.store import Snapshot, SnapshotDraft

#: Raise when the same files should give other rows.
CODE_VERSION = "1"


def row_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """`raw/*`, `synthetic/*`, `eval_sets/*` and `feedback/*`."""
    project = plan.project
    for name, source in project.sources.items():
        asset = asset_name(Family.RAW, name)
        yield _rows_asset(plan, asset, source, source_spec(plan, asset), "Raw corpus {}.", [])
    for name, synthetic in project.synthetic.items():
        asset = asset_name(Family.SYNTHETIC, name)
        seeds = [asset_name(Family.RAW, seed) for seed in synthetic.seeds]
        parents = (teacher_name(synthetic.teacher.id), *seeds)
        spec = _spec(plan, asset, synthetic, surface=Surface.SYNTHETIC, parents=parents)
        yield _rows_asset(plan, asset, synthetic, spec, f"Rows written by {synthetic.teacher.id}.", seeds)
    for name, eval_set in project.eval_sets.items():
        if eval_set.kind is EvalKind.LM_EVAL:
            yield harness_set(plan, name, eval_set)
            continue
        asset = asset_name(Family.EVAL_SETS, name)
        spec = _spec(
            plan,
            asset,
            eval_set,
            surface=Surface.EVAL,
            slice_field=eval_set.slice_field,
            require_target=eval_set.kind is EvalKind.TASK,
        )
        yield _rows_asset(plan, asset, eval_set, spec, f"Eval set {name} ({eval_set.kind}).", [])
    for name, feedback in project.feedback.items():
        yield feedback_asset(plan, asset_name(Family.FEEDBACK, name), feedback)


def source_spec(plan: Plan, asset: str) -> ReadSpec:
    """How a raw corpus is read."""
    source = plan.project.sources[asset.split("/", 1)[1]]
    return _spec(plan, asset, source, surface=source.surface)


def _spec(plan: Plan, asset: str, data: Data, *, surface: Surface, **more: Any) -> ReadSpec:
    return ReadSpec(
        paths=tuple(data.path),
        base_dir=plan.root,
        format=data.format,
        reader=data.reader,
        fields=dict(data.fields),
        source=asset,
        surface=surface,
        **more,
    )


def _config(plan: Plan, data: Data, spec: ReadSpec) -> dict[str, Any]:
    """What decides which rows come out: the bytes of the files and how they are read; not where the project lies."""
    reading = {
        f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.name not in {"base_dir", "paths", "limits", "options"}
    }
    return {
        "files": content(plan, data.path),
        "reading": {**reading, "fields": dict(spec.fields), "parents": list(spec.parents), "surface": str(spec.surface)},
        "limits": dataclasses.asdict(spec.limits),
    }


def _counted(reader: RowReader, asset: str) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in reader:
        done += batch.num_rows
        progress.advance(f"read {asset}", done)
        yield batch


def _rows_asset(plan: Plan, asset: str, data: Data, spec: ReadSpec, default: str, seeds: list[str]) -> dg.AssetsDefinition:
    options = asset_options(
        asset,
        kinds=file_kinds(data),
        owner=data.owner,
        description=data.description,
        default=default.format(asset.split("/", 1)[1]),
    )

    exam = asset.split("/", 1)[1] if family_of(asset) is Family.EVAL_SETS else ""
    describe = describe_withheld if exam in withheld_names(plan.project) else describe_rows

    @define(options, code_version=CODE_VERSION, ins={argument(s): dg.AssetIn(to_key(s)) for s in seeds})
    def rows(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        withdrawn = _Withdrawn(plan.terms.get(asset))

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            with read_rows(spec) as reader:
                draft.add_table("rows.parquet", withdrawn.left_out(_counted(reader, asset)), ROW_SCHEMA)
                draft.add_table("quarantine.parquet", reader.quarantine_batches(), QUARANTINE_SCHEMA)
                counts = counts_record(reader.counts)
                counts |= {"kept": counts["kept"] - withdrawn.count, "withdrawn": withdrawn.count} if withdrawn.ids else {}
                return {"counts": counts, "files": dict(sorted(reader.digests.items()))}

        recipe = Recipe(
            asset,
            CODE_VERSION,
            config=_config(plan, data, spec) | withdrawn.config,
            inputs=[("prompt_seed", snapshot) for _, snapshot in sorted(inputs.items())],
        )
        opened = store.open()
        result = build(context, opened, recipe, fill, describe)
        if exam in vault_names(plan.project):
            record_entered(opened, result.value)
        return result

    return rows


class _Withdrawn:
    """Rows that upstream withdrew or somebody claims (license ledger): they are left out and counted, their text is not kept."""

    def __init__(self, terms: SourceTerms | None) -> None:
        self.ids = terms.standing.rows if terms is not None and terms.standing is not None else ()
        self.count = 0

    @property
    def config(self) -> dict[str, Any]:
        """Part of the recipe: other withdrawals, other rows. Nothing if there are none."""
        return {"withdrawn": digest(list(self.ids))} if self.ids else {}

    def left_out(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches without the withdrawn rows."""
        ids = pa.array(self.ids, pa.string())
        for batch in batches:
            kept = batch.filter(pc.invert(pc.is_in(batch["row_id"], value_set=ids))) if self.ids else batch
            self.count += batch.num_rows - kept.num_rows
            yield kept
