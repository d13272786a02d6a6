"""How much of a training run a row was: its tokens, and the optimizer steps that saw it.

Worked out again from the adapter's snapshot (rows, manifest, base model), not recorded while training: encoding and order of the rows
follow from them, and only somebody who asks for a blast radius pays for it.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.keys import Family, family_of
from ftplatform.store import Snapshot, Store

_MANIFEST = "training/training_manifest.json"


@dataclass(frozen=True)
class Exposure:
    """What a training run saw.

    Attributes:
        rows: columns `row_id`, `tokens` (as encoded, cut ones as cut) and `steps` (numbers of the steps that saw it, from 0).
        steps: steps of the run.
    """

    rows: pl.DataFrame
    steps: int

    @property
    def tokens(self) -> int:
        """Tokens of all rows, each counted once."""
        return int(self.rows["tokens"].sum())

    def step_share(self, row_ids: Iterable[str] | pl.Series) -> float:
        """Share of steps that saw at least one of the rows, 0 to 1."""
        wanted = pl.Series("row_id", row_ids, dtype=pl.String).to_frame()
        seen = self.rows.join(wanted, on="row_id", how="semi").select(pl.col("steps").explode()).drop_nulls().n_unique()
        return seen / self.steps


def exposure_of(store: Store, adapter: Snapshot, folder: Path) -> Exposure | None:
    """The exposure of an adapter's rows; None if its snapshot holds no manifest of a single run.

    Args:
        folder: where the answer is kept; a snapshot never changes.
    """
    if not any(entry.path == _MANIFEST for entry in adapter.files):
        return None
    manifest = json.loads(adapter.read_bytes(_MANIFEST))
    kept = folder / f"{adapter.digest}.exposure.parquet"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}.partial")
        _work_out(store, adapter, manifest).write_parquet(partial)
        partial.replace(kept)
    return Exposure(pl.read_parquet(kept), _steps(adapter, manifest))


def _steps(adapter: Snapshot, manifest: dict) -> int:
    """Steps that shaped the weights; a run that was stopped returns an earlier checkpoint."""
    stopped = adapter.facts.get("stopped")
    return stopped["returned_step"] if stopped else manifest["optimization"]["steps"]


def _work_out(store: Store, adapter: Snapshot, manifest: dict) -> pl.DataFrame:
    from transformers import AutoTokenizer

    from ftplatform.training.encode import encode_rows
    from ftplatform.training.loop import batch_order

    base = next(s for s in store.lineage(adapter.digest) if family_of(s.asset) is Family.BASE_MODELS)
    tokenizer = AutoTokenizer.from_pretrained(base.local_folder(MODEL_FOLDER), local_files_only=True, trust_remote_code=False)
    encoded = encode_rows(adapter.read_table("rows.parquet"), tokenizer, max_tokens=manifest["max_tokens"])
    lengths = [len(example.tokens) for example in encoded.examples]
    optimization = manifest["optimization"]
    order = batch_order(lengths, optimization["batch_size"], optimization["steps"], optimization["seed"])
    seen = list(islice(order, _steps(adapter, manifest)))
    visits = pl.DataFrame([pl.Series("row", seen, dtype=pl.List(pl.Int64))]).with_row_index("step").explode("row")
    steps = visits.group_by("row").agg(pl.col("step").cast(pl.Int64).alias("steps"))
    rows = pl.DataFrame({"row": range(len(lengths)), "row_id": encoded.row_ids, "tokens": lengths})
    return rows.join(steps, on="row", how="left").select("row_id", "tokens", "steps")
