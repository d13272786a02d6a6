"""Reading a reward ledger, its means per checkpoint, and which checkpoint is the anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.rewards.style import STYLE_COLUMNS, count_style
from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.record_tables import RecordTable, number, read_record_table, text, whole_number
from ftplatform.rows.sources import SourceFile

#: One line per checkpoint and item, with a reward (live traffic has thumbs and no exam), an outcome (an exam has no thumbs), or both.
REWARD_SCHEMA = pa.schema(
    [
        pa.field("checkpoint", pa.int64(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        #: What the loop optimizes, in the proxy's own unit.
        pa.field("reward", pa.float64()),
        #: What a person found, or a frozen exam made of what people found; in [0, 1].
        pa.field("outcome", pa.float64()),
        pa.field("rater", pa.string()),
        #: `eval_root` of the items and the judge behind `outcome`.
        pa.field("eval_root", pa.string()),
        #: KL(policy || reference) in nats, of the answer or of the whole checkpoint.
        pa.field("kl", pa.float64()),
        #: The reward by each head of an ensemble, always in the same order.
        pa.field("heads", pa.list_(pa.float64())),
        pa.field("answer", pa.string()),
        *(pa.field(name, pa.float64()) for name in STYLE_COLUMNS),
    ]
)


def read_rewards(files: Sequence[SourceFile], *, source: str = "rewards", fields: Mapping[str, str] | None = None) -> RecordTable:
    """Records of `REWARD_SCHEMA`; malformed ones are quarantined. Style is counted in `answer` where the file does not give it.

    Args:
        source: name in quarantine entries.
        fields: column name to the file's key, where they differ.

    Raises:
        InputDataError: a file as a whole is unusable.
    """
    columns = {
        "checkpoint": whole_number,
        "item": text,
        "reward": number,
        "outcome": _share,
        "rater": text,
        "eval_root": text,
        "kl": _not_negative,
        "heads": _heads,
        "answer": text,
        **dict.fromkeys(STYLE_COLUMNS, _not_negative),
    }
    read = read_record_table(files, REWARD_SCHEMA, columns, source=source, fields=fields, check=_scored)
    return RecordTable(count_style(read.table), read.quarantine, read.counts)


def eval_root(items: Mapping[str, Any], judge: Any) -> str:
    """Digest of what produced an outcome: the items (id to content, JSON-able) and the judge (its name, version, settings).

    Outcomes under different roots are measurements of different things, and no trend leads from one to the other.
    """
    return digest({"items": dict(items), "judge": judge})


def anchor_of(rewards: pa.Table, approved: Sequence[int]) -> int | None:
    """The checkpoint others are compared with: the first that people approved, or the first of the ledger; None if it is empty.

    Raises:
        InputDataError: the ledger does not hold the approved one.
    """
    known = np.unique(rewards["checkpoint"].to_numpy()).tolist()
    if not known:
        return None
    anchor = approved[0] if approved else known[0]
    if anchor not in known:
        listed = ", ".join(map(str, known[:20]))
        raise InputDataError(
            f"the approved checkpoint {anchor} is not in the reward ledger, which holds {listed}.",
            remedy="Add its scores to the ledger, or correct `approved`.",
        )
    return anchor


def latest_checkpoint(rewards: pa.Table) -> int | None:
    """The candidate: the highest checkpoint of the ledger; None if it is empty."""
    return int(rewards["checkpoint"].to_numpy().max()) if rewards.num_rows else None


def last_approved(rewards: pa.Table, approved: Sequence[int]) -> int | None:
    """Where to roll back to: the latest approved checkpoint before the candidate, else the anchor; None in an empty ledger."""
    anchor, candidate = anchor_of(rewards, approved), latest_checkpoint(rewards)
    if anchor is None or candidate is None:
        return None
    return max((c for c in approved if anchor <= c < candidate), default=anchor)


def per_checkpoint(rewards: pa.Table, confidence: float = 0.95) -> pa.Table:
    """The course of a loop, one row per checkpoint in order.

    `items` (with a reward), `reward` (their mean, with `reward_low` and `reward_high`), `judged` (items with an outcome), `outcome`
    likewise, mean `kl`, and the mean of every style column; null without any. The intervals are t intervals over items.
    """
    by_item = (
        pl.DataFrame(pl.from_arrow(rewards))
        .group_by("checkpoint", "item")
        .agg(pl.col("reward", "outcome", "kl", *STYLE_COLUMNS).mean())
    )
    frame = (
        by_item.group_by("checkpoint")
        .agg(
            items=pl.col("reward").count().cast(pl.Int64),
            reward=pl.col("reward").mean(),
            reward_error=pl.col("reward").std() / pl.col("reward").count().sqrt(),
            judged=pl.col("outcome").count().cast(pl.Int64),
            outcome=pl.col("outcome").mean(),
            outcome_error=pl.col("outcome").std() / pl.col("outcome").count().sqrt(),
            kl=pl.col("kl").mean(),
            **{name: pl.col(name).mean() for name in STYLE_COLUMNS},
        )
        .sort("checkpoint")
    )
    columns = ["checkpoint"]
    for name, count in (("reward", "items"), ("outcome", "judged")):
        half = pl.Series(_t_factor(frame[count].to_numpy(), confidence)) * frame[f"{name}_error"]
        frame = frame.with_columns((frame[name] - half).alias(f"{name}_low"), (frame[name] + half).alias(f"{name}_high"))
        columns += [count, name, f"{name}_low", f"{name}_high"]
    return frame.select(*columns, "kl", *STYLE_COLUMNS).to_arrow()


def _t_factor(n: np.ndarray, confidence: float) -> np.ndarray:
    from scipy.stats import t

    return t.ppf((1 + confidence) / 2, np.maximum(n - 1, 1))


def _scored(record: dict[str, Any]) -> None:
    if record["reward"] is None and record["outcome"] is None:
        raise Malformed(Reason.MISSING_FIELD, "neither reward nor outcome is there")


def _share(key: str, value: Any) -> float:
    parsed = number(key, value)
    if not 0 <= parsed <= 1:
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be in [0, 1], not {parsed:g}")
    return parsed


def _not_negative(key: str, value: Any) -> float:
    parsed = number(key, value)
    if parsed < 0:
        raise Malformed(Reason.WRONG_TYPE, f"{key} must not be negative, and is {parsed:g}")
    return parsed


def _heads(key: str, value: Any) -> list[float]:
    """A list of numbers, or an object of named ones, taken in the order of the names."""
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    if not isinstance(value, list):
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be a list of numbers or an object of them")
    return [number(key, head) for head in value]


__all__ = ["REWARD_SCHEMA", "anchor_of", "eval_root", "last_approved", "latest_checkpoint", "per_checkpoint", "read_rewards"]
