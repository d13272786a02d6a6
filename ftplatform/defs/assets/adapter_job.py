"""An adapter to be made: what it is made from, its recipe as a training manifest, and its closure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from ftplatform import __version__, progress
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.corpora import MASKS_FILE
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.gates import Waived
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.errors import NotMaterialized
from ftplatform.project.models import Adapter, Lora
from ftplatform.rows.schema import MASKED_TYPE, ROW_SCHEMA
from ftplatform.store import Snapshot, SnapshotDraft, Store

if TYPE_CHECKING:
    from ftplatform.closure.manifest import Closure
    from ftplatform.training.launchers import LaunchFunction
    from ftplatform.training.manifest import LoraSettings, TrainingManifest

#: Rows as an adapter is trained on them.
WEIGHTED_ROW_SCHEMA = ROW_SCHEMA.append(pa.field("weight", pa.float64(), nullable=False))

_OPTIMIZATION = {
    "steps", "batch_size", "learning_rate", "warmup_steps", "schedule", "weight_decay", "max_grad_norm", "micro_batches",
}  # fmt: skip
#: What the closure says elsewhere, or what is no choice of anybody.
_NO_HYPERPARAMETERS = {
    "schema", "base", "rows", "rows_sha256", "adapter_seed", "optimization", "precision", "device", "threads", "deterministic",
}  # fmt: skip

#: Folder of the trainer's records inside a snapshot, and what else a recipe reads, beside them.
RECORDS_FOLDER = "training"
REFUSAL_PROBES, SAFE_PROBES, INITIAL_ADAPTER = "refusal_probes.parquet", "safe_probes.parquet", "initial_adapter"


@dataclass(frozen=True)
class AdapterJob:
    """An adapter to be made: from which snapshots, and into which draft."""

    plan: Plan
    name: str
    adapter: Adapter
    snapshots: Mapping[str, Snapshot]
    store: Store
    draft: SnapshotDraft
    launcher: "LaunchFunction"
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
    def work(self) -> Path:
        """Where an interrupted run leaves what the next one goes on from; emptied by a run that ends."""
        return self.plan.root / ".ftplatform" / "training"

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
        """`rows` with what each counts as column `weight`; refusals of the safety mix count in full.

        Where the dataset masks parts of its rows, they are a column `masked`.
        """
        weights = pl.DataFrame(pl.from_arrow(self.split.read_table("weights.parquet", columns=["row_id", "weight"])))
        ids = pl.DataFrame({"row_id": rows["row_id"]})
        found = ids.join(weights, on="row_id", how="left", maintain_order="left")["weight"].fill_null(1.0)
        weighted = rows.append_column(WEIGHTED_ROW_SCHEMA.field("weight"), found.to_arrow())
        if not any(entry.path == MASKS_FILE for entry in self.split.files):
            return weighted
        masks = pl.DataFrame(pl.from_arrow(self.split.read_table(MASKS_FILE)))
        by_row = masks.group_by("row_id", maintain_order=True).agg(masked=pl.struct("turn", "start", "end"))
        parts = ids.join(by_row, on="row_id", how="left", maintain_order="left")["masked"].fill_null([])
        return weighted.append_column(pa.field("masked", pa.list_(MASKED_TYPE)), parts.to_arrow().cast(pa.list_(MASKED_TYPE)))

    def manifest(self, rows: str, seeds: Mapping[str, int]) -> "TrainingManifest":
        """The recipe on a table of the draft."""
        from ftplatform.training.loop import Optimization
        from ftplatform.training.manifest import EarlyStop, prepare

        settings = self.adapter.training
        return prepare(
            self.base.local_folder(MODEL_FOLDER),
            self._written(rows),
            base_name=self.base.asset,
            optimization=Optimization(**settings.model_dump(include=_OPTIMIZATION), seed=seeds["data_order"]),
            lora=lora_settings(settings.lora),
            max_tokens=settings.max_tokens,
            adapter_seed=seeds["adapter_init"],
            precision=settings.precision,
            threads=settings.threads,
            gradient_checkpointing=settings.gradient_checkpointing,
            packing=settings.packing,
            initial_adapter=self._initial_adapter(),
            probes=self._margin_probes(),
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
            early_stop=None if settings.early_stop is None else EarlyStop(**settings.early_stop.model_dump()),
            world=self.adapter.processes,
        )

    def _written(self, table: str) -> Path:
        """Where a table of the draft lies."""
        file = self.draft.files[table].source
        assert isinstance(file, Path), "tables are written to disk"
        return file

    def _margin_probes(self) -> tuple[Path, Path] | None:
        """The probes the refusal margin is followed on, kept with the adapter: a replay needs them."""
        probes = self.adapter.margin_probes
        if probes is None:
            return None
        found = []
        for name, file in ((probes.refusal, REFUSAL_PROBES), (probes.safe, SAFE_PROBES)):
            rows = self.snapshots[asset_name(Family.EVAL_SETS, name)].read_table("rows.parquet")
            self.draft.add_table(f"{RECORDS_FOLDER}/{file}", rows, ROW_SCHEMA)
            found.append(self._written(f"{RECORDS_FOLDER}/{file}"))
        return found[0], found[1]

    def _initial_adapter(self) -> Path | None:
        """The adapter that is continued, kept with this one."""
        if self.adapter.continues is None:
            return None
        before = self.snapshots[asset_name(Family.ADAPTERS, self.adapter.continues)]
        folder = before.local_folder(ADAPTER_FOLDER)
        for file in sorted(folder.iterdir()):
            self.draft.add_bytes(f"{RECORDS_FOLDER}/{INITIAL_ADAPTER}/{file.name}", file.read_bytes())
        return folder

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
                **{k: v for k, v in record.items() if k not in _NO_HYPERPARAMETERS},
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


def lora_settings(lora: Lora) -> "LoraSettings":
    """As the trainer takes them."""
    from ftplatform.training.manifest import LoraSettings

    modules = lora.target_modules
    return LoraSettings(
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else tuple(modules),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
    )


def role(adapter: Adapter, asset: str) -> str:
    """As what an adapter takes one of its inputs."""
    if asset == asset_name(Family.BASE_MODELS, adapter.base):
        return "base_model"
    match family_of(asset):
        case Family.SPLITS:
            return "rows"
        case Family.ADAPTERS:
            return "continued_adapter"
        case Family.RUBRICS:
            return "reward_model"
        case Family.EVAL_SETS:
            # Probes that only measure leave nothing in the weights; those that stop a run chose among its checkpoints.
            return "evaluates" if adapter.training.early_stop is None else "selection"
        case _:
            return "safety_mix"


def _unique(inputs: list[dict[str, str]]) -> list[dict[str, str]]:
    return list({(i["role"], i["asset"], i["snapshot"]): i for i in inputs}.values())
