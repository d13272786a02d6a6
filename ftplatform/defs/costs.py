"""What training runs took. Time is no part of a snapshot, whose bytes repeat, so it is kept beside the snapshots."""

import json
from dataclasses import dataclass

from ftplatform.canonical import canonical_json
from ftplatform.store import Snapshot, Store


@dataclass(frozen=True)
class TrainingCost:
    """Of one run: optimizer steps, and seconds on the device it ran on."""

    steps: int
    seconds: float


def record_cost(store: Store, manifest: str, *, steps: int, seconds: float) -> None:
    """Keep what a run took, under the hash of its manifest. The first run counts."""
    store.backend.put_if_absent(_key(manifest), canonical_json({"steps": steps, "seconds": seconds}))


def training_cost(store: Store, adapter: Snapshot) -> TrainingCost | None:
    """What training an adapter took; None if nobody measured it."""
    manifest = adapter.facts.get("manifest")
    stored = store.backend.get(_key(manifest)) if manifest else None
    return TrainingCost(**json.loads(stored.data)) if stored else None


def _key(manifest: str) -> str:
    return f"costs/{manifest}.json"
