"""The tables of the index, and which rows an event becomes. One text serves SQLite and Postgres, but for the triggers.

Rows are a function of the event alone, so an index built again from the log is the same to the byte. Times are microseconds since
1970 in UTC: integers order alike under every collation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ftplatform.canonical import canonical_json
from ftplatform.errors import FtplatformError, InputDataError
from ftplatform.licensing.registry.records import KINDS, Heartbeat, LegalNotice, LicenseDecision
from ftplatform.licensing.registry.rules import weigh
from ftplatform.licensing.states import TermsObservation

#: Of tables and rows; an index of another version is built anew when it is opened.
VERSION = 1
VERSION_TABLE = "license_index_version"

_ID, _TEXT, _SOME_TEXT, _NUMBER, _SOME_NUMBER = "BIGINT PRIMARY KEY", "TEXT NOT NULL", "TEXT", "BIGINT NOT NULL", "BIGINT"

#: Table to columns and their types. `license_event` holds every event, the others what is asked for.
TABLES: Mapping[str, Mapping[str, str]] = {
    "license_event": {
        "seq": _ID,
        "last": _NUMBER,
        "previous": _TEXT,
        "sha256": _TEXT,
        "kind": _TEXT,
        "recorded_at": _NUMBER,
        "token": _TEXT,
        "document": _TEXT,  # the bytes of the event
    },
    "license_observation": {
        "seq": _ID,
        "source": _TEXT,
        "watcher": _TEXT,
        "state": _TEXT,
        "valid_from": _NUMBER,
        "observed_at": _NUMBER,
        "declared": _SOME_TEXT,  # JSON: a string or a list
        "concluded": _SOME_TEXT,
        "concluded_by": _SOME_TEXT,
        "exhibits": _NUMBER,  # how many; they are in the event
        "revision": _SOME_TEXT,
        "notice": _SOME_TEXT,
        "severity": _NUMBER,
        "needs": _NUMBER,
        "lifts": _NUMBER,
    },
    "license_heartbeat": {"seq": _ID, "source": _TEXT, "watcher": _TEXT, "observed_at": _NUMBER},
    "license_notice": {
        "seq": _ID,
        "id": _TEXT,
        "kind": _TEXT,
        "received_at": _NUMBER,
        "deadline": _SOME_NUMBER,
        "letter_sha256": _SOME_TEXT,
        "refers_to": _SOME_TEXT,
    },
    "license_decision": {
        "seq": _ID,
        "asset": _TEXT,
        "snapshot": _TEXT,
        "use": _TEXT,
        "verdict": _TEXT,
        "policy_sha256": _TEXT,
        "as_of_valid": _NUMBER,
        "as_of_known": _NUMBER,
        "decided_at": _NUMBER,
        "waiver": _SOME_TEXT,
    },
}

_INDEXES = (
    "CREATE INDEX license_observation_seen ON license_observation (source, watcher, observed_at)",
    "CREATE INDEX license_observation_lifts ON license_observation (source, lifts, valid_from) WHERE lifts > 0",
    "CREATE INDEX license_heartbeat_seen ON license_heartbeat (source, watcher, observed_at)",
    "CREATE INDEX license_notice_id ON license_notice (id, seq)",
    "CREATE INDEX license_notice_refers_to ON license_notice (refers_to)",
    "CREATE INDEX license_decision_asset ON license_decision (asset, seq)",
)

_REFUSAL = "the license ledger is append-only"

_POSTGRES_FUNCTION = f"""
CREATE OR REPLACE FUNCTION license_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$
"""


def create_statements(dialect: str) -> Iterator[str]:
    """DDL of tables, indexes and the triggers that refuse to change or remove rows; `dialect` is sqlite or postgresql."""
    for table, columns in TABLES.items():
        yield f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})"
    yield f"CREATE TABLE {VERSION_TABLE} (version BIGINT NOT NULL)"
    yield f"INSERT INTO {VERSION_TABLE} VALUES ({VERSION})"
    yield from _INDEXES
    if dialect == "postgresql":
        yield _POSTGRES_FUNCTION
        for table in TABLES:
            yield (
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION license_append_only()"
            )
        return
    for table in TABLES:
        for verb in ("UPDATE", "DELETE"):
            yield f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        # INSERT OR REPLACE removes the old row without firing the trigger on DELETE.
        yield (
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE seq = NEW.seq)"
            f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )


def drop_statements() -> Iterator[str]:
    """DDL that removes what `create_statements` made, as far as it is there."""
    for table in (*TABLES, VERSION_TABLE):
        yield f"DROP TABLE IF EXISTS {table}"


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly.

    Raises:
        InputDataError: for a time without zone.
    """
    if moment.tzinfo is None:
        raise InputDataError(f"a time has no zone: {moment}", remedy="Give times with an offset or Z.")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    """The inverse of `micros`, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def index_row(kind: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Table and row (without `seq`) for an event with this body; None for a kind that this version does not index.

    Raises:
        InputDataError: if the body is not what events of this kind hold, a name is empty, or an indexed text has a NUL, which
            Postgres cannot store.
    """
    if kind not in KINDS:
        return None
    try:
        table, row = _row(KINDS[kind].from_record(body))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputDataError(
            f"an event of kind {kind} holds something else ({type(error).__name__}: {error})",
            remedy="Append through the ledger, or use the version that wrote it.",
        ) from error
    except FtplatformError as error:
        raise InputDataError(f"an event of kind {kind}: {error.message}", remedy=error.remedy) from error
    for name, value in row.items():
        if not _fits(value, TABLES[table][name]):
            raise InputDataError(f"{name} of an event of kind {kind} is {value!r}", remedy="Give a text without NUL characters.")
    return table, row


def _fits(value: object, column: str) -> bool:
    if value is None:
        return column in {_SOME_TEXT, _SOME_NUMBER}
    if isinstance(value, str):
        return "\x00" not in value and column in ({_TEXT, _SOME_TEXT} if value else {_SOME_TEXT})
    return isinstance(value, int) and column in {_NUMBER, _SOME_NUMBER}


def _row(record: object) -> tuple[str, dict[str, Any]]:
    match record:
        case TermsObservation():
            weight = weigh(record)
            return "license_observation", {
                "source": record.source,
                "watcher": record.watcher,
                "state": str(record.state),
                "valid_from": micros(record.valid_from),
                "observed_at": micros(record.observed_at),
                "declared": None if record.declared is None else canonical_json(_listed(record.declared)).decode(),
                "concluded": record.concluded,
                "concluded_by": record.concluded_by,
                "exhibits": len(record.exhibits),
                "revision": record.revision,
                "notice": record.notice,
                **weight._asdict(),
            }
        case Heartbeat():
            return "license_heartbeat", {
                "source": record.source,
                "watcher": record.watcher,
                "observed_at": micros(record.observed_at),
            }
        case LegalNotice():
            return "license_notice", {
                "id": record.id,
                "kind": str(record.kind),
                "received_at": micros(record.received_at),
                "deadline": micros(record.deadline) if record.deadline else None,
                "letter_sha256": record.letter_sha256,
                "refers_to": record.refers_to,
            }
        case LicenseDecision():
            return "license_decision", {
                "asset": record.asset,
                "snapshot": record.snapshot,
                "use": str(record.use),
                "verdict": record.verdict.name.lower(),
                "policy_sha256": record.policy_sha256,
                "as_of_valid": micros(record.as_of_valid),
                "as_of_known": micros(record.as_of_known),
                "decided_at": micros(record.decided_at),
                "waiver": record.waiver,
            }
    raise TypeError(f"a {type(record).__name__} has no table")


def _listed(declared: str | tuple[str, ...]) -> str | list[str]:
    return list(declared) if isinstance(declared, tuple) else declared
