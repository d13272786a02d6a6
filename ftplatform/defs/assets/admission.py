"""What happens to rows between the files and the snapshot: withdrawn ones are left out, personal data is masked. Streamed."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.canonical import digest
from ftplatform.licensing.terms import SourceTerms
from ftplatform.rows.masking import mask_text
from ftplatform.rows.quarantine import QUARANTINE_SCHEMA
from ftplatform.rows.redaction import REDACTION_VERSION, SPAN_SCHEMA, Redaction
from ftplatform.store import Snapshot, SnapshotDraft

#: What was masked, beside the rows.
MASKED_FILE = "masked.parquet"


def masked_spans(snapshot: Snapshot) -> pa.Table:
    """What was masked in a snapshot's rows, table of `SPAN_SCHEMA`; empty where nothing was to be."""
    masked = any(entry.path == MASKED_FILE for entry in snapshot.files)
    return snapshot.read_table(MASKED_FILE) if masked else SPAN_SCHEMA.empty_table()


class Admission:
    """Rows as they enter the platform.

    Withdrawn are rows that upstream withdrew or somebody claims (license ledger); they are counted, their text is not kept.
    """

    def __init__(self, terms: SourceTerms | None, *, mask_personal_data: bool) -> None:
        self._withdrawn = terms.standing.rows if terms is not None and terms.standing is not None else ()
        self._redaction = Redaction() if mask_personal_data else None
        self._left_out = 0

    @property
    def config(self) -> dict[str, Any]:
        """Part of the recipe: other withdrawals or another masking, other rows. Nothing if there are none."""
        withdrawn = {"withdrawn": digest(list(self._withdrawn))} if self._withdrawn else {}
        return withdrawn | ({"mask_personal_data": REDACTION_VERSION} if self._redaction is not None else {})

    def admitted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that stay, as they stay."""
        ids = pa.array(self._withdrawn, pa.string())
        redaction = self._redaction or Redaction()
        for batch in batches:
            stays = batch if self._redaction is None else redaction.batch(batch)
            if self._withdrawn:
                # A withdrawal may have been recorded while rows were masked or while they were not: either id counts. And masking comes
                # first: a row that is gone must not change the numbers, and with them the ids, in the rest of its conversation.
                masked = redaction.batch(batch) if self._redaction is None else stays
                gone = pc.or_(*(pc.is_in(rows["row_id"], value_set=ids) for rows in (batch, masked)))
                stays = stays.filter(pc.invert(gone))
                self._left_out += batch.num_rows - stays.num_rows
            yield stays

    def quarantined(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What could not be read, `QUARANTINE_SCHEMA`. Its excerpts are for people, so they are masked as what people are shown."""
        place = QUARANTINE_SCHEMA.get_field_index("excerpt")
        for batch in batches:
            if self._redaction is not None:
                masked = pa.array(map(mask_text, batch["excerpt"].to_pylist()), pa.string())
                batch = batch.set_column(place, QUARANTINE_SCHEMA.field(place), masked)
            yield batch

    def record(self, draft: SnapshotDraft, counts: dict[str, Any]) -> dict[str, Any]:
        """Write down what was masked, in withdrawn rows too, and say what became of the rows read; call it when all are admitted.

        Args:
            counts: of the reading, `reading.counts_record`.
        """
        if self._withdrawn:
            counts = counts | {"kept": counts["kept"] - self._left_out, "withdrawn": self._left_out}
        if self._redaction is None:
            return {"counts": counts}
        draft.add_table(MASKED_FILE, self._redaction.spans(), SPAN_SCHEMA)
        return {"counts": counts, "masked": dict(sorted(self._redaction.counts.by_kind.items()))}
