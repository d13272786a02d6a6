"""Reward ledgers: reading, and means per checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftplatform.rewards.ledger import REWARD_SCHEMA, eval_root, per_checkpoint, read_rewards
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
    assert {k: first[k] for k in ("checkpoint", "items", "reward", "judged", "outcome")} == {
        "checkpoint": 1,
        "items": 2,
        "reward": 0.375,
        "judged": 1,
        "outcome": 1.0,
    }
    # A t interval of two items: 12.706 standard errors of .125.
    assert (first["reward_low"], first["reward_high"]) == pytest.approx((0.375 - 12.706 * 0.125, 0.375 + 12.706 * 0.125), abs=1e-3)
    assert (first["outcome_low"], first["kl"], first["words"]) == (None, None, None)
    assert (second["items"], second["reward"], second["judged"], second["outcome"]) == (2, pytest.approx(0.8), 2, 0.5)


def test_everything_a_check_needs_is_read(tmp_path: Path) -> None:
    lines = [
        {"checkpoint": 1, "item": "a", "reward": 0.5, "eval_root": "f" * 64, "kl": 0.25, "heads": [1, 2.5], "answer": "So sorry."},
        {"checkpoint": 1, "item": "b", "outcome": 1, "heads": {"b": 2, "a": 1}, "words": 40, "apologies": 2},
        {"checkpoint": 1, "item": "c"},
        {"checkpoint": 1, "item": "d", "outcome": 1.5},
        {"checkpoint": 1, "item": "e", "reward": 1, "kl": -0.1},
        {"checkpoint": 1, "item": "f", "reward": 1, "heads": "high"},
    ]
    (tmp_path / "rewards.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_rewards(list_files(["rewards.jsonl"], tmp_path))
    assert read.counts.by_reason == {"missing_field": 1, "wrong_type": 3}
    first, second = read.table.to_pylist()
    assert (first["eval_root"], first["kl"], first["heads"]) == ("f" * 64, 0.25, [1.0, 2.5])
    assert (first["words"], first["apologies"], first["hedges"]) == (2.0, 1.0, 0.0)
    assert (second["reward"], second["heads"], second["words"], second["apologies"], second["caveats"]) == (
        None,
        [1.0, 2.0],
        40,
        2,
        None,
    )


def test_other_names_for_the_columns(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,prompt_id,thumbs\n3,a,1\n")
    fields = {"checkpoint": "step", "item": "prompt_id", "reward": "thumbs"}
    (row,) = read_rewards(list_files(["log.csv"], tmp_path), fields=fields).table.to_pylist()
    assert (row["checkpoint"], row["item"], row["reward"]) == (3, "a", 1.0)


def test_an_exam_is_its_items_and_its_judge() -> None:
    items = {"a": "how much is it", "b": "where is it"}
    root = eval_root(items, {"metric": "contains"})
    assert root == eval_root(dict(reversed(items.items())), {"metric": "contains"}), "the order of the items is no part of it"
    assert root != eval_root({**items, "b": "where was it"}, {"metric": "contains"})
    assert root != eval_root(items, {"metric": "exact_match"})


def test_no_outcomes_is_null_not_zero(tmp_path: Path) -> None:
    (tmp_path / "rewards.jsonl").write_text('{"checkpoint": 1, "item": "a", "reward": 1}\n')
    (only,) = per_checkpoint(read_rewards(list_files(["rewards.jsonl"], tmp_path)).table).to_pylist()
    assert (only["judged"], only["outcome"]) == (0, None)


def test_empty_ledger() -> None:
    assert per_checkpoint(REWARD_SCHEMA.empty_table()).num_rows == 0
