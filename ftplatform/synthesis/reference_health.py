"""`reference_health`: is the sample of real inputs fit to be a yardstick? Age, machines, copies, one user."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import polars as pl

from ftplatform import plots
from ftplatform.synthesis.samples import Rows, user_turns
from ftplatform.verdict import Decision, Verdict

CHECK_VERSION = "reference_health/1"

#: Shorter turns ("hi", "yes please") repeat by nature and are no copies.
_LEAST_WORDS = 4
#: Copies of one text by one user, or at equal intervals, from which a machine is taken to send them.
_REPEATS = 5
# Largest coefficient of variation of the intervals between copies sent by a clock.
_REGULAR = 0.1
# Monitoring probes, and payloads no person types: JSON, XML, HTTP, stack traces.
_MACHINE = (
    r"(?i)^\s*(?:ping|pong|health[ _-]?check|heartbeat|keep[ _-]?alive|uptime check|load test|smoke test|test(?:ing)?[ _-]?\d*)\W*$"
    r"|^\s*(?:\{\s*\"[^\"]+\"\s*:|\[\s*\{|<\?xml|<!doctype|<html|(?:GET|POST|HEAD)\s+/\S*\s+HTTP/)"
    r"|^\s*Traceback \(most recent call last\)|\bat [\w.$]+\([\w.]+:\d+\)"
)


def reference_health(
    reference: Rows,
    *,
    now: datetime.datetime,
    max_age_days: float = 90,
    n_required: int = 500,
    max_duplicates: float = 0.20,
    max_bots: float = 0.05,
    max_one_user: float = 0.10,
) -> Verdict:
    """Whether real inputs are recent, many, written by people, and by many of them.

    Of every turn 40 bytes are held, so any number of rows fits.

    Args:
        reference: rows of real production inputs, read once.
        now: with time zone; ages are counted from here by `created_at`.
        max_age_days: limit of the median age. One fresh row makes no fresh sample, so the newest decides nothing.
        n_required: user turns the sample needs.
        max_duplicates: limit of the share of turns of at least four words that repeat another one, case and spaces aside.
        max_bots: limit of the share that looks machine-made: monitoring probes, payloads, and the same text five times from one user or at
            equal intervals.
        max_one_user: limit of one user's share; a user is the `author`, else the `group`. Rows with neither are not counted against it.

    Returns:
        Too few, too old, undated or repeated inputs are insufficient evidence, since nothing measured against them means anything;
        bots and one loud user warn. The estimate is the median age in days.

    Raises:
        ValueError: if `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    limits = {"max_duplicates": max_duplicates, "max_bots": max_bots, "max_one_user": max_one_user}
    turns = pl.concat(list(_condensed(reference)) or [_EMPTY.clone()])
    n = len(turns)
    common: dict[str, Any] = {
        "statistic": "median age of the real inputs, days",
        "n": n,
        "n_required": n_required,
        "threshold": max_age_days,
        "check_version": CHECK_VERSION,
        "config": {"max_age_days": max_age_days, "n_required": n_required, **limits},
        "tier": "rules",
    }
    if n < n_required:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{n:,} user turns; a yardstick needs {n_required}.",
            remedy=f"Collect at least {n_required} consented, scrubbed inputs of the channel the model will serve.",
            **common,
        )
    shares = {"duplicates": _duplicates(turns), "bots": float(_machine_made(turns).mean() or 0), "one_user": _one_user(turns)}  # pyright: ignore
    undated = turns["created_at"].null_count() / n
    median = turns["created_at"].median()
    age = (now - median).total_seconds() / 86400 if isinstance(median, datetime.datetime) else None
    unusable, doubtful = [], []
    if age is None or undated > 0.5:
        unusable.append(f"{undated:.0%} have no date")
    elif age > max_age_days:
        unusable.append(f"half of them are older than {age:.0f} days (limit {max_age_days:g})")
    elif age < -1:
        unusable.append(f"half of them are dated {-age:.0f} days in the future")
    if shares["duplicates"] > max_duplicates:
        unusable.append(f"{shares['duplicates']:.0%} repeat another one (limit {max_duplicates:.0%})")
    if shares["bots"] > max_bots:
        doubtful.append(f"{shares['bots']:.0%} look machine-made (limit {max_bots:.0%})")
    if shares["one_user"] > max_one_user:
        doubtful.append(f"one user wrote {shares['one_user']:.0%} (limit {max_one_user:.0%})")
    decision = Decision.INSUFFICIENT_EVIDENCE if unusable else Decision.WARN if doubtful else Decision.PASS
    found = [*unusable, *doubtful]
    named = zip(("duplicates", "machine-made", "largest user"), shares.values(), limits.values(), strict=True)
    return Verdict(
        decision=decision,
        summary=f"{n:,} real inputs: {'; '.join(found)}."
        if found
        else f"{n:,} real inputs, half of them within {age:.0f} days, {len(turns['user'].drop_nulls().unique()):,} users or conversations.",
        estimate=age,
        evidence=[{"fact": name, "share": round(share, 4), "limit": limit} for name, share, limit in named if share > limit],
        remedy="Draw a new sample: recent, without monitoring traffic, at most a few turns of each user, copies counted once."
        if found
        else "Nothing to do; draw a new sample before this one is too old.",
        plot=plots.bars(
            list(shares.items()),
            title="Shares of the real inputs",
            highlight=[k for k, v in shares.items() if v > limits[f"max_{k}"]],
        ),
        details={
            **shares,
            "undated": undated,
            "oldest": _text(turns["created_at"].min()),
            "newest": _text(turns["created_at"].max()),
        },
        **common,
    )


_EMPTY = pl.DataFrame(
    schema={
        "text": pl.UInt64,
        "user": pl.UInt64,
        "created_at": pl.Datetime("us", "UTC"),
        "long": pl.Boolean,
        "machine": pl.Boolean,
    }
)


def _condensed(rows: Rows) -> Iterator[pl.DataFrame]:
    """What the rules need of every turn, the texts as hashes; they are compared within this run only."""
    for frame in user_turns(rows):
        text = pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
        yield frame.select(
            text=text.hash(),
            user=pl.when(pl.col("user").is_not_null()).then(pl.col("user").hash()),
            created_at="created_at",
            long=pl.col("text").str.count_matches(r"\w+") >= _LEAST_WORDS,
            machine=pl.col("text").str.contains(_MACHINE),
        )


def _duplicates(turns: pl.DataFrame) -> float:
    long = turns.filter("long")
    return 1 - long["text"].n_unique() / len(long) if len(long) else 0.0


def _machine_made(turns: pl.DataFrame) -> pl.Series:
    gaps = pl.col("created_at").sort().diff().dt.total_microseconds().drop_nulls()
    by_clock = turns.group_by("text").agg(
        clock=(pl.col("created_at").count() >= _REPEATS) & (gaps.mean() > 0) & (gaps.std() <= _REGULAR * gaps.mean())
    )
    joined = turns.join(by_clock, on="text", how="left", maintain_order="left")
    by_user = pl.col("user").is_not_null() & pl.col("long") & (pl.len().over("text", "user") >= _REPEATS)
    return joined.select(pl.col("machine") | pl.col("clock").fill_null(False) | by_user).to_series()


def _one_user(turns: pl.DataFrame) -> float:
    users = turns["user"].drop_nulls()
    return int(users.value_counts()["count"].max() or 0) / len(turns) if len(users) else 0.0  # pyright: ignore


def _text(moment: object) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime.datetime) else None
