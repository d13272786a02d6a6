"""OpenTelemetry exports: spans become requests, and hostile lines become quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftplatform.rows.sources import list_files
from ftplatform.serving.request_log import read_requests

SECOND = 1_000_000_000
START = 1_704_067_200 * SECOND


def attribute(key: str, value: Any) -> dict[str, Any]:
    kind = {str: "stringValue", bool: "boolValue", float: "doubleValue", int: "intValue"}[type(value)]
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def span(at: float = 0.0, *, events: Any = (), **attributes: Any) -> dict[str, Any]:
    """A span of two seconds; keys are written with `__` for dots."""
    named = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "support", **attributes}
    return {
        "spanId": f"s{at}",
        "startTimeUnixNano": str(int(START + at * SECOND)),
        "endTimeUnixNano": str(int(START + (at + 2) * SECOND)),
        "attributes": [attribute(key.replace("__", "."), value) for key, value in named.items()],
        "events": list(events),
    }


def export(*spans: Any) -> dict[str, Any]:
    resource = {"attributes": [attribute("service.name", "gateway")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def read(folder: Path, *lines: Any, fields: dict[str, str] | None = None):
    (folder / "spans.jsonl").write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return read_requests(list_files(["spans.jsonl"], folder), fields={"layout": "otel", **(fields or {})})


def test_a_span_is_a_request(tmp_path: Path) -> None:
    first = span(1.5, gen_ai__usage__output_tokens=40, gen_ai__response__id="r-1", gen_ai__server__time_to_first_token=0.25)
    (request,) = read(tmp_path, export(first)).table.to_pylist()
    assert request["time"].isoformat() == "2024-01-01T00:00:01.500000+00:00"
    assert (request["adapter"], request["output_tokens"], request["request_id"]) == ("support", 40, "r-1")
    assert request["time_to_first_token"] == 0.25
    assert request["total"] == pytest.approx(2.0)
    assert request["is_ping"] is None


def test_first_tokens_come_from_attributes_events_or_metrics(tmp_path: Path) -> None:
    chunk = {"name": "gen_ai.first_token", "timeUnixNano": str(int(START + 10.4 * SECOND))}
    later = {"name": "gen_ai.first_token", "timeUnixNano": str(int(START + 11 * SECOND))}
    exemplar = {"timeUnixNano": str(START), "asDouble": 0.75, "spanId": "s20", "traceId": "t"}
    metric = {"name": "gen_ai.server.time_to_first_token", "histogram": {"dataPoints": [{"count": "1", "exemplars": [exemplar]}]}}
    lines = [
        {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]},
        export(span(0, gen_ai__response__time_to_first_chunk=0.5), span(10, events=[later, chunk]), span(20), span(30)),
    ]
    found = read(tmp_path, *lines)
    assert found.table["time_to_first_token"].to_pylist() == [0.5, pytest.approx(0.4, abs=1e-6), 0.75, None]
    assert found.counts.read == 4


def test_other_work_is_no_request(tmp_path: Path) -> None:
    http = {"spanId": "h", "startTimeUnixNano": str(START), "attributes": [attribute("http.request.method", "POST")]}
    tool = span(1, gen_ai__operation__name="execute_tool")
    assert read(tmp_path, export(http, tool, span(2))).counts.kept == 1


def test_pings_by_an_attribute_of_ones_own(tmp_path: Path) -> None:
    lines = export(span(0, synthetic=True), span(1, synthetic=False))
    assert read(tmp_path, lines, fields={"is_ping": "synthetic"}).table["is_ping"].to_pylist() == [True, False]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json\n", "invalid_json"),
        ("[1, 2]\n", "not_an_object"),
        ({"spans": []}, "unknown_layout"),
        ({"resourceSpans": "x"}, "wrong_type"),
        ({"resourceSpans": [1]}, "wrong_type"),
        ({"resourceSpans": [{"scopeSpans": {"spans": []}}]}, "wrong_type"),
        (export("no span"), "not_an_object"),
        (export({**span(), "startTimeUnixNano": "9" * 5_000}), "wrong_type"),
        (export({**span(), "startTimeUnixNano": None}), "missing_field"),
        (export({**span(), "startTimeUnixNano": "9" * 19, "endTimeUnixNano": None}), "invalid_timestamp"),
        (export({**span(), "attributes": [*span()["attributes"], {"key": 3, "value": {}}]}), "wrong_type"),
        (export({**span(), "attributes": [*span()["attributes"], {"key": "x", "value": {"intValue": "1e3"}}]}), "wrong_type"),
        (export({**span(), "events": [5]}), "wrong_type"),
        (export(span(gen_ai__server__time_to_first_token=-1.0)), "number_out_of_range"),
        (export(span(gen_ai__server__time_to_first_token="soon")), "wrong_type"),
        (export({**span(), "endTimeUnixNano": "0"}), "number_out_of_range"),
        (export({**span(), "endTimeUnixNano": str(START + 10**18)}), "number_out_of_range"),
    ],
)
def test_hostile_lines_are_quarantined_and_the_others_read(tmp_path: Path, line: Any, reason: str) -> None:
    found = read(tmp_path, line, export(span(5)))
    assert found.counts.kept + found.counts.quarantined == found.counts.read == 2
    assert found.counts.by_reason == {reason: 1}
    assert found.table["request_id"].to_pylist() == ["s5"]
