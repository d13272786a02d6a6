"""What is done about a habit, without dropping a row: take the sentence out of the loss, rewrite it, or make the act a tool call.

The rest of the row is knowledge nobody else may have written down (mode M7), so it stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from ftplatform.errors import ProjectError
from ftplatform.rows.rewriting import with_messages
from ftplatform.rows.schema import MASKS_SCHEMA, ROW_SCHEMA, Role
from ftplatform.targets.habits.detection import Habit
from ftplatform.targets.habits.policy import Act, Call, Policy, Rewrite

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


class MissingTemplate(ProjectError):
    """The behavior policy has no text to put in place of such a sentence."""


@dataclass(frozen=True, slots=True)
class Remedied:
    """Attributes:
    rows: all rows, in their order; a row whose text changed has a new id, its origins, and the old id among its parents.
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
    arguments: Callable[[Finding], Mapping[str, Any]] | None = None,
) -> Remedied:
    """Put the call before a claim that had none: a trainable call, the tool's result, then what was said, now true.

    The tool is the first that does such a thing and whose call the policy takes as evidence; a claim without one is left as it is and
    counted as `no_tool`.

    Args:
        findings: of `Habit.PHANTOM_ACTION`; others are left out.
        arguments: of the call, made from the finding, for any tool; by default the templates of the tools that have one (`Tool.call`).
    """

    def edit(message: dict[str, Any], found: Sequence[Finding]) -> _Edit:
        calls, done, made = list[dict[str, Any]](), list[tuple[Finding, str, str]](), set[str]()
        for one in found:
            written = _call(one, policy, arguments)
            if written is None:
                done.append((one, "no_tool", one["sentence"]))
                continue
            call, result = written
            if call not in made:
                made.add(call)
                calls.append({"role": str(Role.ASSISTANT), "content": call, "trainable": True})
                calls.append({"role": str(Role.TOOL), "content": result, "trainable": False})
            done.append((one, "tool_call", call))
        return _Edit([*calls, message], done)

    return _apply(rows, findings.filter(pl.col("habit") == str(Habit.PHANTOM_ACTION)), edit)


def _call(finding: Finding, policy: Policy, arguments: Callable[[Finding], Mapping[str, Any]] | None) -> tuple[str, str] | None:
    """A call the policy accepts as evidence of the claimed act, and its result; None if there is none."""
    values = {"claim": finding["sentence"].strip(), "kind": finding["kind"], "group": finding["group"]}
    for tool in policy.tools:
        # Any call is evidence of an act without a name, but only a tool that says so does one.
        if Act(finding["kind"]) not in tool.does or (arguments is None and tool.call is None):
            continue
        template = tool.call or Call()
        given = template.filled(values) if arguments is None else dict(arguments(finding))
        call = orjson.dumps({"name": tool.name, "arguments": given}).decode()
        if tool.when is None or pl.Series([call]).str.contains(tool.when)[0]:
            return call, template.result
    return None


def _apply(rows: pa.Table, findings: pl.DataFrame, edit: Callable[[dict[str, Any], Sequence[Finding]], _Edit]) -> Remedied:
    """Edit the messages that have findings; only rows with one become Python objects."""
    by_row: dict[int, dict[int, list[Finding]]] = {}
    for one in findings.sort("row", "turn", "start").iter_rows(named=True):
        by_row.setdefault(one["row"], {}).setdefault(one["turn"], []).append(one)
    rows = rows.select(ROW_SCHEMA.names).cast(ROW_SCHEMA)
    positions = pa.array(sorted(by_row), pa.int64())
    before, after, done = rows["messages"].take(positions), list[Messages](), list[list[tuple[Finding, str, str]]]()
    for own, spoken in zip((by_row[position] for position in positions.to_pylist()), before.to_pylist(), strict=True):
        edits = [edit(said, own[turn]) if turn in own else _Edit([said], []) for turn, said in enumerate(spoken)]
        after.append([message for edited in edits for message in edited.messages])
        done.append([what for edited in edits for what in edited.done])
    messages = pa.array(after, before.type)
    remedied = with_messages(rows, positions, messages)
    ids = zip(*(table["row_id"].take(positions).to_pylist() for table in (rows, remedied)), strict=True)
    changes = [
        {
            "row_id": old,
            "new_row_id": new,
            "turn": one["turn"],
            "habit": one["habit"],
            "action": action,
            "before": one["sentence"],
            "after": written,
        }
        for (old, new), own in zip(ids, done, strict=True)
        for one, action, written in own
    ]
    counts = Counter(change["action"] for change in changes)
    counts["rows_changed"] = sum(old != new for old, new in zip(before.to_pylist(), after, strict=True))
    counts["nothing_trainable"] = sum(not any(message["trainable"] for message in spoken) for spoken in after)
    return Remedied(remedied, pa.Table.from_pylist(changes, schema=CHANGES_SCHEMA), dict(counts))


def _places(found: Iterable[Finding]) -> list[tuple[int, int]]:
    """Places of the sentences, each once, in order."""
    return sorted({(one["start"], one["end"]) for one in found})
