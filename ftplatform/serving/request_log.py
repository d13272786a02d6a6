"""Request logs of an endpoint: generic JSON, CSV and Parquet, public traces, OpenTelemetry exports; one table of requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import pyarrow as pa

from ftplatform.errors import ProjectError
from ftplatform.rows.decoding import ByteBudget
from ftplatform.rows.file_kinds import open_file, raw_records
from ftplatform.rows.limits import ReadLimits
from ftplatform.rows.quarantine import Quarantined, QuarantineLog
from ftplatform.rows.raw_records import RawItems, RawRecord
from ftplatform.rows.reading import ReadCounts
from ftplatform.rows.record_tables import RecordTable
from ftplatform.rows.sources import SourceFile
from ftplatform.serving.otel import OTEL_KEYS, span_records
from ftplatform.serving.request_columns import REQUEST_SCHEMA, to_requests
from ftplatform.serving.request_marks import PingRule

__all__ = ["KNOWN_LAYOUTS", "REQUEST_SCHEMA", "read_requests"]

#: Keys of known layouts, by our column. `otel` holds the attributes of OpenTelemetry's GenAI spans.
KNOWN_LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "azure": {"time": "TIMESTAMP", "output_tokens": "GeneratedTokens"},
    "otel": OTEL_KEYS,
}

#: Records that are converted together; a few MiB of Python objects.
_BATCH = 20_000


def read_requests(
    files: Sequence[SourceFile],
    *,
    source: str = "serving",
    fields: Mapping[str, str] | None = None,
    pings: PingRule | None = None,
    limits: ReadLimits | None = None,
) -> RecordTable:
    """Records of `REQUEST_SCHEMA`, in file order. Prompts of user requests are not kept.

    Args:
        fields: column to the log's key; ``{"layout": "azure"}`` or ``"otel"`` begins from one of `KNOWN_LAYOUTS`.
        pings: how keep-warm requests are told where the log does not flag them.

    Raises:
        ProjectError: unknown layout.
        InputDataError: a file as a whole is unusable.
    """
    mapping = dict(fields or {})
    layout = mapping.pop("layout", None)
    if layout is not None and layout not in KNOWN_LAYOUTS:
        raise ProjectError(f"unknown log layout {layout!r}.", remedy=f"Use one of {', '.join(KNOWN_LAYOUTS)}, or map the columns.")
    mapping = {**KNOWN_LAYOUTS.get(layout or "", {}), **mapping}
    limits = limits or ReadLimits()
    budget = ByteBudget(limits.total_bytes)
    rule = pings or PingRule()
    kept: list[pa.Table] = []
    read = 0
    with QuarantineLog(source) as log:
        for file in files:
            with open_file(file, limits, budget) as opened:
                items = raw_records(opened, lambda _value: True)
                for batch in _batches(span_records(items, limits.excerpt_chars) if layout == "otel" else items):
                    read += len(batch)
                    records = [item for item in batch if isinstance(item, RawRecord)]
                    table, refused = to_requests([record.value for record in records], mapping)
                    for item in batch:
                        if isinstance(item, Quarantined):
                            log.add(file.uri, item)
                    for at, malformed in sorted(refused.items()):
                        log.add(file.uri, records[at].refuse(malformed, limits.excerpt_chars))
                    kept.append(rule.mark(table))
        by_reason = dict(sorted(log.by_reason.items()))
        quarantine = log.table()
    requests = pa.concat_tables(kept) if kept else REQUEST_SCHEMA.empty_table()
    return RecordTable(requests, quarantine, ReadCounts(read, requests.num_rows, sum(by_reason.values()), by_reason))


def _batches(items: RawItems) -> Iterator[list[RawRecord | Quarantined]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
