"""An adapter to be made: what it is made from, its recipe as a training manifest, and its closure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from ftplatform import __version__, progress
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.gates import Waived
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.errors import NotMaterialized
from ftplatform.project.models import Adapter
from ftplatform.rows.schema import ROW_SCHEMA
from ftplatform.store import Snapshot, SnapshotDraft, Store

if TYPE_CHECKING:
    from ftplatform.closure.manifest import Closure
    from ftplatform.training.manifest import TrainingManifest

#: Rows as an adapter is trained on them.
WEIGHTED_ROW_SCHEMA = ROW_SCHEMA.append(pa.field("weight", pa.float64(), nullable=False))

_OPTIMIZATION = {"steps", "batch_size", "learning_rate", "warmup_steps", "schedule", "weight_decay", "max_grad_norm"}


@dataclass(frozen=True)
class AdapterJob:
    """An adapter to be made: from which snapshots, and into which draft."""

    plan: Plan
    name: str
    adapter: Adapter
    snapshots: Mapping[str, Snapshot]
    store: Store
    draft: SnapshotDraft
    waived: Sequence[Waived] = ()

    @property
    def base(self) -> Snapshot:
        """The base model."""
        return self.snapshots[asset_name(Family.BASE_MODELS, self.adapter.base)]

    @property
    def split(self) -> Snapshot:
        """The split whose training rows it is tuned on."""
        return self.snapshots[asset_name(Family.SPLITS, self.adapter.dataset)]

    @property
    def seeds(self) -> dict[str, int]:
        """By purpose, as the manifest of a run takes them."""
        return {"data_order": self.adapter.training.seed, "adapter_init": self.adapter.training.adapter_seed}

    def with_safety_mix(self, rows: pa.Table, seed: int) -> pa.Table:
        """`rows` with the refusals the project mixes in, if any."""
        from ftplatform.training.mix import with_safety_mix

        mix = self.adapter.safety_mix
        if mix is None:
            return rows
        safety = self.snapshots[asset_name(Family.RAW, mix.source)].read_table("rows.parquet")
        return with_safety_mix(rows, safety, mix.share, seed)

    def weighted(self, rows: pa.Table) -> pa.Table:
        """`rows` with what each counts as column `weight`; refusals of the safety mix count in full."""
        weights = pl.DataFrame(pl.from_arrow(self.split.read_table("weights.parquet", columns=["row_id", "weight"])))
        ids = pl.DataFrame({"row_id": rows["row_id"]})
        found = ids.join(weights, on="row_id", how="left", maintain_order="left")["weight"].fill_null(1.0)
        return rows.append_column(WEIGHTED_ROW_SCHEMA.field("weight"), found.to_arrow())

    def manifest(self, rows: str, seeds: Mapping[str, int]) -> "TrainingManifest":
        """The recipe on a table of the draft."""
        from ftplatform.training.loop import Optimization
        from ftplatform.training.manifest import LoraSettings, prepare

        settings = self.adapter.training
        modules = settings.lora.target_modules
        rows_file = self.draft.files[rows].source
        assert isinstance(rows_file, Path), "tables are written to disk"
        return prepare(
            self.base.local_folder(MODEL_FOLDER),
            rows_file,
            base_name=self.base.asset,
            optimization=Optimization(**settings.model_dump(include=_OPTIMIZATION), seed=seeds["data_order"]),
            lora=LoraSettings(
                rank=settings.lora.rank,
                alpha=settings.lora.alpha,
                dropout=settings.lora.dropout,
                target_modules=modules if isinstance(modules, str) else tuple(modules),
            ),
            max_tokens=settings.max_tokens,
            adapter_seed=seeds["adapter_init"],
            precision=settings.precision,
            threads=settings.threads,
        )

    def advance(self, step: int, steps: int) -> None:
        """Report training steps done."""
        progress.advance(f"train {self.name}", step, steps)

    def closure(self, record: Mapping[str, Any], environment: Mapping[str, Any], weights: Path, rows: pa.Table) -> "Closure":
        """What the adapter is; its files are in the draft already.

        Args:
            record: identity of the training manifest.
            environment: of the training run.
            weights: folder with the adapter.
            rows: in the order in which they were trained on.
        """
        from ftplatform.closure.code_identity import package_root, project_identity, tree_identity
        from ftplatform.closure.manifest import CheckFact, LicenseFacts, ModelFacts, RowFacts, build_closure, transitive_inputs
        from ftplatform.closure.packages import installed_packages
        from ftplatform.training.base_model import chat_template_of
        from ftplatform.training.tensors import tensors_digest

        plan, adapter, store, draft, base = self.plan, self.adapter, self.store, self.draft, self.base
        spec = plan.project.base_models[adapter.base]
        ledger = store.head(LICENSE_LEDGER)
        if ledger is None:
            raise NotMaterialized(
                "license_ledger has never been built; the closure names it.", remedy="Run: ftplatform run license_ledger"
            )
        direct = [{"role": role(adapter, p), "asset": p, "snapshot": s.digest} for p, s in self.snapshots.items()]
        upstream = [i for s in self.snapshots.values() for i in transitive_inputs(store.lineage(s.digest))]
        evaluations = [store.latest_evaluation(c.asset, c.name) for c in plan.gates_of(draft.asset)]
        return build_closure(
            asset=draft.asset,
            subject=[d.entry for path, d in draft.files.items() if path.startswith(f"{ADAPTER_FOLDER}/")],
            tensors=tensors_digest(weights / "adapter_model.safetensors"),
            base_model=ModelFacts(
                asset=base.asset,
                snapshot=base.digest,
                files=base.files,
                chat_template=chat_template_of(base.local_folder(MODEL_FOLDER)) or "",
                hub=spec.hub,
                revision=spec.revision,
            ),
            rows=RowFacts(asset=self.split.asset, snapshot=self.split.digest, path="train.parquet", row_ids=rows["row_id"]),
            inputs=_unique([*direct, *upstream]),
            package=tree_identity(package_root()),
            package_version=__version__,
            project=project_identity(plan.loaded.path),
            packages=installed_packages(),
            runtime={
                **environment,
                "dtype": record["precision"],
                "threads": record["threads"],
                "deterministic": record["deterministic"],
            },
            hyperparameters={
                "optimization": {k: v for k, v in record["optimization"].items() if k != "seed"},
                "lora": record["lora"],
                "max_tokens": record["max_tokens"],
                "gradient_checkpointing": record["gradient_checkpointing"],
                "safety_mix": adapter.safety_mix.model_dump() if adapter.safety_mix else None,
            },
            seeds={
                "data_order": adapter.training.seed,
                "dropout": adapter.training.seed,
                "safety_mix": adapter.training.seed,
                "adapter_init": adapter.training.adapter_seed,
            },
            licenses=LicenseFacts(
                ledger_asset=LICENSE_LEDGER,
                ledger_snapshot=ledger.snapshot,
                policy_name=plan.policy.name,
                policy_version=plan.policy.version,
                policy=plan.policy.document,
                uses=[str(use) for use in plan.project.use],
            ),
            waivers=[waived.waiver.to_record() for waived in self.waived],
            checks=[
                CheckFact(asset=e.asset, check=e.check, judged=e.judged, verdict=e.verdict)
                for e in evaluations
                if e is not None and e.verdict is not None
            ],
        )

    def add_closure(self, closure: "Closure") -> None:
        """Put a closure and what it refers to into the draft."""
        for path, data in closure.attachments.items():
            self.draft.add_bytes(f"closure/{path}", data)
        self.draft.add_bytes("closure/closure.json", closure.document)


def role(adapter: Adapter, asset: str) -> str:
    """As what an adapter takes one of its inputs."""
    if asset == asset_name(Family.BASE_MODELS, adapter.base):
        return "base_model"
    return "rows" if asset.startswith(f"{Family.SPLITS}/") else "safety_mix"


def _unique(inputs: list[dict[str, str]]) -> list[dict[str, str]]:
    return list({(i["role"], i["asset"], i["snapshot"]): i for i in inputs}.values())
