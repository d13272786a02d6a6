"""Operation in the project file: reward ledgers, endpoints, gates, schedules, alerts, and the encoder."""

from __future__ import annotations

from typing import Literal

from ftplatform.project.fields import EnvironmentVariable, Model, Name, Owner, Uri, Uris


class Reward(Model):
    """A reward ledger: per checkpoint and item, the proxy reward and the human outcome (mode M8)."""

    path: Uris
    """The ledger's file, glob or URL, or a list of them."""
    adapter: Name | None = None
    """Entry of `adapters` whose checkpoints were scored."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""


class Endpoint(Model):
    """A serving endpoint's request log (mode M3)."""

    path: Uris
    """The log's file, glob or URL, or a list of them."""
    fields: dict[str, str] = {}
    """Maps time, adapter, time_to_first_token, total, output_tokens, is_ping to the log's keys."""
    adapter: Name | None = None
    """Entry of `adapters` that is served."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""


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
