"""Pings are found among feedback and samples by id, marker and text, and users who type the same are left alone."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.serving.fence import SAMPLE_SCHEMA, Pings, keepwarm_fence, pings_of, samples_of_rows
from ftplatform.serving.request_log import REQUEST_SCHEMA
from ftplatform.serving.request_marks import PingRule
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row
from ftplatform_tests.tables import table as rows_table
from ftplatform_tests.unit.serving.simulated import MONDAY


def at(seconds: float) -> datetime.datetime:
    return MONDAY + datetime.timedelta(seconds=seconds)


def request(
    seconds: float, *, ping: bool | None = False, request_id: str | None = None, prompt: str | None = None
) -> dict[str, Any]:
    return {"time": at(seconds), "is_ping": ping, "request_id": request_id, "prompt": prompt}


def pings(*requests: dict[str, Any], sent: bool | None = None, **rule: Any) -> Pings:
    log = PingRule(**rule).mark(pa.Table.from_pylist(list(requests), schema=REQUEST_SCHEMA))
    return pings_of([(log, PingRule(**rule), sent)])


def sample(row_id: str, text: str = "where is my order", *, ids: Any = (), noted: str | None = None, asked: float | None = None):
    moment = None if asked is None else at(asked)
    return {"row_id": row_id, "ids": list(ids), "texts": [text], "noted": noted, "asked_at": moment}


def judge(known: Pings, *samples: dict[str, Any], **options: Any):
    return keepwarm_fence([pa.Table.from_pylist(list(samples), schema=SAMPLE_SCHEMA)], known, **options)


LOG = (request(0), request(600, ping=True, request_id="p-1", prompt="Hello"), request(7_200))


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (sample("x", ids=["p-1"]), "request id"),
        (sample("x", "  HELLO "), "text"),
        (sample("x", "reply ok [keep-warm]"), "marker"),
        (sample("x", noted='{"header": "[keep-warm]"}'), "marker"),
        (sample("x", ids=["[keep-warm]-17"]), "marker"),
    ],
)
def test_each_way_in_is_closed(bad: dict[str, Any], rule: str) -> None:
    verdict = judge(pings(*LOG, marker="[keep-warm]"), sample("good"), bad)
    assert verdict.decision is Decision.FAIL
    assert verdict.details["by_rule"][rule] == 1
    assert [(e["row_id"], e["rule"]) for e in verdict.evidence] == [("x", rule)]
    assert judge(pings(*LOG, marker="[keep-warm]"), sample("good")).passed


def test_adv_users_greet_as_well() -> None:
    """ADV: pings say hello, and so do people. By text alone every greeting of the sample is thrown away."""
    greetings = [sample(f"u{i}", "hello", asked=1_000.0 + 100 * i) for i in range(20)]
    by_text = judge(pings(*LOG), *greetings)
    assert by_text.estimate == 20, "the naive rule flags all twenty people"
    assert judge(pings(*LOG), *greetings, by_clock=True).passed
    the_ping = sample("ping", "hello", asked=601.0)
    verdict = judge(pings(*LOG), *greetings, the_ping, by_clock=True)
    assert [e["row_id"] for e in verdict.evidence] == ["ping"]
    outside = sample("later", "hello", asked=90_000.0)
    undated = sample("undated", "hello")
    assert judge(pings(*LOG), outside, undated, by_clock=True).estimate == 2, "where the log says nothing the text decides"


def test_unknown_is_never_a_pass() -> None:
    rows = [sample("a")]
    assert judge(pings(request(0, ping=None)), *rows).decision is Decision.INSUFFICIENT_EVIDENCE
    assert judge(pings(), *rows).decision is Decision.INSUFFICIENT_EVIDENCE
    assert judge(pings_of([]), *rows).decision is Decision.INSUFFICIENT_EVIDENCE
    assert judge(pings(*LOG)).decision is Decision.INSUFFICIENT_EVIDENCE, "no rows"
    assert judge(pings(request(0, ping=None), sent=False), *rows).passed
    assert judge(pings(request(0, ping=None), texts=("warm up",)), *rows).passed
    assert judge(pings(request(0, ping=None), texts=("warm up",)), sample("b", "Warm  up")).decision is Decision.FAIL


def test_prompts_of_users_are_not_kept() -> None:
    log = pa.Table.from_pylist(
        [request(0, prompt="my card is 4111"), request(1, ping=None, prompt="wake UP")], schema=REQUEST_SCHEMA
    )
    marked = PingRule(texts=("Wake up",)).mark(log)
    assert marked["prompt"].to_pylist() == [None, "wake UP"]
    assert marked["is_ping"].to_pylist() == [False, True]


def test_rows_name_their_requests_in_their_metadata() -> None:
    rows = rows_table(
        [
            row("where is it", "there", meta='{"request_id": "p-1"}'),
            row("hello", "hi"),
            row("fine", "good", group="p-1"),
            row("ok", "ok"),
        ]
    )
    verdict = keepwarm_fence(samples_of_rows(rows.to_batches()), pings(*LOG))
    assert verdict.details["by_rule"] == {"request id": 2, "marker": 0, "text": 1}


def test_evidence_is_masked() -> None:
    verdict = judge(pings(*LOG, texts=("mail jo@example.org",)), sample("x", "mail jo@example.org"))
    assert verdict.decision is Decision.FAIL
    assert "jo@" not in repr(verdict.to_record())
