"""What people said of samples they read: kept in the store, read by the checks that ask for it.

reviews/<asset>/<kind>/<sha256>.json
"""

from ftplatform.dedup.review import SignOff
from ftplatform.store import Store, records

_DEDUP = "dedup"


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


def _folder(asset: str, kind: str) -> str:
    return f"reviews/{asset}/{kind}"
