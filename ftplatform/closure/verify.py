"""Is a closure what it claims to be? Everything that can be told without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftplatform.closure.complete import closure_complete, store_resolver
from ftplatform.closure.contents import TensorsDigest, contradictions
from ftplatform.closure.diff import Change, diff
from ftplatform.closure.finding import Found, stored_document
from ftplatform.errors import InputDataError, StoreError, StoreUnavailable
from ftplatform.store import Store
from ftplatform.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify_closure` found.

    Attributes:
        complete: the verdict of `closure_complete`, under the name it is known by.
        edited: fields that differ from what the closure said when it was given that name.
        contradicted: fields in which the closure and the store disagree; `before` is what the store holds.
        unread: why the contents could not be compared, if so.
    """

    complete: Verdict
    edited: tuple[Change, ...]
    contradicted: tuple[Change, ...]
    unread: str | None = None

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return self.complete.passed and not self.edited and not self.contradicted and self.unread is None

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "intact": self.intact,
            "complete": {key: value for key, value in self.complete.to_record().items() if key != "plot"},
            "edited": [_change(change) for change in self.edited],
            "contradicted": [_change(change) for change in self.contradicted],
            "unread": self.unread,
        }


def verify_closure(
    found: Found, store: Store, *, name: str | None = None, tensors_digest: TensorsDigest | None = None
) -> Verification:
    """Hash everything again, lint, compare with the name and with what the store holds.

    Args:
        found: the closure. A file is verified against the adapter whose closure it is, or whose current closure it was edited from.
        name: the hash the closure is known by; that of its snapshot by default.
        tensors_digest: see `contents.contradictions`.

    Raises:
        InputDataError: the store has nothing to verify a file against.
        StoreUnavailable: the store cannot be asked.
    """
    adapter = found.snapshot
    if adapter is None:
        asset = str(found.manifest.get("asset"))
        if store.head(asset) is None:
            raise InputDataError(
                f"{found.origin} names {asset}, which is not in {store.url}.", remedy="Open the store it came from."
            )
        adapter = store.current(asset)
    known = name or str(adapter.facts.get("closure"))
    original = stored_document(store, known)
    edited = diff(original, found.manifest) if original is not None and known != found.digest else []
    try:
        contradicted, unread = contradictions(found.manifest, adapter, store, tensors_digest=tensors_digest), None
    except StoreUnavailable:
        raise
    except StoreError as error:  # `complete` says which bytes are gone
        contradicted, unread = [], str(error)
    complete = closure_complete(found.manifest, store_resolver(store, adapter.digest), name=known)
    return Verification(complete, tuple(edited), tuple(contradicted), unread)


def _change(change: Change) -> Mapping[str, Any]:
    return {"field": change.path, "kind": change.kind, "before": change.before, "after": change.after}
