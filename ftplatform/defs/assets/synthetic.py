"""`synthetic/*` that are written when they are built, or brought to the habits of real users: held in memory, unlike recorded sets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform.defs.assets.admission import Admission
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.reading import counts_record, file_kinds
from ftplatform.defs.assets.row_metadata import describe_rows
from ftplatform.defs.assets.synthetic_teachers import TRANSCRIPTS_FILE, Writer, naming, writer_of
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.plots import markdown_image
from ftplatform.project.data import Synthetic
from ftplatform.project.synthesis import real_seeds_of
from ftplatform.rows.reading import QUARANTINE_SCHEMA, ReadSpec, read_rows
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.store import Snapshot, SnapshotDraft, Store
from ftplatform.synthesis.generation import generate
from ftplatform.synthesis.remedies.resample import real_seeds
from ftplatform.synthesis.remedies.sequence import SEQUENCE_VERSION, RemedyKind, RemedyStep, apply_remedies, without_origins_of
from ftplatform.synthesis.report import AS_WRITTEN, RealismReport, measured
from ftplatform.synthesis.samples import split_rows
from ftplatform.synthesis.teachers.transcripts import TRANSCRIPT_SCHEMA

#: Raise when the same block, files and seeds should give other rows.
CODE_VERSION = "synthetic-1"
#: The rows before the first remedy; rows that were changed name them as parents.
WRITTEN_FILE = "written.parquet"
#: Seed rows a teacher is given at most, each user or conversation as often as any other.
_MOST_SEEDS = 5_000
# Intervals of the report in the metadata; the checks use 200.
_PERMUTATIONS = 60
_REMEDIED = "with remedies"


@dataclass(frozen=True)
class Recorded:
    """How a recorded set is read, and its part of the recipe."""

    spec: ReadSpec
    config: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Seeds:
    """Rows of the seed sources.

    Attributes:
        learn: real rows that teachers are shown and remedies learn from. held: the other half of the conversations, which only measures.
        others: rows of sources that are not what users typed.
    """

    learn: pa.Table = field(default_factory=ROW_SCHEMA.empty_table)
    held: pa.Table = field(default_factory=ROW_SCHEMA.empty_table)
    others: pa.Table = field(default_factory=ROW_SCHEMA.empty_table)

    @property
    def shown(self) -> pa.Table:
        """What a teacher may show itself."""
        return real_seeds(pa.concat_tables([self.learn, self.others]), _MOST_SEEDS)


def seeds_of(plan: Plan, name: str, snapshots: Iterable[Snapshot]) -> Seeds:
    """Seed rows of a set. Real ones are divided by the hash of their conversation: no conversation seeds and measures."""
    real = {asset_name(Family.RAW, source) for source in real_seeds_of(plan.project, name)}
    tables: dict[bool, list[pa.Table]] = {True: [ROW_SCHEMA.empty_table()], False: [ROW_SCHEMA.empty_table()]}
    for snapshot in snapshots:
        tables[snapshot.asset in real].append(snapshot.read_table("rows.parquet"))
    learn, held = split_rows(pa.concat_tables(tables[True]))
    return Seeds(learn, held, pa.concat_tables(tables[False]))


def synthetic_asset(plan: Plan, asset: str, block: Synthetic, recorded: Recorded | None) -> dg.AssetsDefinition:
    """The asset of a synthetic set with a `generate` block (`recorded` is None), or of a recorded one with remedies."""
    name = asset.split("/", 1)[1]
    sources = [asset_name(Family.RAW, seed) for seed in block.seeds]
    options = asset_options(
        asset,
        kinds=file_kinds(block) if recorded is not None else ["generated"],
        owner=block.owner,
        description=block.description,
        default=f"Rows written by {block.teacher.id}.",
    )

    @define(options, code_version=CODE_VERSION, ins={argument(s): dg.AssetIn(to_key(s)) for s in sources})
    def rows(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        opened = store.open()
        snapshots = [inputs[argument(source)] for source in sources]
        with naming(name):
            job = _Job(plan, name, block, recorded, opened)
            recipe = Recipe(asset, CODE_VERSION, config=job.config, inputs=[("prompt_seed", s) for s in snapshots])
            return build(
                context,
                opened,
                recipe,
                lambda draft: job.fill(draft, seeds_of(plan, name, snapshots)),
                lambda snapshot: _describe(snapshot, report_of(plan, name, snapshot, snapshots)),
            )

    return rows


class _Job:
    """One building of one set."""

    def __init__(self, plan: Plan, name: str, block: Synthetic, recorded: Recorded | None, store: Store) -> None:
        self._asset, self._block, self._recorded = asset_name(Family.SYNTHETIC, name), block, recorded
        self._writer = writer_of(plan, name, store) if block.generate is not None else None
        self._steps = [RemedyStep(RemedyKind(r.kind), r.share, r.seed) for r in block.remedies]
        self._terms = plan.terms.get(self._asset)
        self._admission = Admission(self._terms, mask_personal_data=block.mask_personal_data)

    @property
    def config(self) -> dict[str, Any]:
        """All that decides which rows come out; the key of an endpoint and how many requests are sent at once do not."""
        written: Mapping[str, Any] = self._recorded.config() if self._recorded is not None else self._generated
        if self._writer is not None and self._writer.replayed is not None:
            written = {**written, "transcripts": self._writer.replayed}
        remedies = [[str(step.kind), step.share, step.seed] for step in self._steps]
        return {**written, **self._admission.config} | ({"remedies": remedies, "version": SEQUENCE_VERSION} if remedies else {})

    @property
    def _generated(self) -> dict[str, Any]:
        spec, identity = self._block.generate, _present(self._writer).teacher.identity
        assert spec is not None
        told = {"teacher": identity.id, "terms": identity.terms, "kind": identity.kind, "prompt": identity.prompt}
        return {"generate": {**told, "rows": spec.rows, "seed": spec.seed}}

    def fill(self, draft: SnapshotDraft, seeds: Seeds) -> Mapping[str, Any]:
        """Write the files of the snapshot; returns its facts."""
        rows, counts, facts = self._written(draft, seeds)
        if self._steps:
            applied = apply_remedies(rows, seeds.learn, self._steps, write_again=self._write_again(seeds))
            # A withdrawal names a row as people saw it, which may be what a remedy made of it; its text is kept in no form.
            remedied = _table(Admission(self._terms, mask_personal_data=False).admitted(applied.rows.to_batches()))
            draft.add_table(WRITTEN_FILE, without_origins_of(rows, applied.rows, remedied), ROW_SCHEMA)
            rows = remedied
            facts |= {"remedies": list(applied.steps), "learned_from": seeds.learn.num_rows, "held": seeds.held.num_rows}
        draft.add_table("rows.parquet", rows, ROW_SCHEMA)
        if self._writer is not None and self._writer.model is not None:
            draft.add_table(TRANSCRIPTS_FILE, self._writer.model.used, TRANSCRIPT_SCHEMA)
        admitted = self._admission.record(draft, counts)
        return {**facts, **admitted, "counts": {**admitted["counts"], "kept": rows.num_rows}}

    def _written(self, draft: SnapshotDraft, seeds: Seeds) -> tuple[pa.Table, dict[str, Any], dict[str, Any]]:
        """The rows as the teacher wrote them, without withdrawn ones, counts and facts; the quarantine is added to the draft."""
        if self._recorded is not None:
            with read_rows(self._recorded.spec) as reader:
                rows = _table(self._admission.admitted(reader))
                draft.add_table("quarantine.parquet", self._admission.quarantined(reader.quarantine_batches()), QUARANTINE_SCHEMA)
                return rows, counts_record(reader.counts), {"files": dict(sorted(reader.digests.items()))}
        spec, teacher = self._block.generate, _present(self._writer).teacher
        assert spec is not None
        made = generate(teacher, seeds.shown, spec.rows, spec.seed, asset=self._asset)
        rows = _table(self._admission.admitted(made.rows.to_batches()))
        draft.add_table("quarantine.parquet", self._admission.quarantined(made.quarantine.to_batches()), QUARANTINE_SCHEMA)
        return rows, dict(made.counts), dict(self._generated)

    def _write_again(self, seeds: Seeds) -> Callable[[int, int], pa.Table] | None:
        """The teacher on real seeds alone; the result bears the name of the set."""
        if self._writer is None:
            return None
        teacher, real = self._writer.teacher, real_seeds(seeds.learn, _MOST_SEEDS)

        def write_again(n: int, seed: int) -> pa.Table:
            # Another draw than the set's own, or the teacher would say the same once more.
            again = generate(teacher, real, n, seed + 1, asset=self._asset)
            return _table(self._admission.admitted(again.rows.to_batches()))

        return write_again


def report_of(plan: Plan, name: str, snapshot: Snapshot, seeds: Sequence[Snapshot]) -> RealismReport | None:
    """The set as it was written and with its remedies, against the half of the real seeds that neither has seen; None without any."""
    if not real_seeds_of(plan.project, name):
        return None
    divided = seeds_of(plan, name, seeds)
    remedied = any(entry.path == WRITTEN_FILE for entry in snapshot.files)
    versions = {AS_WRITTEN: snapshot.read_table(WRITTEN_FILE if remedied else "rows.parquet")}
    if remedied:
        versions[_REMEDIED] = snapshot.read_table("rows.parquet")
    return measured(versions, divided.held, name=name, learned_from=divided.learn.num_rows, permutations=_PERMUTATIONS)


def _describe(snapshot: Snapshot, report: RealismReport | None) -> Metadata:
    """What the UI shows: rows, quarantine, who wrote them, what each remedy did, and how far from real inputs they are."""
    metadata = describe_rows(snapshot)
    if (told := snapshot.facts.get("generate")) is not None:
        metadata["written"] = records_table([told])
    if steps := snapshot.facts.get("remedies"):
        metadata["remedies"] = records_table(steps)
    if report is not None:
        records = [{key: value for key, value in step.to_record().items() if key != "gaps"} for step in report.steps]
        metadata["realism"] = records_table(records)
        if any(step.verdict.estimate is not None for step in report.steps):
            metadata["realism_plot"] = dg.MetadataValue.md(markdown_image(report.plot, alt="AUC against real inputs"))
    return metadata


def _present(writer: Writer | None) -> Writer:
    assert writer is not None, "a set is recorded or has a writer"
    return writer


def _table(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(list(batches), schema=ROW_SCHEMA)
