"""Operation in the project file: gates, schedules, alerts, and the encoder; reward ledgers from `rewards`, endpoints from `serving`."""

from __future__ import annotations

from typing import Literal

from ftplatform.project.fields import EnvironmentVariable, Model, Uri
from ftplatform.project.rewards import Reward
from ftplatform.project.serving import Endpoint

__all__ = ["Alerts", "EncoderSpec", "Endpoint", "Gate", "Reward", "Schedules"]


class Gate(Model):
    """Override of one check."""

    threshold: float | None = None
    """Replaces the check's limit."""
    severity: Literal["warn", "error"] | None = None
    """`warn` lets a failure through, visibly; `error` refuses."""


class Schedules(Model):
    """When things run by themselves."""

    nightly: str = "0 3 * * *"
    """Cron line of the nightly re-validation."""
    timezone: str = "UTC"
    """IANA name of the time zone the cron lines are read in, e.g. `Europe/Paris`."""


class Alerts(Model):
    """Where failed checks are reported. The log always gets them."""

    webhook_env: EnvironmentVariable | None = None
    """Name of the environment variable that holds the webhook URL (Slack-compatible); the URL itself is a secret."""


class EncoderSpec(Model):
    """A sentence-transformers model that compares texts by meaning. Nothing is downloaded; weights in safetensors only."""

    path: Uri
    """Folder of the model."""
    multilingual: bool = False
    """Whether a text and its translation get similar vectors."""
