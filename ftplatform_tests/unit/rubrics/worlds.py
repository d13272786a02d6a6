"""Worlds in which the truth about a rubric is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftplatform.rubrics.criteria import Criterion, RubricCard, Rule
from ftplatform.rubrics.paired import Gain

PAIRS = Path(__file__).with_name("criterion_pairs.jsonl")


def labeled_pairs() -> list[dict[str, Any]]:
    """Pairs of criteria `a`, `b` with `same`, written for this test; `part` is fit, held-out or light (a copy with other small words)."""
    return [json.loads(line) for line in PAIRS.read_text().splitlines()]


def card(
    name: str, texts: list[str], purpose: Any = "eval", family: str = "maker-a", rules: Sequence[Rule | None] | None = None
) -> RubricCard:
    """A rubric with these criteria; ids are numbers."""
    given = rules if rules is not None else [None] * len(texts)
    criteria = [Criterion(f"{name}-{i}", text, rule) for i, (text, rule) in enumerate(zip(texts, given, strict=True))]
    return RubricCard(name, purpose, f"{name}@example.com", f"judge-of-{name}", family, criteria)


def transfer_world(
    trained: float, held: float, n: int = 200, sd: float = 18.0, rho: float = 0.5, seed: int = 0
) -> tuple[Gain, Gain]:
    """Gains in points with this mean, spread and correlation, on a scale wide enough that none is cut off."""
    rng = np.random.default_rng(seed)
    both = rng.multivariate_normal([trained, held], sd**2 * np.array([[1, rho], [rho, 1]]), n)
    scale = 400.0
    items = [f"item-{i}" for i in range(n)]
    t, h = (Gain(items, np.full(n, 0.5), 0.5 + column / scale) for column in both.T)
    return t, h
