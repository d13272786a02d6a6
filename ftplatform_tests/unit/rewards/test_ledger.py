"""Reward ledgers: reading, and means per checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftplatform.rewards.ledger import REWARD_SCHEMA, per_checkpoint, read_rewards
from ftplatform.rows.sources import list_files

CSV = """checkpoint,item,reward,outcome,rater
2,a,0.75,0,ann
1,a,0.5,1,ann
1,b,0.25,,
2,b,0.85,1,ben
x,b,0.1,1,ben
2,,0.1,1,ben
2,c,nan,1,ben
"""


def test_means_per_checkpoint_in_order(tmp_path: Path) -> None:
    (tmp_path / "rewards.csv").write_text(CSV)
    read = read_rewards(list_files(["rewards.csv"], tmp_path))
    assert read.table.schema == REWARD_SCHEMA
    assert (read.counts.read, read.counts.kept, read.counts.quarantined) == (7, 4, 3)
    assert read.counts.by_reason == {"missing_field": 1, "wrong_type": 2}
    first, second = per_checkpoint(read.table).to_pylist()
    assert first == {"checkpoint": 1, "items": 2, "reward": 0.375, "judged": 1, "outcome": 1.0}
    assert second == {"checkpoint": 2, "items": 2, "reward": pytest.approx(0.8), "judged": 2, "outcome": 0.5}


def test_no_outcomes_is_null_not_zero(tmp_path: Path) -> None:
    (tmp_path / "rewards.jsonl").write_text('{"checkpoint": 1, "item": "a", "reward": 1}\n')
    (only,) = per_checkpoint(read_rewards(list_files(["rewards.jsonl"], tmp_path)).table).to_pylist()
    assert (only["judged"], only["outcome"]) == (0, None)


def test_empty_ledger() -> None:
    assert per_checkpoint(REWARD_SCHEMA.empty_table()).num_rows == 0
