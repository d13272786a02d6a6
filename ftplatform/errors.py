"""The typed errors of the platform. Each names its input and says what to do about it.

Everything a user can cause derives from `FtplatformError`; the command line prints it as one sentence and exits with 2.
Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class FtplatformError(Exception):
    """Base of every error a user's input can cause.

    `remedy` is one sentence in the imperative; it is part of the message.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message} {remedy}".strip())


class ProjectError(FtplatformError):
    """`ftplatform.yaml` (or something it points to) is not usable."""


class InputDataError(FtplatformError):
    """A data file as a whole cannot be read: missing, wrong format, over a cap. Single bad records are quarantined."""


class StoreError(FtplatformError):
    """Base of what can go wrong between us and the store."""


class StoreUnavailable(StoreError):
    """The store did not answer within the deadline; nothing was changed that the next try does not resolve."""


class StoreFull(StoreError):
    """No space is left where the store or a draft writes; what was published before is untouched."""


class CorruptArtifact(StoreError):
    """Stored bytes do not hash to their name."""


class NotMaterialized(StoreError):
    """The asset has no snapshot yet."""


class PublishConflict(StoreError):
    """Somebody else moved the head since it was read."""


class UnsafeModel(FtplatformError):
    """Model files that would run code, or are not well-formed safetensors."""


class TrainingError(FtplatformError):
    """The training manifest cannot be executed."""


class EvaluationError(FtplatformError):
    """A model cannot be evaluated on what it was given: no chat template, a prompt longer than the context, a task without answers."""
