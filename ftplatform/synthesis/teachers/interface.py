"""What every teacher is, and what its rows carry: who wrote them, on what terms, from which seeds, with which prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import orjson
import pyarrow as pa

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface, row_id


class TeacherError(InputDataError):
    """A teacher cannot write what it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who wrote a row.

    Attributes:
        id: name of the teacher; rows carry ``teacher:<id>`` among their parents.
        terms: SPDX expression or name of the terms of its outputs; None is unknown, which no license check lets pass.
        kind: grammar, model, endpoint, ...
        prompt: SHA-256 of prompt or grammar and of every setting that decides what is written.
    """

    id: str
    terms: str | None
    kind: str
    prompt: str

    @property
    def parent(self) -> str:
        """The name in `parents` and in the license ledger."""
        return f"teacher:{self.id}"


class Unusable(StrEnum):
    """Why something a teacher said is no row. The codes are stable: quarantines are counted by them."""

    EMPTY = "empty_content"
    TOO_LONG = "too_long"
    COPIED = "copied_example"
    REPEATED = "repeated"
    UNANSWERED = "no_target"


@dataclass(frozen=True, slots=True)
class Refused:
    """A text that is no row: why, and the text as it was said."""

    reason: Unusable
    text: str


class Teacher(Protocol):
    """Writes rows."""

    @property
    def identity(self) -> Identity:
        """Who it is."""
        ...

    def write(self, seeds: pa.Table, n: int, seed: int, *, refused: list[Refused] | None = None) -> pa.Table:
        """At most `n` rows of `ROW_SCHEMA`, fewer where the teacher said nothing usable; equal arguments give equal rows.

        Args:
            seeds: rows whose user turns the teacher may show itself, `ROW_SCHEMA`; an empty table for teachers that need none.
            n: rows wanted.
            seed: of everything that is drawn.
            refused: receives what was said and is no row.

        Raises:
            TeacherError: if it needs seeds and got none, or nothing usable was said.
        """
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """One row as a teacher wrote it: user turn, answer (None if only inputs were asked for), positions of its seeds."""

    user: str
    assistant: str | None
    seeds: Sequence[int] = ()


def rows_of(identity: Identity, written: Sequence[Written], seeds: pa.Table, seed: int) -> pa.Table:
    """Rows of what was written.

    The parents of a row are its teacher, the sources its seeds came from and the seed rows themselves, so that a withdrawn source or
    row leads to every row that was written after it. No time is recorded: equal arguments give equal bytes.
    """
    ids, sources = seeds["row_id"].to_pylist(), [set(origins) for origins in seeds["origins"].to_pylist()]
    meta = {"teacher": identity.id, "terms": identity.terms, "kind": identity.kind, "prompt": identity.prompt, "seed": seed}
    shared = orjson.dumps(meta, option=orjson.OPT_SORT_KEYS).decode()
    columns: dict[str, list[Any]] = {"messages": [], "row_id": [], "parents": []}
    for row in written:
        said = [(Role.USER, row.user)] + ([] if row.assistant is None else [(Role.ASSISTANT, row.assistant)])
        messages = [{"role": str(role), "content": text, "trainable": role is Role.ASSISTANT} for role, text in said]
        origins = sorted(set().union(*(sources[i] for i in row.seeds)))
        columns["messages"].append(messages)
        columns["row_id"].append(row_id(messages))
        columns["parents"].append([identity.parent, *origins, *(ids[i] for i in row.seeds)])
    n = len(written)
    constant: Mapping[str, list[Any]] = {
        "source": [identity.parent] * n,
        "origins": [[identity.parent]] * n,
        "slices": [[]] * n,
        "surface": [str(Surface.SYNTHETIC)] * n,
        "meta": [shared] * n,
        **{name: [None] * n for name in ("author", "group", "created_at", "first_seen_at")},
    }
    return pa.table({name: columns.get(name) or constant.get(name, []) for name in ROW_SCHEMA.names}, schema=ROW_SCHEMA)
