"""Which events are annotated twice and which rows are audited: decided by hash, so nobody picks and everybody draws the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.feedback.events import DEBUG_SURFACES

#: What an annotator sees. Codes, reviewers and actor are left out: they would tell what somebody else thought.
SHEET_COLUMNS = ("event_id", "prompt", "answer", "correction")


def draw(ids: Sequence[str], size: int, *, purpose: str) -> NDArray[np.int64]:
    """Positions of a simple random sample without replacement, in hash order.

    The ids with the smallest SHA-256 of purpose and id are drawn. When ids are added the sample keeps what it has but for what the new
    ones displace, so what was read before goes on counting.

    Args:
        ids: distinct; shape (n,).
        size: at most this many.
        purpose: samples for different purposes are independent.
    """
    keys = np.array([_key(purpose, each) for each in ids], dtype="S32")
    return np.argsort(keys, kind="stable")[:size].astype(np.int64)


def annotation_sample(events: pa.Table, size: int) -> list[str]:
    """Ids of a random sample of the events that could become labels; those of debug surfaces never do.

    Args:
        events: table of `EVENT_SCHEMA`.
    """
    frame = pl.DataFrame({name: events[name] for name in ("event_id", "surface")}).unique(
        "event_id", keep="first", maintain_order=True
    )
    ids = frame.filter(~pl.col("surface").is_in([str(s) for s in DEBUG_SURFACES]).fill_null(False))["event_id"].to_list()
    return [ids[at] for at in draw(ids, size, purpose="label_agreement")]


def blind_sheet(events: pa.Table, event_ids: Iterable[str], annotator: str) -> pa.Table:
    """The events for one annotator: `SHEET_COLUMNS`, in an order of their own, so that fatigue falls on different rows for each.

    Args:
        events: table of `EVENT_SCHEMA`.
        event_ids: which events.
    """
    wanted = set(event_ids)
    ids = events["event_id"].to_pylist()
    chosen = [at for at, each in enumerate(ids) if each in wanted]
    order = draw([ids[at] for at in chosen], len(chosen), purpose=f"sheet of {annotator}")
    return events.select(SHEET_COLUMNS).take(pa.array([chosen[at] for at in order], pa.int64()))


def _key(purpose: str, each: str) -> bytes:
    return hashlib.sha256(f"{purpose}\x00{each}".encode()).digest()
