"""Short ways to make snapshots and verdicts in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store
from ftplatform.verdict import Decision, Verdict


def draft(asset: str, content: str = "", *, inputs: Sequence[InputRef] = (), **facts: Any) -> SnapshotDraft:
    """A draft with one file that holds `content`."""
    made = SnapshotDraft(asset, code_version="1", config_hash="c0ffee", environment="e", inputs=inputs, facts=facts)
    made.add_bytes("content.txt", content.encode())
    return made


def build(store: Store, asset: str, content: str = "", inputs: Sequence[Snapshot] = ()) -> Snapshot:
    """A written, unpublished snapshot."""
    refs = [InputRef("rows", snapshot.asset, snapshot.digest) for snapshot in inputs]
    return store.write(draft(asset, content, inputs=refs))


def verdict(decision: Decision = Decision.PASS, **details: Any) -> Verdict:
    """A verdict on 100 rows."""
    return Verdict(
        decision=decision,
        summary="97 of 100 rows survived",
        statistic="survival",
        n=100,
        n_required=50,
        estimate=0.97,
        remedy="Keep more rows.",
        check_version="1",
        config={"floor": 0.9},
        details=details,
    )


def record(store: Store, asset: str, check: str, snapshot: Snapshot, run_id: str = "run", decision: Decision = Decision.PASS):
    """A finished evaluation."""
    return store.record_evaluation(
        asset,
        check,
        judged={asset: snapshot.digest},
        verdict=verdict(decision),
        blocking=True,
        severity="error",
        run_id=run_id,
        evaluated_at="2025-01-01T00:00:00Z",
    )
