"""Feedback in the project file: where events come from, and what people said of them since."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ftplatform.project.credentials import shown
from ftplatform.project.data import Data, License, LicenseField
from ftplatform.project.fields import Name

Surface = Literal["debug", "qa", "user", "production", "curation"]


def _log_file(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "://" in value or path.suffix != ".jsonl":
        # The command line writes to it: never outside of the project.
        raise ValueError(f"{shown(value)} is no place for a log: give a .jsonl file inside the project's folder")
    return value


LogFile = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_log_file)]


class Feedback(Data):
    """Feedback events. Raw events are never trainable; only curated replacements pass on."""

    license: LicenseField = License()
    """Terms under which users gave the feedback."""
    export: Literal["thumbs", "langfuse", "langsmith"] | None = None
    """The tool whose export `path` is: flat votes with comments, Langfuse traces and scores, or LangSmith runs and feedback. Without it
    the files are in our own layout."""
    surface: Surface | None = None
    """Where an export was gathered; tools do not say. `debug` and `qa` are never curated."""
    surfaces: dict[str, Surface] = {}
    """The same by the environment that the tool recorded, e.g. `staging: qa`; it goes before `surface`."""
    adjudication: LogFile | None = None
    """Log of decisions on events; curation follows it. Written by `ftplatform feedback import`; it need not exist yet."""
    annotations: LogFile | None = None
    """Log of the codes that two or more annotators gave without seeing each other's."""
    reviews: LogFile | None = None
    """Log of what was said of the audited rows."""
    defect_limit: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Largest share of curated targets that nobody would ship; 153 rows are audited for 0.05, 773 for 0.01."""
    base_model: Name | None = None
    """Base model that says how likely a correction is as an answer: the fourth signal of `correction_is_target`."""
    mask_personal_data: bool = False
    """Replace personal data in curated rows by placeholders, with a record of what was taken out."""

    @model_validator(mode="after")
    def _surfaces_of_exports(self) -> Feedback:
        if self.export is None and (self.surface is not None or self.surfaces):
            raise ValueError("'surface' and 'surfaces' are for an 'export'; in our own layout every event states its surface")
        if self.export is not None and (self.fields or self.reader or self.format != "auto"):
            raise ValueError("'export' says how the files are read; leave out 'fields', 'reader' and 'format'")
        return self
