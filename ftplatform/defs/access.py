"""Who may see what of a vault, and who has: the assets keep its ledger, and its texts stay out of metadata and evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.canonical import digest
from ftplatform.contamination.exposures import entered, families
from ftplatform.defs.checks import Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.errors import NotMaterialized
from ftplatform.project.models import Project
from ftplatform.store import Snapshot, Store, access_log
from ftplatform.store.access_log import AccessKind, AccessRecord
from ftplatform.verdict import Scalar, Verdict

#: Who acts where no person does.
PLATFORM = "ftplatform"
#: What stands in place of a text.
WITHHELD = "(vault)"

#: Columns of rows, of quarantined records and of evidence that hold names and labels, never what an item says. Of a vault all other
#: text is withheld: a column that somebody adds is hidden until it is listed here.
_NAMES = {
    "row_id",
    "eval_row_id",
    "item_id",
    "train_row_id",
    "eval_set",
    "adapter",
    "family",
    "group",
    "namespace",
    "train_namespace",
}
_JUDGMENTS = {
    "slices",
    "category",
    "condition",
    "base_label",
    "tuned_label",
    "part",
    "found_in",
    "tier",
    "door",
    "status",
    "evidence",
}
_PLACES = {"column", "rule", "reason", "source", "file", "position", "surface"}
_ACTS = {"kind", "name", "by", "at", "author", "written_at", "seen_at", "purpose"}
_LABELS = frozenset(_NAMES | _JUDGMENTS | _PLACES | _ACTS)


def vault_names(project: Project) -> frozenset[str]:
    """Eval sets that are vaults."""
    return frozenset(name for name, spec in project.eval_sets.items() if spec.vault)


def withheld_names(project: Project) -> frozenset[str]:
    """Eval sets whose texts are not shown: the vaults, and the sets that say the same in other words."""
    vaults = vault_names(project)
    return vaults | {name for name, spec in project.eval_sets.items() if spec.paraphrase_of in vaults}


def ledger(store: Store, eval_set: str) -> list[AccessRecord]:
    """The access ledger of an eval set, oldest record first."""
    return access_log.of_set(store.backend, eval_set)


# ---- what the assets record ------------------------------------------------------------------------------------------------


def record_entered(store: Store, vault: Snapshot) -> AccessRecord | None:
    """Open the ledger of a vault, or note what entered since; None if nothing did.

    The record names the version, so that items which leave later can still be told (`retired_items`).
    """
    name = _name(vault.asset)
    rows = vault.read_table("rows.parquet", ["row_id", "group", "author", "created_at", "first_seen_at"])
    items = entered(families(rows), ledger(store, name))
    new = items.filter(items["entered"].is_null())["row_id"].to_list()
    if not new:
        return None
    purpose = f"{len(new):,} items entered"
    return access_log.record(
        store.backend, name, AccessKind.REFRESH, by=PLATFORM, purpose=purpose, items=new, snapshot=vault.digest
    )


def record_decisions(
    store: Store, results: Snapshot, vaults: frozenset[str], system_prompt: str | None = None
) -> list[AccessRecord]:
    """Note that a checkpoint is about to be judged by what it scored on each of the `vaults` it was asked.

    Once for each version of vault and adapter and each system prompt: the same results shown again tell nothing new.
    """
    (adapter,) = (ref.snapshot for ref in results.inputs if ref.role == "adapter")
    under = f", system prompt {digest(system_prompt)[:12]}" if system_prompt else ""
    purpose = f"aggregate results in {results.asset}{under}"
    made = []
    for name, snapshot in asked(results).items():
        act = (AccessKind.DECISION, snapshot, adapter, purpose)
        if name in vaults and act not in {(r.kind, r.snapshot, r.adapter, r.purpose) for r in ledger(store, name)}:
            made.append(
                access_log.record(store.backend, name, act[0], by=PLATFORM, purpose=purpose, snapshot=snapshot, adapter=adapter)
            )
    return made


def record_decision(
    project: Project, store: Store, exams: Mapping[str, Snapshot], *, by: str, purpose: str, adapter: Snapshot
) -> None:
    """Note in the ledger of every vault among `exams` that somebody outside the graph judges `adapter` by its scores."""
    for name in vault_names(project) & exams.keys():
        access_log.record(
            store.backend, name, AccessKind.DECISION, by=by, purpose=purpose, snapshot=exams[name].digest, adapter=adapter.digest
        )


def asked(results: Snapshot) -> dict[str, str]:
    """Eval sets of an evaluation, by name, with the digest of the version that was asked."""
    return {_name(ref.asset): ref.snapshot for ref in results.inputs if ref.role == "evaluates"}


def retired_items(store: Store, vault: Snapshot, records: Sequence[AccessRecord]) -> tuple[pa.Table, int]:
    """Items of earlier versions that have left the vault, and how many of these versions are gone from the store.

    The ledger names the versions: every item entered with a refresh, and that names the version it entered with.
    """
    current = vault.read_table("rows.parquet")
    known, retired, gone = [current["row_id"]], [current.slice(0, 0)], 0
    for version in dict.fromkeys(r.snapshot for r in records if r.kind is AccessKind.REFRESH):
        if version is None or version == vault.digest:
            continue
        try:
            earlier = store.snapshot(version).read_table("rows.parquet").cast(current.schema)
        except NotMaterialized:
            gone += 1
            continue
        seen = pa.chunked_array([chunk for column in known for chunk in column.chunks], pa.string()).combine_chunks()
        left = earlier.filter(pc.invert(pc.is_in(earlier["row_id"], value_set=seen)))
        known.append(left["row_id"])
        retired.append(left)
    return pa.concat_tables(retired), gone


# ---- what is shown ---------------------------------------------------------------------------------------------------------


def labels_only(table: pa.Table) -> pa.Table:
    """The columns of rows or quarantined records that may be shown of a vault."""
    return table.select([name for name in table.column_names if name in _LABELS])


def withholding(judge: Callable[[Judging], Verdict], names: frozenset[str]) -> Callable[[Judging], Verdict]:
    """`judge` with the texts of items of the eval sets `names` taken out of its evidence, and of whatever stands beside them.

    What is compared with an item may be its copy, so the whole line keeps numbers and labels only. `evals view` shows the texts and
    records who looked.
    """

    def judged(judging: Judging) -> Verdict:
        verdict = judge(judging)
        if not verdict.evidence or not names:
            return verdict
        ids = _row_ids(judging, names)
        lines = [_withheld(line) if _is_about(line, names, ids) else line for line in verdict.evidence]
        return replace(verdict, evidence=lines)

    return judged


def _is_about(line: Mapping[str, Scalar], names: frozenset[str], row_ids: frozenset[str]) -> bool:
    named = line.get("eval_set")
    return (isinstance(named, str) and _name(named) in names) or any(v in row_ids for v in line.values() if isinstance(v, str))


def _withheld(line: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key: WITHHELD if isinstance(value, str) and key not in _LABELS else value for key, value in line.items()}


def _row_ids(judging: Judging, names: frozenset[str]) -> frozenset[str]:
    """Items of the sets in the versions that were judged, or that what was judged had been asked."""
    assets = {asset_name(Family.EVAL_SETS, name) for name in names}
    inputs = [ref.snapshot for ref in judging.snapshot.inputs if ref.asset in assets]
    versions = [s for s in (judging.snapshot, *judging.others.values(), *map(judging.store.snapshot, inputs)) if s.asset in assets]
    return frozenset(row for s in versions for row in s.read_table("rows.parquet", ["row_id"])["row_id"].to_pylist())


def _name(asset: str) -> str:
    return asset.rsplit("/", 1)[-1]
