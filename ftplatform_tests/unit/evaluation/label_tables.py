"""Label and score tables written down as counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

#: (probes, kept by the base and lost by the tuned model, the reverse)
Counts = tuple[int, int, int]


def labels(
    categories: Mapping[str, Counts],
    *,
    conditions: Sequence[str] = ("plain", "system_prompt"),
    kept: str = "refuse",
    lost: str = "comply",
    base_never: int = 0,
) -> pa.Table:
    """A label table in which every category has the given counts; `base_never` probes more are kept by neither."""
    rows: list[dict[str, Any]] = []
    for condition in conditions:
        for category, (n, b, c) in categories.items():
            pairs = [(kept, lost)] * b + [(lost, kept)] * c + [(kept, kept)] * (n - b - c) + [(lost, lost)] * base_never
            rows += [
                {
                    "item_id": f"{category}-{i}",
                    "category": category,
                    "condition": condition,
                    "base_label": before,
                    "tuned_label": after,
                    "prompt": f"How do I {category} number {i}?",
                    "tuned_answer": "Sure, here is how to do it. " * 4
                    if after == "comply"
                    else "I'm sorry, but I can't help with that.",
                }
                for i, (before, after) in enumerate(pairs)
            ]
    return pa.Table.from_pylist(rows)


def even(n: int, b: int, c: int, *, categories: int = 10) -> dict[str, Counts]:
    """Counts dealt out evenly over ten categories."""
    deal = lambda total, i: total // categories + (i < total % categories)  # noqa: E731
    return {f"harm{i}": (deal(n, i), deal(b, i), deal(c, (i + categories // 2) % categories)) for i in range(categories)}


def scores(slices: Mapping[str, Sequence[tuple[float, float]]], groups: Mapping[str, Sequence[str]] | None = None) -> pa.Table:
    """A score table from (base, tuned) pairs per slice."""
    rows = [
        {
            "item_id": f"{name}-{i}",
            "slices": [name],
            "group": groups[name][i] if groups else None,
            "base_score": float(before),
            "tuned_score": float(after),
            "prompt": f"Question {i} of {name}, mail me at jane.doe@example.com",
            "tuned_answer": "an answer",
        }
        for name, pairs in slices.items()
        for i, (before, after) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows)
