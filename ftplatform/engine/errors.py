"""What can go wrong between a driver, its workers and an index."""

from __future__ import annotations

from ftplatform.errors import CorruptArtifact, FtplatformError, StoreError


class ExecutorUnavailable(FtplatformError):
    """The executor asked for cannot be started or reached here."""


class PartFailed(FtplatformError):
    """The function raised on a part.

    Attributes:
        part: the part, as `str` tells it.
        kind: qualified name of the class of what was raised.
    """

    def __init__(self, part: str, kind: str, message: str, *, remedy: str, trace: str = "") -> None:
        self.part, self.kind = part, kind
        super().__init__(f"{part}: {message}", remedy=remedy)
        if trace:
            self.add_note(trace)


class WorkerDied(FtplatformError):
    """A worker process ended without a word, as when the kernel kills it for its memory.

    Attributes:
        parts: the parts in work at that time, one of which it died of.
    """

    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        super().__init__(
            f"A worker died while these were in work: {', '.join(parts)}.",
            remedy="Give it more memory, fewer workers or smaller parts, and run again: what is sketched is kept.",
        )


class IndexBusy(StoreError):
    """Another process is at work on the index."""


class IndexDamaged(CorruptArtifact):
    """The files of an index contradict each other."""
