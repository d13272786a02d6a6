"""The database under the index: connections, transactions, and results as columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ftplatform.errors import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, TextClause

#: Serializes writers on Postgres; any constant of our own will do.
_WRITE_LOCK = 0x66745F6C696E


class Database:
    """SQLite or Postgres. Safe to use from several threads. Raises `StoreUnavailable` if it does not answer."""

    def __init__(self, url: str | Path) -> None:
        """Nothing is opened yet.

        Args:
            url: path of a SQLite file, ``sqlite:///file`` or ``postgresql+psycopg2://...``.
        """
        from sqlalchemy import create_engine, event, make_url

        location = make_url(url if isinstance(url, str) and "://" in url else f"sqlite:///{url}")
        #: Where it is, for people; without the password.
        self.url = location.render_as_string(hide_password=True)
        self._engine = create_engine(location, pool_pre_ping=True)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        if self.is_sqlite:
            event.listen(self._engine, "connect", _configure_sqlite)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def has_table(self, name: str) -> bool:
        """Whether there is such a table."""
        from sqlalchemy import inspect

        with self._connection() as connection:
            return inspect(connection).has_table(name)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout."""
        with self._connection() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                # The planner guesses the width of a recursion from its first step. A wrong guess makes it scan all edges at every step,
                # and a chain of adapters has hundreds; walking the index is never far from the best plan.
                for setting in ("enable_hashjoin", "enable_mergejoin", "jit"):
                    connection.exec_driver_sql(f"SET LOCAL {setting} = off")
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer overlaps; undone if the block raises."""
        with self._connection() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
            yield connection
            connection.commit()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        from sqlalchemy.exc import InterfaceError, OperationalError

        try:
            with self._engine.connect() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            reason = str(error.orig).strip().split("\n")[0]
            raise StoreUnavailable(
                f"The lineage index {self.url} does not answer: {reason}.", remedy="Check that the database runs, then try again."
            ) from error


def clause(statement: str, expanding: str | None = None) -> TextClause:
    """A statement with named parameters; the one named `expanding` takes a list of texts."""
    from sqlalchemy import String, bindparam, text

    found = text(statement)
    return found.bindparams(bindparam(expanding, expanding=True, type_=String())) if expanding else found


def read(connection: Connection, statement: TextClause, at: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Result of a query. Built by columns: several times faster than by rows."""
    rows = connection.execute(statement, dict(at)).all()
    columns: Iterable[Any] = zip(*rows, strict=True) if rows else ((),) * len(schema)
    series = zip(schema.items(), columns, strict=True)
    return pl.DataFrame([pl.Series(name, values, dtype) for (name, dtype), values in series])


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # We begin transactions ourselves. The index can be rebuilt, so the last write need not survive a power cut.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 30000"):
        connection.execute(f"PRAGMA {pragma}")
