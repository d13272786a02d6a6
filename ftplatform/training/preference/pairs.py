"""Preference rows: a prompt, the answer that was preferred and the one that was not; as a file, as a hash, as tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ftplatform.errors import TrainingError
from ftplatform.rows.schema import MESSAGE_TYPE, row_id
from ftplatform.training.batches import NO_LOSS, Example
from ftplatform.training.encode import MAX_LEFT_OUT_SHARE, EncodedRows, encode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: `prompt` ends with a user message; its `trainable` marks are not read.
PREFERENCE_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("prompt", pa.list_(MESSAGE_TYPE), nullable=False),
        pa.field("chosen", pa.string(), nullable=False),
        pa.field("rejected", pa.string(), nullable=False),
    ]
)
_SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class EncodedPairs:
    """Tokens of preference rows; `chosen[i]`, `rejected[i]` and `row_ids[i]` belong together, and the two share their prompt.

    Attributes:
        cut: ids of rows whose prompt lost its earliest messages, the same ones for both answers.
        left_out: (row id, reason) of rows that are not used.
    """

    chosen: list[Example]
    rejected: list[Example]
    row_ids: list[str]
    cut: list[str]
    left_out: list[tuple[str, str]]

    def sha256(self) -> str:
        """Hash of all tokens and labels in order."""
        state = hashlib.sha256()
        for examples in (self.chosen, self.rejected):
            state.update(EncodedRows(examples, self.row_ids, [], []).sha256().encode())
        return state.hexdigest()


def read_pairs(path: Path) -> pa.Table:
    """Preference rows of a Parquet file, in order.

    Raises:
        TrainingError: it cannot be read, has other columns or nulls, or a prompt does not end with a user message (row named).
    """
    try:
        rows = pq.read_table(path, columns=PREFERENCE_SCHEMA.names, page_checksum_verification=True).cast(PREFERENCE_SCHEMA)
        rows.validate(full=True)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read as preference rows: {error}",
            remedy=f"Give a Parquet file with the columns {', '.join(PREFERENCE_SCHEMA.names)}.",
        ) from error
    if holes := [name for name in PREFERENCE_SCHEMA.names if rows.column(name).null_count]:
        raise TrainingError(f"{path} has nulls in {', '.join(holes)}", remedy="Leave such rows out; a pair has two answers.")
    for row, prompt in zip(rows["row_id"].to_pylist(), rows["prompt"].to_pylist(), strict=True):
        if not prompt or prompt[-1]["role"] != "user":
            raise TrainingError(
                f"the prompt of row {row} in {path} does not end with a user message",
                remedy="Put the assistant's answers into chosen and rejected.",
            )
    return rows


def pairs_sha256(rows: pa.Table) -> str:
    """SHA-256 of the *sequence* of pairs: texts of prompt, chosen and rejected answer, in this order. Row ids do not enter."""
    state = hashlib.sha256()
    for chosen, rejected in zip(*(conversations(rows, side)["messages"].to_pylist() for side in _SIDES), strict=True):
        state.update(f"{row_id(chosen)} {row_id(rejected)}\n".encode())
    return state.hexdigest()


def read_named_pairs(path: str, expected: str) -> pa.Table:
    """The rows in `path` if their sequence hashes to `expected`; raises `TrainingError` if not, or if they cannot be read."""
    rows = read_pairs(Path(path))
    if pairs_sha256(rows) != expected:
        raise TrainingError(
            f"the preference rows in {path} are not those of the manifest, or stand in another order",
            remedy="Restore the file, or prepare a new manifest.",
        )
    return rows


def conversations(rows: pa.Table, side: str) -> pa.Table:
    """One side of each pair as a training row: the prompt, then the answer, which alone is trained."""
    messages = [
        [*({**m, "trainable": False} for m in prompt), {"role": "assistant", "content": answer, "trainable": True}]
        for prompt, answer in zip(rows["prompt"].to_pylist(), rows[side].to_pylist(), strict=True)
    ]
    return pa.table({"row_id": rows["row_id"], "messages": pa.array(messages, pa.list_(MESSAGE_TYPE))})


def encode_pairs(rows: pa.Table, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> EncodedPairs:
    """Tokens of both sides of every pair, as `encode_rows` makes them.

    A pair is left out, and listed, if either side is unusable, if both answers are the same text, or if a long prompt had to be cut
    to fit one answer and not the other: two answers to different prompts are no comparison.

    Raises:
        TrainingError: as `encode_rows`; or more than `MAX_LEFT_OUT_SHARE` of the pairs unusable.
    """
    ids: list[str] = rows["row_id"].to_pylist()
    if len(set(ids)) < len(ids):
        raise TrainingError("two preference rows have the same row_id", remedy="Give every pair an id of its own.")
    sides = [encode_rows(conversations(rows, side), tokenizer, max_tokens=max_tokens) for side in _SIDES]
    reasons = {row: f"{side}: {why}" for side, encoded in zip(_SIDES, sides, strict=True) for row, why in encoded.left_out}
    chosen, rejected = (dict(zip(encoded.row_ids, encoded.examples, strict=True)) for encoded in sides)
    same = set(rows.filter(pc.field("chosen") == pc.field("rejected"))["row_id"].to_pylist())
    for row in (row for row in ids if row not in reasons):
        if row in same:
            reasons[row] = "both answers are the same"
        elif not np.array_equal(_prompt(chosen[row]), _prompt(rejected[row])):
            reasons[row] = f"only one of its answers fits {max_tokens} tokens without a shorter prompt"
    if len(reasons) > MAX_LEFT_OUT_SHARE * len(ids):
        first = "; ".join(f"row {row[:12]}: {why}" for row, why in list(reasons.items())[:3])
        raise TrainingError(
            f"{len(reasons)} of {len(ids)} preference rows cannot be used ({first})",
            remedy="Repair these rows, raise max_tokens, or filter them in the dataset, where the slice checks see it.",
        )
    used = [row for row in ids if row not in reasons]
    cut = set(sides[0].cut)
    return EncodedPairs(
        chosen=[chosen[row] for row in used],
        rejected=[rejected[row] for row in used],
        row_ids=used,
        cut=[row for row in used if row in cut],
        left_out=[(row, reasons[row]) for row in ids if row in reasons],
    )


def _prompt(example: Example) -> np.ndarray:
    return example.tokens[: int(np.argmax(example.labels != NO_LOSS))]
