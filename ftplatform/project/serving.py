"""Serving endpoints in the project file: their request logs, what is known of the provider, and what keeping warm costs (mode M3)."""

from __future__ import annotations

import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ftplatform.project.fields import Model, Name, Owner, Share, Uris

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(daily|[a-z]{3})(?:-([a-z]{3}))? ([0-9]{2})-([0-9]{2})")

Positive = Annotated[float, Field(gt=0)]


def hours_of_week(text: str) -> frozenset[int]:
    """Hours of the week that ``mon-fri 08-20`` means, Monday 00:00 being 0; ``sun 22-02`` runs into Monday.

    Raises:
        ValueError: the text has another form.
    """
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not days and hours such as 'mon-fri 08-20' or 'daily 22-06'")
    first, last = found.group(1), found.group(2) or found.group(1)
    begin, end = int(found.group(3)), int(found.group(4))
    if (first == "daily" and found.group(2)) or not {first, last} <= {*_DAYS, "daily"} or begin > 23 or not 0 < end <= 24:
        raise ValueError(f"{text[:40]!r}: days are mon to sun or 'daily', hours run from 00 to 24")
    start, stop = (0, 6) if first == "daily" else (_DAYS.index(first), _DAYS.index(last))
    days = range(start, stop + 1 if stop >= start else stop + 8)
    length = end - begin if end > begin else end + 24 - begin
    return frozenset((day * 24 + begin + hour) % 168 for day in days for hour in range(length))


def _hours(value: str) -> str:
    hours_of_week(value)
    return value


def time_zone(value: str) -> str:
    """`value` if it is an IANA name; ValueError otherwise."""
    if value not in zoneinfo.available_timezones():
        raise ValueError(f"{value[:40]!r} is not an IANA time zone such as 'Europe/Paris'")
    return value


def _marker(value: str) -> str:
    if len(value.strip()) < 4:
        raise ValueError(f"{value[:40]!r} is too short to be in pings and in nothing else: give at least 4 characters")
    return value


class KeepWarmCosts(Model):
    """What the choice of a keep-warm plan is made at, both in one currency."""

    ping: Annotated[float, Field(ge=0)]
    """Cost of one keep-warm request."""
    cold_start: Annotated[float, Field(ge=0)]
    """What one user's wait for the adapter is worth to you."""


class Pings(Model):
    """How keep-warm requests are told from those of users."""

    sent: bool | None = None
    """`false` says that nobody sends any."""
    marker: Annotated[str, Field(max_length=200), AfterValidator(_marker)] | None = None
    """Text in the id, the prompt or the metadata of every ping and of nothing else."""
    texts: Annotated[list[Annotated[str, Field(min_length=1, max_length=2000)]], Field(max_length=100)] = []
    """Prompts that pings send."""

    @model_validator(mode="after")
    def _consistent(self) -> Pings:
        if self.sent is False and (self.marker or self.texts):
            raise ValueError("'sent: false' and a marker or texts of pings exclude each other")
        return self


class Endpoint(Model):
    """A serving endpoint's request log (mode M3)."""

    path: Uris
    """The log's file, glob or URL, or a list of them."""
    fields: dict[str, str] = {}
    """Maps time, adapter, time_to_first_token, total, output_tokens, is_ping, request_id, prompt to the log's keys; `layout: azure` or
    `layout: otel` begins from a known layout."""
    adapter: Name | None = None
    """Entry of `adapters` that is served."""
    idle_threshold: Positive | None = None
    """Seconds without a request after which the provider unloads the adapter, where it says so. What the log shows goes before it."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Copies of the adapter that requests are spread over at random."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    """IANA name of the time zone in which hours of the week are meant."""
    user_hours: Annotated[list[Annotated[str, AfterValidator(_hours)]], Field(max_length=50)] = []
    """Hours in which users matter, e.g. `mon-fri 08-20`; by default all that have a request."""
    cold_starts_per_day: Annotated[float, Field(ge=0)] = 1.0
    """Expected cold starts a day that are accepted."""
    max_p_cold: Share = 0.05
    """Probability of a cold start that an hour of users may have."""
    time_to_first_token_slo: Positive | None = None
    """Seconds within which the first token is promised. With it, `cold_start_exposure` refuses instead of warning."""
    costs: KeepWarmCosts | None = None
    """What a ping and a cold start cost; without it no keep-warm plan is made."""
    pings: Pings = Pings()
    """How keep-warm requests are known, so that they never become feedback or production inputs."""
    owner: Owner | None = None
    """E-mail address or `team:name`."""
    description: str | None = None
    """One sentence for people."""

    @property
    def watched_hours(self) -> frozenset[int] | None:
        """The hours of `user_hours`; None where it is left out."""
        return frozenset().union(*map(hours_of_week, self.user_hours)) if self.user_hours else None
