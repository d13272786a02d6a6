"""The bitemporal license ledger: what was so, and since when we know.

`events` and `log` keep the truth, a hash-chained log of events in the store. `schema` and `database` keep an index of it in SQLite
or Postgres, which can be dropped and built again. `rules` says which observations count, `asof` asks, `ledger` is the entry.
"""

from ftplatform.licensing.registry.asof import Grant, TermsState
from ftplatform.licensing.registry.events import ChainError, Event
from ftplatform.licensing.registry.ledger import Ledger, LedgerMismatch
from ftplatform.licensing.registry.listings import Recorded
from ftplatform.licensing.registry.log import Checkpoint, EventLog
from ftplatform.licensing.registry.records import Heartbeat, LegalNotice, LicenseDecision, Matcher, NoticeKind

__all__ = [
    "ChainError",
    "Checkpoint",
    "Event",
    "EventLog",
    "Grant",
    "Heartbeat",
    "Ledger",
    "LedgerMismatch",
    "LegalNotice",
    "LicenseDecision",
    "Matcher",
    "NoticeKind",
    "Recorded",
    "TermsState",
]
