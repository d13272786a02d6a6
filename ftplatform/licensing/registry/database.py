"""Connections to the index: SQLite (a file) or Postgres, with one writer at a time and typed errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ftplatform.errors import InputDataError, StoreError, StoreUnavailable
from ftplatform.licensing.registry import schema
from ftplatform.licensing.registry.events import Event

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

#: Seconds a writer waits for another one.
_BUSY_S = 30
#: Any number that nothing else in the database uses as an advisory lock.
_ADVISORY_LOCK = 0x6C6963656E7365
_DIALECTS = ("sqlite", "postgresql")


class Database:
    """The tables of the index. Safe to use from several threads; open it anew in another process.

    Raises:
        InputDataError: for a URL that is neither ``sqlite:///file`` nor ``postgresql+psycopg2://...``. A password is never shown.
        StoreUnavailable: if the database does not answer (every method).
    """

    def __init__(self, url: str) -> None:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError

        try:
            parsed = sqlalchemy.make_url(url)
        except ArgumentError as error:
            raise InputDataError("the ledger's database URL cannot be read", remedy="Write sqlite:///path/ledger.db.") from error
        self.dialect = parsed.get_backend_name()
        self.url = parsed.render_as_string(hide_password=True)
        if self.dialect not in _DIALECTS or (self.dialect == "sqlite" and parsed.database in (None, "", ":memory:")):
            raise InputDataError(
                f"the ledger cannot be indexed in {self.url}", remedy="Write sqlite:///path/ledger.db or postgresql+psycopg2://..."
            )
        try:
            self._engine = _sqlite_engine(parsed) if self.dialect == "sqlite" else _postgres_engine(parsed)
        except ModuleNotFoundError as error:
            raise InputDataError(f"{self.url} needs {error.name}", remedy="Install ftplatform[postgres].") from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the index."""
        with self._errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer shares; all of it takes effect or nothing."""
        with self._errors(), self._engine.connect().execution_options(exclusive=True) as connection, connection.begin():
            if self.dialect == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection

    def create(self, connection: Connection, *, anew: bool) -> None:
        """Create the tables unless they are there in this version; `anew` drops what is there first."""
        import sqlalchemy

        present = sqlalchemy.inspect(connection).has_table(schema.VERSION_TABLE)
        if present and not anew and query(connection, f"SELECT version FROM {schema.VERSION_TABLE}") == [(schema.VERSION,)]:
            return
        for statement in (*schema.drop_statements(), *schema.create_statements(self.dialect)):
            connection.exec_driver_sql(statement)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

        try:
            yield
        except OperationalError as error:
            raise StoreUnavailable(
                f"{self.url}: {_reason(error)}", remedy="Check the database, then run again; the event log holds what was appended."
            ) from error
        except SQLAlchemyError as error:
            reason = _reason(error) if isinstance(error, DBAPIError) else type(error).__name__
            raise StoreError(f"{self.url}: {reason}", remedy="Rebuild the index from the event log.") from error


def query(connection: Connection, statement: str, **parameters: Any) -> Sequence[Any]:
    """All rows of a statement with ``:name`` parameters."""
    import sqlalchemy

    return connection.execute(sqlalchemy.text(statement), parameters).all()


def body(document: str) -> Mapping[str, Any]:
    """The body of an event from column `document`."""
    return orjson.loads(document)["body"]


def insert(connection: Connection, events: Iterable[Event]) -> None:
    """Insert the rows of events.

    Raises:
        InputDataError: naming the event whose body cannot be indexed.
    """
    import sqlalchemy

    rows: dict[str, list[Mapping[str, Any]]] = {table: [] for table in schema.TABLES}
    for event in events:
        rows["license_event"].append(
            {
                "seq": event.seq,
                "last": event.last,
                "previous": event.previous,
                "sha256": event.sha256,
                "kind": event.kind,
                "recorded_at": schema.micros(event.recorded_at),
                "token": event.token,
                "document": event.data.decode(),
            }
        )
        try:
            indexed = schema.index_row(event.kind, event.body)
        except InputDataError as error:
            raise InputDataError(f"event {event.seq}: {error.message}", remedy=error.remedy) from error
        if indexed is not None:
            rows[indexed[0]].append({"seq": event.seq, **indexed[1]})
    for table, listed in rows.items():
        if listed:
            columns = [sqlalchemy.column(name) for name in schema.TABLES[table]]
            connection.execute(sqlalchemy.insert(sqlalchemy.table(table, *columns)), listed)


def export(connection: Connection) -> bytes:
    """Every row of every table, one JSON array without spaces a line, ordered by table and number."""
    # Not RFC 8785: it has no integers beyond 2^53, and a license may end in the year 9999.
    lines: list[bytes] = []
    for table, columns in schema.TABLES.items():
        lines.append(orjson.dumps([table, *columns]))
        lines += [orjson.dumps(list(row)) for row in query(connection, f"SELECT {', '.join(columns)} FROM {table} ORDER BY seq")]
    return b"\n".join(lines) + b"\n"


def _sqlite_engine(url: Any) -> Engine:
    import sqlalchemy
    from sqlalchemy import event

    engine = sqlalchemy.create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_S})

    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by itself, and not before DDL
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes is in the event log
        cursor.close()

    def on_begin(connection: Connection) -> None:
        exclusive = connection.get_execution_options().get("exclusive")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if exclusive else "BEGIN")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _postgres_engine(url: Any) -> Engine:
    import sqlalchemy

    # The bare scheme means another driver to newer SQLAlchemy.
    return sqlalchemy.create_engine(url.set(drivername="postgresql+psycopg2"), hide_parameters=True, pool_pre_ping=True)


def _reason(error: Any) -> str:
    return str(error.orig).strip().partition("\n")[0]
