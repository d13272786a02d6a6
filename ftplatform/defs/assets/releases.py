"""`releases/*`: behind the last gate, the bundle that leaves the platform."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, verdict_row
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import evidence_texts
from ftplatform.licensing.terms import SourceTerms
from ftplatform.project.models import Adapter
from ftplatform.store import Snapshot, SnapshotDraft

CODE_VERSION = "1"


def release_assets(plan: Plan) -> Iterator[dg.AssetsDefinition]:
    """One per adapter that is meant to be released."""
    for name, adapter in plan.project.adapters.items():
        if adapter.release:
            yield _release(plan, name, adapter)


def _release(plan: Plan, name: str, adapter: Adapter) -> dg.AssetsDefinition:
    asset = asset_name(Family.RELEASES, name)
    parents = plan.lineage.parents[asset]
    options = asset_options(
        asset,
        kinds=["safetensors"],
        owner=adapter.owner,
        description=None,
        default="Weights, closure, check evaluations and model card.",
    )

    @define(options, code_version=CODE_VERSION, ins={argument(p): dg.AssetIn(to_key(p)) for p in parents})
    def release(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        gates = plan.gates_of(asset)
        require_gates(asset, gates, opened, snapshots)
        trained = snapshots[asset_name(Family.ADAPTERS, name)]
        evaluations = [e for check in gates if (e := opened.latest_evaluation(check.asset, check.name)) is not None]

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.licensing.ledger import ledger_table
            from ftplatform.licensing.notices import notices
            from ftplatform.release.bundle import build_release

            used = used_terms(plan, asset)
            named = {evidence.path for terms in used for evidence in terms.evidence}
            with tempfile.TemporaryDirectory(prefix="ftplatform-release-") as folder:
                out = Path(folder) / "bundle"
                build_release(
                    out,
                    name=name,
                    adapter_folder=trained.local_folder(ADAPTER_FOLDER),
                    closure=trained.read_bytes("closure/closure.json"),
                    evaluations=evaluations,
                    ledger=ledger_table(used, plan.policy),
                    notices=notices(used, plan.project.use, plan.policy),
                    license_texts={path: text for path, text in evidence_texts(plan.loaded).items() if path in named},
                    description=adapter.description or "",
                )
                # By value: the draft is written after this folder is gone.
                for file in sorted(path for path in out.rglob("*") if path.is_file()):
                    draft.add_bytes(file.relative_to(out).as_posix(), file.read_bytes())
            return {"closure": trained.facts["closure"], "checks": len(evaluations)}

        # The evaluations are part of what is released: other evidence is another release.
        records = {f"{e.asset}:{e.check}": [e.verdict.config_hash, str(e.verdict.decision)] for e in evaluations if e.verdict}
        recipe = Recipe(
            asset,
            CODE_VERSION,
            config={"checks": records, "terms": {t.name: t.digest for t in used_terms(plan, asset)}},
            inputs=[(_role(p), s) for p, s in snapshots.items()],
            packages=(),
        )
        result = build(context, opened, recipe, fill, _describe)
        table = [{k: r.get(k) for k in ("asset", "check", "decision", "summary")} for r in map(verdict_row, evaluations)]
        return result._replace(metadata={**(result.metadata or {}), "checks": records_table(table)})

    return release


def used_terms(plan: Plan, asset: str) -> list[SourceTerms]:
    """Terms of everything `asset` is made from, teachers included."""
    ancestors = plan.lineage.ancestors(asset)
    used = {name: terms for name, terms in plan.terms.items() if name in ancestors}
    teachers = {p: plan.terms[p] for terms in used.values() for p in terms.derived_from if p in plan.terms}
    return list({**used, **teachers}.values())


def _role(asset: str) -> str:
    return "adapter" if asset.startswith(f"{Family.ADAPTERS}/") else "evaluates"


def _describe(snapshot: Snapshot) -> Metadata:
    return {"closure": dg.MetadataValue.text(snapshot.facts["closure"])}
