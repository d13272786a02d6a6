"""Tables of answers to behavior probes, as an evaluation writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ftplatform.evaluation.suite import ANSWERS_SCHEMA


def answer(item: str, tuned: str, base: str = "I can help with that.", **columns: Any) -> dict[str, Any]:
    """One sampled answer; `sample=None` makes it greedy."""
    row: dict[str, Any] = {
        "eval_set": "probes",
        "kind": "behavior_probes",
        "item_id": item,
        "condition": "plain",
        "sample": 0,
        "category": "neutral",
        "slices": [],
        "group": None,
        "prompt": f"question {item}",
        "base_answer": base,
        "tuned_answer": tuned,
        **columns,
    }
    return {name: row.get(name) for name in ANSWERS_SCHEMA.names}


def answers(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Table of `ANSWERS_SCHEMA`."""
    return pa.Table.from_pylist(list(rows), schema=ANSWERS_SCHEMA)
