"""What people said of samples they read: kept in the store, read by the checks that ask for it.

reviews/<asset>/<kind>/<sha256>.json
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pyarrow as pa

from ftplatform.contamination.paraphrase.reviews import REVIEW_SCHEMA
from ftplatform.dedup.review import SignOff
from ftplatform.errors import CorruptArtifact
from ftplatform.store import Store, records

_DEDUP, _PARAPHRASE = "dedup", "paraphrase"


def record_signoff(store: Store, asset: str, signed: SignOff) -> str:
    """Keep the reading of an asset's removal diff; returns the SHA-256 of the record."""
    return records.create(store.backend, _folder(asset, _DEDUP), signed.to_record(), f"Sign-off of {asset}")


def signoffs(store: Store, asset: str) -> list[SignOff]:
    """All readings of removal diffs of the asset, oldest first.

    Raises:
        CorruptArtifact: if a record is damaged: then nobody knows what was read.
    """
    found = records.read_folder(store.backend, _folder(asset, _DEDUP)).values()
    return sorted((SignOff.from_record(record) for record in found), key=lambda signed: signed.signed_at)


def record_paraphrase_verdicts(store: Store, asset: str, verdicts: Iterable[Mapping[str, str]], *, by: str) -> str:
    """Keep what a person said of suspected pairs of an asset; returns the SHA-256 of the record.

    Args:
        verdicts: `eval_row_id`, `train_row_id` and `verdict` ("paraphrase" or "different") of each pair.
    """
    pairs = [{key: verdict[key] for key in ("eval_row_id", "train_row_id", "verdict")} for verdict in verdicts]
    document = {"version": 1, "by": by, "at": records.time_to_text(datetime.now(UTC)), "pairs": pairs}
    return records.create(store.backend, _folder(asset, _PARAPHRASE), document, f"Verdicts on {asset}")


def paraphrase_verdicts(store: Store, asset: str) -> pa.Table:
    """All verdicts on pairs of the asset, table of `REVIEW_SCHEMA`.

    Raises:
        CorruptArtifact: if a record is damaged: then nobody knows what was cleared.
    """
    rows = []
    for digest, document in records.read_folder(store.backend, _folder(asset, _PARAPHRASE)).items():
        try:
            at = records.text_to_time(document["at"])
            rows += [{**pair, "by": document["by"], "at": at} for pair in document["pairs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptArtifact(f"The record {digest} of {asset} holds no verdicts: {error}.", remedy="Restore it.") from error
    return pa.Table.from_pylist(rows, schema=REVIEW_SCHEMA)


def _folder(asset: str, kind: str) -> str:
    return f"reviews/{asset}/{kind}"
