"""Realism in the project file: what the synthetic inputs of a project are measured by (mode M9)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ftplatform.project.fields import Model, Name


class Realism(Model):
    """How user turns are compared with what users really type."""

    calibrate_by: Annotated[str, Field(pattern=r"^(source|slice|meta:[^']{1,100})$")] | None = None
    """What names the parts of the production inputs (domains, topics): `source`, `slice` (the first one) or `meta:KEY`. The limits of
    `input_surface_match` then follow from how much these parts differ from each other."""
    parts: list[Annotated[str, Field(min_length=1, max_length=200)]] = []
    """The parts to compare; the six largest by default."""
    max_age_days: Annotated[float, Field(gt=0)] = 90
    """Median age from which production inputs are too old to measure by."""
    real_evals: list[Name] = []
    """Eval sets whose questions users typed to the product. A release of an adapter trained on synthetic rows hangs on one of them."""
