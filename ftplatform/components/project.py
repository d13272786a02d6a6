"""`FineTuneProject`: a whole ftplatform project as one component of a larger Dagster project."""

from pathlib import Path

import dagster as dg

from ftplatform.defs.build import build_defs
from ftplatform.project.loading import load_project


class FineTuneProject(dg.Component, dg.Model, dg.Resolvable):
    """Loads an `ftplatform.yaml` into the surrounding code location.

    Attributes:
        project: path of the file, relative to the component's folder.
    """

    project: str = "ftplatform.yaml"

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """All assets, checks, jobs, schedules and sensors of the project."""
        return build_defs(load_project(Path(context.path) / self.project))
