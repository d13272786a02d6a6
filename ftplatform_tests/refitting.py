"""Is a refitted classifier the shipped one? Sums in another order, on another processor, differ in their last digits."""

from __future__ import annotations

import json
from typing import Any

import pytest

#: Weights are shipped with three decimals; one step of the last one is what rounding makes of a difference in the sixteenth.
TOLERANCE = 0.0015


def assert_same_fit(fitted: bytes, shipped: bytes) -> None:
    """Same training texts, same measured quality, same weights up to the last shipped decimal; absent weights are 0."""
    new, old = json.loads(fitted), json.loads(shipped)
    assert new["facts"]["data_digest"] == old["facts"]["data_digest"]
    assert _measured(new["facts"]) == pytest.approx(_measured(old["facts"]), abs=0.005)
    a, b = _flat(new), _flat(old)
    assert {k: a.get(k, 0.0) for k in a.keys() | b.keys()} == pytest.approx(
        {k: b.get(k, 0.0) for k in a.keys() | b.keys()}, abs=TOLERANCE
    )


def _measured(facts: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= {f"{name}.{k}": v for k, v in _measured(value).items()}
        elif isinstance(value, int | float):
            found[name] = float(value)
    return found


def _flat(model: dict[str, Any]) -> dict[str, float]:
    """Each weight by name, one number each."""
    found: dict[str, float] = {}
    for part in ("bias", "weights"):
        values = model[part]
        for name, value in (values if isinstance(values, dict) else {"": values}).items():
            for i, number in enumerate(value if isinstance(value, list) else [value]):
                found[f"{part} {name} {i}"] = float(number)
    return found
