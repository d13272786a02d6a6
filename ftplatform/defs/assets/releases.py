"""`releases/*`: behind the last gate, the bundle that leaves the platform."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from ftplatform.canonical import sha256_hex
from ftplatform.defs.assets.building import Recipe, build
from ftplatform.defs.assets.common import argument, asset_options, define
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.decisions import record_decisions
from ftplatform.defs.gates import require_gates
from ftplatform.defs.keys import Family, asset_name, to_key
from ftplatform.defs.metadata import Metadata, records_table, verdict_row
from ftplatform.defs.plan import Plan
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.terms import evidence_texts
from ftplatform.licensing.notices import Notice
from ftplatform.project.models import Adapter
from ftplatform.store import Snapshot, SnapshotDraft
from ftplatform.verdict import Decision, Verdict

CODE_VERSION = "2"

#: Name of the gate inside the release step. It judges the finished card, so it cannot run before there is one; nor can it be waived:
#: what is owed to others is confirmed by a person or not released.
OBLIGATIONS = "obligations_met"


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

    @define(
        options,
        code_version=CODE_VERSION,
        ins={argument(p): dg.AssetIn(to_key(p)) for p in parents},
        deps=[to_key(ledger) for ledger in plan.lineage.governing(asset)],
    )
    def release(context: dg.AssetExecutionContext, store: StoreResource, **inputs: Snapshot) -> dg.MaterializeResult:
        opened = store.open()
        snapshots = {p: inputs[argument(p)] for p in parents}
        # Terms are a state: what stood when the code location was loaded, or the run began, may be over by now.
        current = Plan(plan.loaded)
        gates = current.gates_of(asset)
        waived = require_gates(asset, gates, opened, snapshots)
        latest = [opened.latest_evaluation(check.asset, check.name) for check in gates]
        cited = {e.record: e for e in [*latest, *(w.evaluation for w in waived)] if e is not None and e.verdict is not None}
        evaluations, waivers = list(cited.values()), list({w.waiver.id: w.waiver for w in waived}.values())
        used = current.used_terms(asset)
        named = {evidence.path for terms in used for evidence in terms.evidence}
        texts = {path: text for path, text in evidence_texts(current.loaded).items() if path in named}

        def fill(draft: SnapshotDraft) -> Mapping[str, Any]:
            from ftplatform.licensing.ledger import ledger_table
            from ftplatform.licensing.notices import notices, released_name
            from ftplatform.release.bundle import build_release

            policy, uses = current.policy, current.project.use
            owed = notices(used, uses, policy, texts=texts, confirmations=adapter.obligations)
            public_name = released_name(name, owed)
            trained = snapshots[asset_name(Family.ADAPTERS, name)]
            verdicts: list[Verdict] = []

            def obligations(card: str, files: Mapping[str, bytes]) -> Verdict:
                verdicts.append(_obligations(current, asset, public_name, adapter, owed, card, files))
                return verdicts[0]

            with tempfile.TemporaryDirectory(prefix="ftplatform-release-") as folder:
                out = Path(folder) / "bundle"
                build_release(
                    out,
                    name=public_name,
                    adapter_folder=trained.local_folder(ADAPTER_FOLDER),
                    closure=trained.read_bytes("closure/closure.json"),
                    evaluations=evaluations,
                    ledger=ledger_table(used, policy),
                    notices=owed,
                    obligations=obligations,
                    waivers=waivers,
                    license_texts=texts,
                    description=adapter.description or "",
                )
                # By value: the draft is written after this folder is gone.
                for file in sorted(path for path in out.rglob("*") if path.is_file()):
                    draft.add_bytes(file.relative_to(out).as_posix(), file.read_bytes())
            return {
                "closure": trained.facts["closure"],
                "checks": len(evaluations),
                "waivers": [{"asset": w.asset, "check": w.check, "waiver": w.id} for w in waivers],
                "obligations": str(verdicts[0].decision),
            }

        # The evaluations are part of what is released: other evidence is another release.
        records = {f"{e.asset}:{e.check}": [e.verdict.config_hash, str(e.verdict.decision)] for e in evaluations if e.verdict}
        recipe = Recipe(
            asset,
            CODE_VERSION,
            config={
                "checks": records,
                "terms": {t.name: t.digest for t in used},
                "texts": {path: sha256_hex(text) for path, text in texts.items()},
                "policy": current.policy.digest,
                "uses": [str(use) for use in current.project.use],
                "obligations": adapter.model_dump(mode="json", include={"obligations"}),
                "severity": _severity(current),
                "description": adapter.description,
                "waivers": sorted(w.id for w in waivers),
            },
            inputs=[(_role(p), s) for p, s in snapshots.items()],
            packages=(),
        )
        result = build(context, opened, recipe, fill, _describe)
        record_decisions(current, opened, result.value)
        table = [{k: r.get(k) for k in ("asset", "check", "decision", "summary")} for r in map(verdict_row, evaluations)]
        signed = [{k: w.to_record()[k] for k in ("asset", "check", "decision", "by", "why", "expires_at")} for w in waivers]
        more = {"checks": records_table(table), "released_under_waiver": records_table(signed)}
        return result._replace(metadata={**(result.metadata or {}), **more})

    return release


def _severity(plan: Plan) -> str:
    override = plan.project.gates.get(OBLIGATIONS)
    return override.severity if override and override.severity else "error"


def _obligations(
    plan: Plan, asset: str, public_name: str, adapter: Adapter, owed: Sequence[Notice], card: str, files: Mapping[str, bytes]
) -> Verdict:
    """What the licenses ask of the release, looked for in it; refuses before anything is written.

    Raises:
        dg.Failure: naming each obligation that is not met, and to whom it is owed.
    """
    from ftplatform.licensing.obligations import obligations_met

    verdict = obligations_met(
        owed, release=public_name, card=card, files=files, policy=plan.policy, confirmations=adapter.obligations
    )
    if verdict.decision in {Decision.FAIL, Decision.INSUFFICIENT_EVIDENCE} and _severity(plan) == "error":
        raise dg.Failure(
            description=f"Refused to build {asset}: {OBLIGATIONS}: {verdict.summary} Remedy: {verdict.remedy}",
            metadata={OBLIGATIONS: records_table(verdict.evidence)},
            allow_retries=False,
        )
    return verdict


def _role(asset: str) -> str:
    return "adapter" if asset.startswith(f"{Family.ADAPTERS}/") else "evaluates"


def _describe(snapshot: Snapshot) -> Metadata:
    return {"closure": dg.MetadataValue.text(snapshot.facts["closure"])}
