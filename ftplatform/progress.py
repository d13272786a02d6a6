"""Progress of long work, reported by whoever does it and shown by whoever called it.

Domain code calls `advance("train adapters/support", done, total)`; the command line installs a listener that draws a bar, Dagster
runs without one. A context variable, so that two runs in one process do not mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with (task name, units done, units in total or None).
Listener = Callable[[str, int, int | None], None]

_listener: ContextVar[Listener | None] = ContextVar("ftplatform_progress", default=None)


def advance(task: str, done: int, total: int | None = None) -> None:
    """Tell the listener, if there is one, that `done` of `total` units of `task` are finished."""
    listener = _listener.get()
    if listener is not None:
        listener(task, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Install `listener` for the duration of the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
