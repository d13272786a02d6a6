"""Redaction: personal data taken out of rows, as a transform that says what it took and where.

A placeholder names the kind and numbers the values of a conversation in the order they appear: the model still sees that the customer
gave the same address twice and a second number, and nobody sees which. Numbers say nothing about the value, as a hash of it would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.personal_data import Finding, PiiKind, find_pii, may_hold_pii
from ftplatform.rows.schema import MESSAGE_TYPE, ROW_SCHEMA, row_id

#: Finds what no pattern can (names, addresses): for each text its findings, in order. A neural recognizer, for example.
Recognizer = Callable[[Sequence[str]], Sequence[Sequence[Finding]]]

#: What is taken out by default. A long number by itself is left: in support it is an order, and a model must learn to use it.
REDACTED_KINDS = frozenset(PiiKind) - {PiiKind.NUMBER}

#: One line per thing taken out. Offsets are code points of the original text, which is not kept.
SPAN_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("original_row_id", pa.string(), nullable=False),
        pa.field("message", pa.int32(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("placeholder", pa.string(), nullable=False),
    ]
)


@dataclass(slots=True)
class RedactionCounts:
    """What a redaction did so far: rows and texts looked at and changed, and things taken out by kind."""

    rows: int = 0
    changed_rows: int = 0
    texts: int = 0
    changed_texts: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)


class Redaction:
    """Takes personal data out of a stream of rows.

    Memory grows with what is found (one line per span, one number per distinct value of a conversation), not with the rows.

    Attributes:
        counts: what was done so far.
    """

    def __init__(self, *, kinds: Iterable[PiiKind] = REDACTED_KINDS, recognizer: Recognizer | None = None) -> None:
        """Args:
        kinds: what is taken out.
        recognizer: asked of every text besides the patterns, which win where both find something.
        """
        self.counts = RedactionCounts()
        self._kinds = frozenset(kinds)
        self._recognizer = recognizer
        self._spans: list[pa.RecordBatch] = []
        self._conversations: dict[str, _Placeholders] = {}

    def batches(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows without personal data; a changed row has the id of its new text.

        Only message contents are changed. Rows with the same `group` are one conversation, wherever they stand in the stream; a row
        without one is a conversation by itself.

        Args:
            rows: batches of `ROW_SCHEMA`.
        """
        for batch in rows:
            yield self._redacted(batch)

    def spans(self) -> pa.Table:
        """What was taken out so far, table of `SPAN_SCHEMA`, in the order of the rows."""
        return pa.Table.from_batches(self._spans, schema=SPAN_SCHEMA)

    def _redacted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        messages = batch.column("messages")
        lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
        flat = messages.flatten()
        self.counts.rows += batch.num_rows
        self.counts.texts += len(flat)
        found = self._found(flat.field("content")) if len(flat) else []
        if not found:
            return batch
        starts = np.concatenate(([0], np.cumsum(lengths)))
        row_of = np.repeat(np.arange(batch.num_rows), lengths)
        roles, groups = flat.field("role"), batch.column("group")
        written: list[str] = []
        taken: dict[int, list[tuple[int, Finding, str]]] = {}
        own: dict[int, _Placeholders] = {}
        for at, text, findings in found:
            row = int(row_of[at])
            group = groups[row].as_py()
            names = (
                own.setdefault(row, _Placeholders()) if group is None else self._conversations.setdefault(group, _Placeholders())
            )
            replaced, marks = _replaced(text, findings, names)
            written.append(replaced)
            taken.setdefault(row, []).extend((at, finding, mark) for finding, mark in zip(findings, marks, strict=True))
        changed_texts = np.zeros(len(flat), dtype=bool)
        changed_texts[[at for at, _, _ in found]] = True
        content = pc.replace_with_mask(flat.field("content"), pa.array(changed_texts), pa.array(written, pa.string()))
        rebuilt = pa.StructArray.from_arrays([roles, content, flat.field("trainable")], fields=list(MESSAGE_TYPE))
        changed = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), rebuilt).cast(ROW_SCHEMA.field("messages").type)
        ids = batch.column("row_id").to_pylist()
        lines = []
        for row, spans in taken.items():
            original, ids[row] = ids[row], row_id(changed[row].as_py())
            for at, finding, mark in spans:
                self.counts.by_kind[str(finding.kind)] += 1
                place = (ids[row], original, at - int(starts[row]), roles[at].as_py())
                lines.append((*place, str(finding.kind), finding.start, finding.end, mark))
        self.counts.changed_rows += len(taken)
        self.counts.changed_texts += len(found)
        columns = [pa.array(values, each.type) for values, each in zip(zip(*lines, strict=True), SPAN_SCHEMA, strict=True)]
        self._spans.append(pa.RecordBatch.from_arrays(columns, schema=SPAN_SCHEMA))
        new = {"row_id": pa.array(ids, pa.string()), "messages": changed}
        return pa.RecordBatch.from_arrays([new.get(name, batch.column(name)) for name in batch.schema.names], schema=batch.schema)

    def _found(self, texts: pa.Array) -> list[tuple[int, str, list[Finding]]]:
        """Position of each text in which something is to be taken out, the text, and what."""
        worth = pl.DataFrame({"text": texts}).select(may_hold_pii(pl.col("text")).fill_null(False)).to_series().to_numpy()
        looked_at = np.flatnonzero(worth) if self._recognizer is None else np.arange(len(texts))
        said = texts.take(pa.array(looked_at)).to_pylist()
        recognized = None if self._recognizer is None else self._recognizer(said)
        if recognized is not None and len(recognized) != len(said):
            raise ValueError(f"the recognizer answered for {len(recognized)} of {len(said)} texts")
        found = []
        for place, (at, text) in enumerate(zip(looked_at.tolist(), said, strict=True)):
            findings = find_pii(text) if worth[at] else []
            if recognized is not None:
                findings = _joined(findings, recognized[place], len(text))
            if wanted := [finding for finding in findings if finding.kind in self._kinds]:
                found.append((at, text, wanted))
        return found


class _Placeholders:
    """Names of the values of one conversation."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[PiiKind, dict[str, int]] = {}

    def of(self, kind: PiiKind, value: str) -> str:
        values = self._known.setdefault(kind, {})
        return f"[{kind}_{values.setdefault(_same(kind, value), len(values) + 1)}]"


def _same(kind: PiiKind, value: str) -> str:
    """What two ways of writing one value have in common."""
    folded = value.casefold()
    return folded if kind in (PiiKind.EMAIL, PiiKind.SECRET) else "".join(filter(str.isalnum, folded))


def _replaced(text: str, findings: Sequence[Finding], names: _Placeholders) -> tuple[str, list[str]]:
    pieces, marks, position = [], [], 0
    for finding in findings:
        marks.append(names.of(finding.kind, text[finding.start : finding.end]))
        pieces += [text[position : finding.start], marks[-1]]
        position = finding.end
    return "".join([*pieces, text[position:]]), marks


def _joined(patterns: list[Finding], recognized: Sequence[Finding], length: int) -> list[Finding]:
    """Findings of both, in order; what a pattern found is not found again."""
    free = [
        r for r in recognized if 0 <= r.start < r.end <= length and not any(r.start < p.end and p.start < r.end for p in patterns)
    ]
    joined: list[Finding] = []
    for finding in sorted((*patterns, *free), key=lambda f: (f.start, -f.end)):
        if not joined or finding.start >= joined[-1].end:
            joined.append(finding)
    return joined
