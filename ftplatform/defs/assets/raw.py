"""Assets read from files as rows: raw corpora, recorded synthetic sets, eval sets, and curated feedback."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform import progress
from ftplatform.defs.access import record_entered, vault_names, withheld_names
from ftplatform.defs.assets.admission import Admission
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.feedback import feedback_asset
from ftplatform.defs.assets.harness_sets import harness_set
from ftplatform.defs.assets.reading import content, counts_record, file_kinds
from ftplatform.defs.assets.row_metadata import describe_rows, describe_withheld
from ftplatform.defs.assets.synthetic import Recorded, synthetic_asset
from ftplatform.defs.keys import Family, asset_name, family_of, to_key
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import teacher_name
from ftplatform.project.models import Data, EvalKind, EvalSet, Source, Synthetic
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
        if synthetic.generate is not None:
            yield synthetic_asset(plan, asset, synthetic, None)
        elif synthetic.remedies:
            yield synthetic_asset(plan, asset, synthetic, Recorded(spec, partial(_config, plan, synthetic, spec)))
        else:
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


def _rows_asset(
    plan: Plan, asset: str, data: Source | Synthetic | EvalSet, spec: ReadSpec, default: str, seeds: list[str]
) -> dg.AssetsDefinition:
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
        # Exams are read as they are: what is asked must be what users type.
        masked = not isinstance(data, EvalSet) and data.mask_personal_data
        admission = Admission(plan.terms.get(asset), mask_personal_data=masked)

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            with read_rows(spec) as reader:
                draft.add_table("rows.parquet", admission.admitted(_counted(reader, asset)), ROW_SCHEMA)
                draft.add_table("quarantine.parquet", admission.quarantined(reader.quarantine_batches()), QUARANTINE_SCHEMA)
                return {**admission.record(draft, counts_record(reader.counts)), "files": dict(sorted(reader.digests.items()))}

        recipe = Recipe(
            asset,
            CODE_VERSION,
            config=_config(plan, data, spec) | admission.config,
            inputs=[("prompt_seed", snapshot) for _, snapshot in sorted(inputs.items())],
        )
        opened = store.open()
        result = build(context, opened, recipe, fill, describe)
        if exam in vault_names(plan.project):
            record_entered(opened, result.value)
        return result

    return rows
