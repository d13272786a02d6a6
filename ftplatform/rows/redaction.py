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
from ftplatform.rows.placeholders import MASKED_KINDS, Names, joined, replaced
from ftplatform.rows.rewriting import with_texts
from ftplatform.rows.turns import turns

#: Raise when other things are taken out of the same rows, or otherwise.
REDACTION_VERSION = "1"

#: Finds what no pattern can (names, addresses): for each text its findings, in order. A neural recognizer, for example.
Recognizer = Callable[[Sequence[str]], Sequence[Sequence[Finding]]]

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

    def __init__(self, *, kinds: Iterable[PiiKind] = MASKED_KINDS, recognizer: Recognizer | None = None) -> None:
        """Args:
        kinds: what is taken out.
        recognizer: asked of every text besides the patterns, which win where both find something.
        """
        self.counts = RedactionCounts()
        self._kinds = frozenset(kinds)
        self._recognizer = recognizer
        self._spans: list[pa.Table] = []
        self._conversations: dict[str, Names] = {}

    def batches(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows without personal data; a changed row has the id of its new text.

        Only message contents are changed. Rows with the same `group` are one conversation, wherever they stand in the stream; a row
        without one is a conversation by itself.

        Args:
            rows: batches of `ROW_SCHEMA`.
        """
        return map(self.batch, rows)

    def spans(self) -> pa.Table:
        """What was taken out so far, table of `SPAN_SCHEMA`, in the order of the rows."""
        return pa.concat_tables([SPAN_SCHEMA.empty_table(), *self._spans])

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The next batch of the stream, as `batches` does it."""
        messages = batch.column("messages")
        lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
        flat = messages.flatten()
        self.counts.rows += batch.num_rows
        self.counts.texts += len(flat)
        found = self._found(flat.field("content")) if len(flat) else []
        if not found:
            return batch
        starts = np.cumsum(lengths) - lengths
        row_of = np.repeat(np.arange(batch.num_rows), lengths)
        groups, own = batch.column("group"), dict[int, Names]()
        written: list[str] = []
        taken: list[tuple[int, int, Finding, str]] = []
        for at, text, findings in found:
            row = int(row_of[at])
            group = groups[row].as_py()
            names = own.setdefault(row, Names()) if group is None else self._conversations.setdefault(group, Names())
            masked, marks = replaced(text, findings, names)
            written.append(masked)
            taken += [(row, at, finding, mark) for finding, mark in zip(findings, marks, strict=True)]
        places = [at for at, _, _ in found]
        # The row as it was is in no snapshot: it is no parent that anybody could look up. `spans` names it.
        after = with_texts(pa.Table.from_batches([batch]), places, pa.array(written, pa.string()), traced=False)
        self.counts.by_kind.update(str(finding.kind) for _, _, finding, _ in taken)
        self.counts.changed_rows += len({row for row, _, _, _ in taken})
        self.counts.changed_texts += len(found)
        rows, ats = pa.array([row for row, _, _, _ in taken]), pa.array([at for _, at, _, _ in taken])
        columns = [
            after["row_id"].take(rows),
            batch.column("row_id").take(rows),
            pc.subtract(ats, pa.array(starts).take(rows)),
            flat.field("role").take(ats),
            pa.array([str(finding.kind) for _, _, finding, _ in taken]),
            pa.array([finding.start for _, _, finding, _ in taken]),
            pa.array([finding.end for _, _, finding, _ in taken]),
            pa.array([mark for _, _, _, mark in taken]),
        ]
        self._spans.append(pa.table(columns, names=SPAN_SCHEMA.names).cast(SPAN_SCHEMA))
        return after.combine_chunks().to_batches()[0]

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
                findings = joined(findings, recognized[place], len(text))
            if wanted := [finding for finding in findings if finding.kind in self._kinds]:
                found.append((at, text, wanted))
        return found


def replayed(rows: pa.Table, spans: pa.Table) -> pa.Table:
    """`rows` with what the record says done to them, and nothing else: what masked rows are compared with.

    A row that was masked in several ways (its text stood in several conversations) comes out once for each.

    Args:
        rows: unmasked rows, table of `ROW_SCHEMA`.
        spans: table of `SPAN_SCHEMA`. Lines of other rows, or of places that a row does not have, do nothing.
    """
    ways = pl.DataFrame({"row_id": spans["original_row_id"], "masked": spans["row_id"]}).unique(maintain_order=True)
    order = pl.DataFrame({"row_id": rows["row_id"]}).with_row_index("at").join(ways, on="row_id", how="left", maintain_order="left")
    copies = rows.take(order["at"].to_arrow())
    said = turns(copies)
    begins = (
        pl.DataFrame({"row": said["row"], "turn": said["turn"]}).with_row_index("place").with_columns(pl.col("row").cast(pl.UInt32))
    )
    marks = pl.DataFrame({"masked": spans["row_id"], **{name: spans[name] for name in ("message", "start", "end", "placeholder")}})
    placed = order.with_row_index("row").drop_nulls("masked").join(marks, on="masked", how="inner")
    # Copies of a row in one conversation have one id and are on record once each.
    placed = placed.with_columns(turn=pl.col("message").cast(pl.Int64)).join(begins, on=["row", "turn"], how="inner")
    edits = placed.select("place", "start", "end", "placeholder").unique().sort("place", "start")
    texts: dict[int, str] = {}
    for place, own in edits.group_by("place", maintain_order=True):
        text, pieces, position = said["content"][place[0]].as_py(), [], 0
        for start, end, placeholder in own.select("start", "end", "placeholder").iter_rows():
            pieces += [text[position:start], placeholder]
            position = end
        texts[int(place[0])] = "".join([*pieces, text[position:]])
    return with_texts(copies, list(texts), pa.array(texts.values(), pa.string()), traced=False)


def held_ids(ids: pa.Array | pa.ChunkedArray, spans: pa.Table) -> pa.Array:
    """The ids under which masked rows are held, of rows read unmasked; other ids are the same. An id may stand for several rows.

    Args:
        ids: ids of rows as their files hold them.
        spans: table of `SPAN_SCHEMA`.
    """
    held = pl.DataFrame({"id": spans["original_row_id"], "held": spans["row_id"]}).unique(maintain_order=True)
    found = pl.DataFrame({"id": ids}).join(held, on="id", how="left", maintain_order="left")
    return found.select(pl.coalesce("held", "id")).to_series().to_arrow().cast(pa.string())
