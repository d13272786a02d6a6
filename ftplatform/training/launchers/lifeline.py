"""A named pipe by which processes notice that whoever started them is gone.

The starter holds its writing end. When it closes that end or dies, in whatever way, every process that reads gets end-of-file and
ends itself. This reaches processes of other sessions (torchrun's workers), which no signal to a process group does, and needs
neither inherited descriptors nor process ids, which others may reuse.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lifeline(path: Path) -> Iterator[Callable[[], None]]:
    """Creates the pipe; yields what cuts it, which leaving the block does as well."""
    os.mkfifo(path, 0o600)
    # With both directions open, opening does not wait for a reader.
    held = [os.open(path, os.O_RDWR)]

    def cut() -> None:
        while held:
            os.close(held.pop())

    try:
        yield cut
    finally:
        cut()


def hang_on(path: Path) -> None:
    """From now on this process ends when the pipe is cut; at once if it already was."""
    # A reader that does not wait for a writer: there may be none any more.
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    threading.Thread(target=_watch, args=(reading,), name="lifeline", daemon=True).start()


def _watch(reading: int) -> None:
    while os.read(reading, 1):
        pass
    # The one signal that ends a process which waits inside a library, whatever handlers that installed.
    os.kill(os.getpid(), signal.SIGKILL)
