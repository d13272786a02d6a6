"""OpenTelemetry exports as request records: OTLP JSON, one export request a line (traces, and metrics whose exemplars name spans).

A span of the GenAI semantic conventions is a request. The exporter is not trusted: shapes are checked before they are read, and what has
another shape is refused with a reason, never guessed.

Sources: OTLP specification, JSON encoding (64-bit integers may be strings); OpenTelemetry semantic conventions for generative AI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ftplatform.rows.quarantine import Malformed, Quarantined, Reason
from ftplatform.rows.raw_records import RawItems, RawRecord

#: Our column to the key of a flattened span: times of the span itself, or an attribute.
OTEL_KEYS: Final[Mapping[str, str]] = {
    "time": "start",
    "adapter": "gen_ai.request.model",
    "time_to_first_token": "first_token_seconds",
    "total": "duration_seconds",
    "output_tokens": "gen_ai.usage.output_tokens",
    "is_ping": "keepwarm.ping",
    "request_id": "gen_ai.response.id",
    "prompt": "gen_ai.prompt",
}
#: Attributes that hold the seconds to the first token or chunk, the most specific first.
_FIRST_TOKEN = (
    "gen_ai.server.time_to_first_token",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.latency.time_to_first_token",
    "llm.latency.time_to_first_token",
)
#: Events at the moment of the first token; the first of them counts.
_FIRST_EVENTS = ("gen_ai.first_token", "first_token", "gen_ai.content.first_chunk", "llm.content.completion.chunk")
_METRICS = ("gen_ai.server.time_to_first_token", "gen_ai.client.operation.time_to_first_chunk")
#: Older names of attributes, by the current one.
_FORMER = {"gen_ai.usage.output_tokens": "gen_ai.usage.completion_tokens"}
#: Work other than generating an answer does not wait for an adapter in the same way.
_OPERATIONS = (None, "chat", "text_completion", "generate_content")
_NANO = 1e-9
#: Exemplars that are remembered for spans that come later in the file.
_MAX_EXEMPLARS = 5_000_000


def span_records(items: RawItems, excerpt_chars: int) -> RawItems:
    """GenAI spans of OTLP lines as flat records; the keys are the values of `OTEL_KEYS` and every attribute.

    Spans of other kinds (HTTP, databases, agents, tools) are no requests and are left out. Metrics give the time to the first token of
    spans that come after them: their exemplars name the span.
    """
    exemplars: dict[str, float] = {}
    for item in items:
        if isinstance(item, Quarantined):
            yield item
            continue
        try:
            _read_exemplars(item.value, exemplars)
            groups = _groups(item.value, "resourceSpans", "scopeSpans", "spans")
        except Malformed as malformed:
            yield item.refuse(malformed, excerpt_chars)
            continue
        for resource, span in groups:
            try:
                record = _flat(span, resource, exemplars)
            except Malformed as malformed:
                yield RawRecord(item.position, span).refuse(malformed, excerpt_chars)
                continue
            if record is not None:
                yield RawRecord(item.position, record)


def _groups(value: Any, outer: str, middle: str, inner: str) -> list[tuple[dict[str, Any], Any]]:
    """Every innermost element with the attributes of its resource."""
    if not isinstance(value, dict):
        raise Malformed(Reason.NOT_AN_OBJECT, f"a {type(value).__name__}, not an object")
    if not {"resourceSpans", "resourceMetrics"} & value.keys():
        raise Malformed(Reason.UNKNOWN_LAYOUT, "no OTLP export: neither resourceSpans nor resourceMetrics")
    found: list[tuple[dict[str, Any], Any]] = []
    for group in _objects(value, outer):
        resource = group.get("resource")
        attributes = _attributes(resource) if isinstance(resource, dict) else {}
        for scope in _objects(group, middle):
            found += [(attributes, element) for element in _list(scope, inner)]
    return found


def _flat(span: Any, resource: Mapping[str, Any], exemplars: Mapping[str, float]) -> dict[str, Any] | None:
    if not isinstance(span, dict):
        raise Malformed(Reason.NOT_AN_OBJECT, f"a span is a {type(span).__name__}, not an object")
    attributes = _attributes(span)
    if not any(key.startswith("gen_ai.") for key in attributes) or attributes.get("gen_ai.operation.name") not in _OPERATIONS:
        return None
    start, end = _nanoseconds(span, "startTimeUnixNano"), _nanoseconds(span, "endTimeUnixNano")
    if start is None:
        raise Malformed(Reason.MISSING_FIELD, "startTimeUnixNano is missing")
    record: dict[str, Any] = {**resource, **attributes}
    for name, former in _FORMER.items():
        record.setdefault(name, attributes.get(former))
    record["start"] = start * _NANO
    record["duration_seconds"] = None if end is None else (end - start) * _NANO
    record["first_token_seconds"] = _first_token(span, attributes, start, exemplars)
    record.setdefault("gen_ai.response.id", span.get("spanId"))
    return record


def _first_token(span: Mapping[str, Any], attributes: Mapping[str, Any], start: int, exemplars: Mapping[str, float]) -> Any:
    for name in _FIRST_TOKEN:
        if attributes.get(name) is not None:
            return attributes[name]
    moments = [
        at
        for event in _objects(span, "events")
        if event.get("name") in _FIRST_EVENTS and (at := _nanoseconds(event, "timeUnixNano")) is not None
    ]
    return (min(moments) - start) * _NANO if moments else exemplars.get(str(span.get("spanId")))


def _read_exemplars(value: Any, exemplars: dict[str, float]) -> None:
    if not isinstance(value, dict) or "resourceMetrics" not in value:
        return
    for _, metric in _groups(value, "resourceMetrics", "scopeMetrics", "metrics"):
        if not isinstance(metric, dict) or metric.get("name") not in _METRICS or not isinstance(metric.get("histogram"), dict):
            continue
        for point in _objects(metric["histogram"], "dataPoints"):
            for exemplar in _objects(point, "exemplars"):
                seconds, span = exemplar.get("asDouble"), exemplar.get("spanId")
                if isinstance(seconds, int | float) and isinstance(span, str) and len(exemplars) < _MAX_EXEMPLARS:
                    exemplars[span] = float(seconds)


def _attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that are plain values; lists and maps are no columns of ours."""
    found: dict[str, Any] = {}
    for entry in _objects(owner, "attributes"):
        value, key = entry.get("value"), entry.get("key")
        if not isinstance(key, str) or not isinstance(value, dict):
            raise Malformed(Reason.WRONG_TYPE, "an attribute is not a key with a value")
        for kind, plain in value.items():
            if kind in ("stringValue", "boolValue", "doubleValue"):
                found[key] = plain
            elif kind == "intValue":
                found[key] = _integer(plain, key)
    return found


def _nanoseconds(owner: Mapping[str, Any], key: str) -> int | None:
    value = owner.get(key)
    return None if value is None else _integer(value, key)


def _integer(value: Any, key: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # A signed 64-bit integer has at most 19 digits; a longer text is no number of nanoseconds, whatever it costs to parse.
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.lstrip("-").isdigit():
        return int(value)
    raise Malformed(Reason.WRONG_TYPE, f"{key} must be a whole number, not {str(value)[:40]!r}")


def _objects(owner: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    for element in _list(owner, key):
        if not isinstance(element, dict):
            raise Malformed(Reason.WRONG_TYPE, f"{key} holds a {type(element).__name__}, not an object")
        yield element


def _list(owner: Mapping[str, Any], key: str) -> list[Any]:
    value = owner.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(Reason.WRONG_TYPE, f"{key} is a {type(value).__name__}, not a list")
    return value
