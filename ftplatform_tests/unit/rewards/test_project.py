"""The `rewards` block of the project file."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from ftplatform.project.models import Reward
from ftplatform.project.rewards import Column
from ftplatform.rewards.ledger import REWARD_SCHEMA


def test_every_column_may_have_another_name() -> None:
    assert list(get_args(Column)) == REWARD_SCHEMA.names


def test_a_whole_block() -> None:
    block = Reward.model_validate(
        {"path": "r.jsonl", "adapter": "support", "approved": ["0", "4"], "window": "6", "fields": {"checkpoint": "step"}}
    )
    assert (block.approved, block.window, block.method) == ([0, 4], 6, "reinforcement")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"approved": [4, 0]}, "ascending order"),
        ({"approved": [0, 0]}, "each once"),
        ({"window": 3}, "greater than or equal to 4"),
        ({"fields": {"checkpiont": "step"}}, "'checkpoint'"),
        ({"method": "ppo"}, "best_of_n"),
    ],
)
def test_what_is_refused(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Reward.model_validate({"path": "r.jsonl", **extra})
