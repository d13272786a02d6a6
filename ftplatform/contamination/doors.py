"""The door: how an eval item came into the training data, as far as the lineage of both rows tells."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from ftplatform.rows.schema import Surface

_COLUMNS = ["row_id", "source", "parents", "surface", "first_seen_at", "meta"]
_TRIAGE = "triage"


def door(evals: pa.Table, item_at: int, train: pa.Table, row_at: int, *, several: bool = False) -> str:
    """Name the door between two rows; tables of `ROW_SCHEMA`.

    Args:
        several: whether one turn of the training row holds more than this item.

    Returns:
        One of triage, few-shot prompt, synthetic seed, feedback, derived row, copied row, re-ingestion, unknown: the first that
        applies, the deliberate act before the accident.
    """
    item = evals.slice(item_at, 1).select(["row_id", "first_seen_at"]).to_pylist()[0]
    row = train.slice(row_at, 1).select(_COLUMNS).to_pylist()[0]
    if _triaged(row):
        return _TRIAGE
    if several:
        return "few-shot prompt"
    if row["surface"] == Surface.SYNTHETIC or any(parent.startswith("teacher:") for parent in row["parents"]):
        return "synthetic seed"
    if row["source"].startswith("feedback/") or any(parent.startswith(("event:", "feedback:")) for parent in row["parents"]):
        return "feedback"
    if item["row_id"] in row["parents"]:
        return "derived row"
    if row["surface"] in (Surface.EVAL, Surface.CURATION) or row["row_id"] == item["row_id"]:
        return "copied row"
    if row["first_seen_at"] is not None and item["first_seen_at"] is not None and row["first_seen_at"] > item["first_seen_at"]:
        return "re-ingestion"
    return "unknown"


def _triaged(row: dict[str, Any]) -> bool:
    """Whether the row was written after looking at failures: its source, a parent or a key of `meta` says triage."""
    if _TRIAGE in row["source"].split("/") or any(parent.startswith(f"{_TRIAGE}:") for parent in row["parents"]):
        return True
    try:
        meta = json.loads(row["meta"])
    except (ValueError, RecursionError):
        return False
    return isinstance(meta, dict) and bool(meta.get(_TRIAGE))
