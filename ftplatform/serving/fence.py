"""`keepwarm_fence`: pings must not come back as feedback or as what users type.

A ping looks like a request in every log that does not say otherwise. In feedback it is a vote nobody gave, in production samples an input
nobody typed, and both are trained and measured on. Pings are known by request id, by a marker, or by their text; a text that users type
as well ("hello") is a ping only where one was sent at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import Role
from ftplatform.serving.request_marks import PingRule, known_texts, normalized
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "keepwarm_fence/1"

#: What is compared with pings: all ids a row goes by, what was typed in it, what is noted beside it, and when.
SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("ids", pa.list_(pa.string()), nullable=False),
        pa.field("texts", pa.list_(pa.string()), nullable=False),
        pa.field("noted", pa.string()),
        pa.field("asked_at", pa.timestamp("us", tz="UTC")),
    ]
)
#: Keys of a row's metadata that may hold the request's id.
_ID_KEYS = ("request_id", "id", "trace_id", "conversation", "conversation_id", "response_id", "event")

#: Seconds by which the clocks of a request log and of a sample may differ.
CLOCK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Pings:
    """What is known of the keep-warm requests of some endpoints.

    Attributes:
        ids: request ids of pings.
        texts: normalized prompts of pings.
        markers: texts that only pings hold, in id, prompt or metadata.
        sent: time and normalized prompt of each ping of the log, sorted by time.
        spans: the first and the last request of each log; outside of them a missing ping means nothing.
        known: whether it is known for every request if it was a ping.
        count: pings in the logs.
    """

    ids: frozenset[str]
    texts: frozenset[str]
    markers: tuple[str, ...]
    sent: pl.DataFrame
    spans: tuple[tuple[Any, Any], ...]
    known: bool
    count: int


def pings_of(logs: Sequence[tuple[pa.Table, PingRule, bool | None]]) -> Pings:
    """The pings of request logs.

    Args:
        logs: table of `REQUEST_SCHEMA`, the rule pings are told by, and whether the operator says that pings are sent at all.
    """
    ids: set[str] = set()
    texts: set[str] = set()
    sent: list[pl.DataFrame] = []
    spans: list[tuple[Any, Any]] = []
    known = bool(logs)
    for table, rule, sends in logs:
        frame = pl.DataFrame(pl.from_arrow(table.select(["time", "is_ping", "request_id", "prompt"])))
        pings = frame.filter("is_ping")
        ids.update(pings["request_id"].drop_nulls().to_list())
        texts |= known_texts(table, rule.texts)
        sent.append(pings.select(asked_at="time"))
        if frame.height:
            spans.append((frame["time"].min(), frame["time"].max()))
        told = bool(frame.height) and frame["is_ping"].null_count() == 0
        known &= told or bool(rule.marker or rule.texts) or sends is False
    when = pl.concat(sent).sort("asked_at") if sent else pl.DataFrame(schema={"asked_at": pl.Datetime("us", "UTC")})
    markers = tuple(dict.fromkeys(rule.marker for _, rule, _ in logs if rule.marker))
    return Pings(frozenset(ids), frozenset(texts), markers, when, tuple(spans), known, when.height)


def samples_of_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Rows (row_id, messages, group, created_at, meta of `ROW_SCHEMA`) as samples; the user turns are what was typed."""
    said = pl.element().filter(pl.element().struct.field("role") == str(Role.USER)).struct.field("content")
    meta = pl.col("meta")
    for batch in batches:
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        named = [meta.str.json_path_match(f"$.{key}") for key in _ID_KEYS]
        yield (
            frame.select(
                "row_id",
                ids=pl.concat_list("group", *named).list.drop_nulls(),
                texts=pl.col("messages").list.eval(said),
                noted=meta,
                asked_at="created_at",
            )
            .to_arrow()
            .cast(SAMPLE_SCHEMA)
        )


def keepwarm_fence(samples: Iterable[pa.Table], pings: Pings, *, by_clock: bool = False) -> Verdict:
    """Fail if a ping is among the samples; an exact rule.

    Args:
        samples: tables of `SAMPLE_SCHEMA`, read once.
        by_clock: whether `asked_at` is the moment of the request. A row whose text alone is that of a ping is then let through if the
            log covers the moment and holds no ping within `CLOCK_SECONDS` of it: a user typed the same.
    """
    n = 0
    by_rule = dict.fromkeys(("request id", "marker", "text"), 0)
    worst: list[dict[str, Any]] = []
    for table in samples:
        n += table.num_rows
        found = _found(table, pings, by_clock)
        for rule, count in found.group_by("rule").len().iter_rows():
            by_rule[rule] += count
        worst += found.head(MAX_EVIDENCE - len(worst)).to_dicts()
    total = sum(by_rule.values())
    common: dict[str, Any] = {
        "statistic": "keep-warm requests among the rows (n: rows)",
        "n": n,
        "n_required": 1,
        "threshold": 0.0,
        "baseline": f"{pings.count:,} pings in the request logs",
        "check_version": CHECK_VERSION,
        "config": {"clock_seconds": CLOCK_SECONDS, "by_clock": by_clock, "markers": len(pings.markers), "texts": len(pings.texts)},
        "tier": "rules",
        "details": {"by_rule": by_rule, "pings": pings.count, "ping_ids": len(pings.ids), "ping_texts": len(pings.texts)},
    }
    if total:
        told = ", ".join(f"{count} by {rule}" for rule, count in by_rule.items() if count)
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{total:,} of {n:,} rows are keep-warm requests ({told}).",
            estimate=float(total),
            evidence=[{"row_id": w["row_id"], "rule": w["rule"], "text": excerpt(w["text"] or "", 120)} for w in worst],
            remedy="Leave keep-warm requests out where this data is exported, by their request id or marker.",
            **common,
        )
    if not n or not pings.known:
        why = "There are no rows to look at" if not n else "Nobody knows which requests of the log are pings"
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{why}.",
            remedy="Map is_ping in the endpoint's fields, or say under pings what marks them, or `sent: false`.",
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"None of {n:,} rows is one of the {pings.count:,} keep-warm requests.",
        estimate=0.0,
        remedy="Nothing to do.",
        **common,
    )


def _found(table: pa.Table, pings: Pings, by_clock: bool) -> pl.DataFrame:
    """row_id, rule and text of the samples that are pings; the first rule that applies is named."""
    frame = pl.DataFrame(pl.from_arrow(table)).sort("asked_at", nulls_last=True, maintain_order=True)
    by_id = pl.col("ids").list.eval(pl.element().is_in(list(pings.ids))).list.any()
    holds = [
        pl.col(column).list.eval(pl.element().str.contains(marker, literal=True)).list.any()
        for marker in pings.markers
        for column in ("ids", "texts")
    ] + [pl.col("noted").str.contains(marker, literal=True) for marker in pings.markers]
    by_text = pl.col("texts").list.eval(normalized(pl.element()).is_in(list(pings.texts))).list.any()
    if by_clock and pings.count:
        near = pings.sent.with_columns(ping_at="asked_at")
        frame = frame.join_asof(near, on="asked_at", strategy="nearest", tolerance=f"{CLOCK_SECONDS}s")
        covered = pl.any_horizontal(*(pl.col("asked_at").is_between(first, last) for first, last in pings.spans))
        typed = covered.fill_null(False) & pl.col("ping_at").is_null()
        by_text = by_text & ~typed
    rule = (
        pl.when(by_id.fill_null(False))
        .then(pl.lit("request id"))
        .when(pl.any_horizontal(*holds).fill_null(False) if holds else pl.lit(False))
        .then(pl.lit("marker"))
        .when(by_text.fill_null(False))
        .then(pl.lit("text"))
    )
    marked = frame.with_columns(rule=rule, text=pl.col("texts").list.first())
    return marked.filter(pl.col("rule").is_not_null()).select("row_id", "rule", "text")
