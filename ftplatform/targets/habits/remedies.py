"""What is done about a habit, without dropping a row: take the sentence out of the loss, rewrite it, or make the act a tool call.

The rest of the row is knowledge nobody else may have written down (mode M7), so it stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from ftplatform.errors import ProjectError
from ftplatform.rows.schema import MASKS_SCHEMA, ROW_SCHEMA, Role, row_id
from ftplatform.targets.habits.detection import Habit
from ftplatform.targets.habits.policy import Act, Policy, Rewrite

Messages = list[dict[str, Any]]
Finding = Mapping[str, Any]

CHANGES_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("new_row_id", pa.string(), nullable=False),
        pa.field("turn", pa.int64(), nullable=False),
        pa.field("habit", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("before", pa.string(), nullable=False),
        pa.field("after", pa.string(), nullable=False),
    ]
)

_REWRITES = {Habit.COMMITMENT: Rewrite.COMMITMENT, Habit.PHANTOM_ACTION: Rewrite.PHANTOM_ACTION, Habit.APOLOGY: Rewrite.APOLOGY}
_TOOL_RESULT = '{"status":"ok"}'


class MissingTemplate(ProjectError):
    """The behavior policy has no text to put in place of such a sentence."""


@dataclass(frozen=True, slots=True)
class Remedied:
    """Attributes:
    rows: all rows, in their order; a row whose text changed has a new id, its origins, and the old id in `meta.remedied_from`.
    changes: what was done to each sentence (`CHANGES_SCHEMA`); texts are not masked, it is data and no evidence.
    counts: sentences by action; `rows_changed`; `nothing_trainable` (rows in which nothing is left to learn from).
    """

    rows: pa.Table
    changes: pa.Table
    counts: Mapping[str, int]


@dataclass(slots=True)
class _Edit:
    """What happens to one message: the messages in its place, and what was done to each sentence."""

    messages: Messages
    done: list[tuple[Finding, str, str]]


def masks(findings: pl.DataFrame) -> pa.Table:
    """The sentences as parts that are read and not learned: table of `MASKS_SCHEMA`, each part once.

    Rows, texts and ids stay as they are. A row that says nothing else teaches nothing then; rewrite such a one.

    Args:
        findings: of a scan (`detection.FINDINGS_SCHEMA`).
    """
    parts = findings.select(MASKS_SCHEMA.names).unique(maintain_order=True)
    return parts.to_arrow().cast(MASKS_SCHEMA)


def rewrite(rows: pa.Table, findings: pl.DataFrame, policy: Policy) -> Remedied:
    """Put the policy's text in place of the sentences, once for each kind in a message.

    An apology without a template is taken out where something else is said; where nothing else is, the message leaves the loss.

    Raises:
        MissingTemplate: the policy has no text for one of the habits.
    """
    for habit in findings["habit"].unique().to_list():
        which = _REWRITES.get(Habit(habit))
        if which is not Rewrite.APOLOGY and (which is None or policy.rewrite(which) is None):
            raise MissingTemplate(
                f"Behavior policy {policy.name} has no text in place of a sentence of the kind {habit!r}.",
                remedy=f"Give one under `rewrites`{'' if which is None else f' as {str(which)!r}'}, or mask the sentences.",
            )

    def edit(message: dict[str, Any], found: Sequence[Finding]) -> _Edit:
        text, used, done = message["content"], set[str](), []
        # Backwards, so that places stay what they are; the first of a kind is the last that is met and gets the text.
        firsts = {one["habit"]: one["start"] for one in reversed(found)}
        for start, end in reversed(_places(found)):
            here = [one for one in found if start <= one["start"] < end]
            parts = []
            for one in here:
                written = policy.rewrite(_REWRITES[Habit(one["habit"])]) or ""
                first = firsts[one["habit"]] == one["start"] and written not in used
                if first and written:
                    parts.append(written)
                    used.add(written)
                done.append((one, "rewritten" if first and written else "removed", written if first else ""))
            text = text[:start] + " ".join(parts) + text[end:]
        text = re.sub(r"[ \t]{2,}", " ", text).strip()
        kept = {**message, "content": text} if text else {**message, "trainable": False}
        return _Edit([kept], done[::-1])

    return _apply(rows, findings, edit)


def to_tool_call(
    rows: pa.Table,
    findings: pl.DataFrame,
    policy: Policy,
    arguments: Callable[[Finding], Mapping[str, Any]] = lambda _finding: {},
    result: str = _TOOL_RESULT,
) -> Remedied:
    """Put the call before a claim that had none: a trainable call, the tool's result, then what was said, now true.

    The call is one the policy takes as evidence of the act; a claim without such a tool is left as it is and counted as `no_tool`.

    Args:
        findings: of `Habit.PHANTOM_ACTION`; others are left out.
        arguments: of the call, made from the finding.
        result: what the tool answers.
    """

    def edit(message: dict[str, Any], found: Sequence[Finding]) -> _Edit:
        calls, done, made = list[dict[str, Any]](), list[tuple[Finding, str, str]](), set[str]()
        for one in found:
            call = _call(one, policy, arguments(one))
            if call is None:
                done.append((one, "no_tool", one["sentence"]))
                continue
            if call not in made:
                made.add(call)
                calls.append({"role": str(Role.ASSISTANT), "content": call, "trainable": True})
                calls.append({"role": str(Role.TOOL), "content": result, "trainable": False})
            done.append((one, "tool_call", call))
        return _Edit([*calls, message], done)

    return _apply(rows, findings.filter(pl.col("habit") == str(Habit.PHANTOM_ACTION)), edit)


def _call(finding: Finding, policy: Policy, arguments: Mapping[str, Any]) -> str | None:
    """A call the policy accepts as evidence of the claimed act, or None."""
    for tool in policy.tools:
        if Act(finding["kind"]) in tool.does or finding["kind"] == Act.OTHER:
            call = orjson.dumps({"name": tool.name, "arguments": dict(arguments)}).decode()
            if tool.when is None or pl.Series([call]).str.contains(tool.when)[0]:
                return call
    return None


def _apply(rows: pa.Table, findings: pl.DataFrame, edit: Callable[[dict[str, Any], Sequence[Finding]], _Edit]) -> Remedied:
    """Edit the messages that have findings; only rows with one become Python objects."""
    by_row: dict[int, dict[int, list[Finding]]] = {}
    for one in findings.sort("row", "turn", "start").iter_rows(named=True):
        by_row.setdefault(one["row"], {}).setdefault(one["turn"], []).append(one)
    positions = sorted(by_row)
    changed, changes, counts = [], [], Counter[str]()
    for position, row in zip(positions, rows.take(pa.array(positions, pa.int64())).to_pylist(), strict=True):
        messages: Messages = []
        done: list[tuple[Finding, str, str]] = []
        for turn, message in enumerate(row["messages"]):
            edited = edit(message, by_row[position][turn]) if turn in by_row[position] else _Edit([message], [])
            messages += edited.messages
            done += edited.done
        old, new = row["row_id"], row_id(messages)
        if new != old:
            meta = orjson.loads(row["meta"])
            row["meta"] = orjson.dumps({**meta, "remedied_from": [*meta.get("remedied_from", []), old]}).decode()
        changed.append({**row, "messages": messages, "row_id": new})
        counts.update(action for _, action, _ in done)
        counts["rows_changed"] += new != old or messages != row["messages"]
        counts["nothing_trainable"] += not any(message["trainable"] for message in messages)
        changes += [
            {
                "row_id": old,
                "new_row_id": new,
                "turn": one["turn"],
                "habit": one["habit"],
                "action": action,
                "before": one["sentence"],
                "after": after,
            }
            for one, action, after in done
        ]
    return Remedied(_replaced(rows, positions, changed), pa.Table.from_pylist(changes, schema=CHANGES_SCHEMA), dict(counts))


def _replaced(rows: pa.Table, positions: Sequence[int], changed: Sequence[Mapping[str, Any]]) -> pa.Table:
    if not positions:
        return rows
    new = pa.Table.from_pylist([dict(row) for row in changed], schema=ROW_SCHEMA)
    source = np.arange(rows.num_rows)
    source[np.asarray(positions)] = rows.num_rows + np.arange(len(positions))
    return pa.concat_tables([rows.select(ROW_SCHEMA.names).cast(ROW_SCHEMA), new]).take(pa.array(source))


def _places(found: Iterable[Finding]) -> list[tuple[int, int]]:
    """Places of the sentences, each once, in order."""
    return sorted({(one["start"], one["end"]) for one in found})
