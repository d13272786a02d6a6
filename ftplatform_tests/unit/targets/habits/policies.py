"""Behavior policies for tests: the two files in `data`, and small ones made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftplatform.project.behavior import BehaviorPolicy, load_behavior_policy
from ftplatform.targets.habits.policy import Policy

DATA = Path(__file__).parent / "data"


def read_policy(name: str) -> Policy:
    """`airline` or `star`."""
    return Policy.of(load_behavior_policy((DATA / f"{name}_policy.yaml").read_bytes(), file=f"{name}_policy.yaml").document())


def make_policy(**content: Any) -> Policy:
    """A policy with nothing but what is given."""
    return Policy.of(BehaviorPolicy.model_validate({"name": "test", "version": "1", **content}).document())
