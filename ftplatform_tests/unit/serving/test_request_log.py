"""Request logs: reading public and own formats, hour-of-week traffic, idle gaps."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.errors import ProjectError
from ftplatform.rows.sources import list_files
from ftplatform.serving.request_log import REQUEST_SCHEMA, hour_of_week, idle_gaps, read_requests

MONDAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def log(*seconds: float, adapter: str = "a", ping: bool = False) -> list[dict]:
    return [{"time": MONDAY + datetime.timedelta(seconds=s), "adapter": adapter, "is_ping": ping} for s in seconds]


def requests(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)


def test_own_format_with_quarantine(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(
        '{"time": "2024-01-01T00:00:00Z", "adapter": "a", "time_to_first_token": 0.2, "total": 1.5, "is_ping": false}\n'
        '{"time": 1704067205.5, "total": 1}\n'
        '{"time": "2024-01-01", "total": -1}\n'
        '{"total": 1}\n'
        '{"time": "soon"}\n'
    )
    read = read_requests(list_files(["log.jsonl"], tmp_path))
    assert (read.counts.kept, read.counts.quarantined) == (2, 3)
    assert read.counts.by_reason == {"invalid_timestamp": 1, "missing_field": 1, "number_out_of_range": 1}
    assert read.table["time"].to_pylist() == [MONDAY, MONDAY + datetime.timedelta(seconds=5.5)]


def test_public_trace(shared_data: Path) -> None:
    files = list_files(["AzureLLMInferenceTrace_code.csv.gz"], shared_data / "azure_llm_2023")
    read = read_requests(files, fields={"layout": "azure"})
    assert (read.counts.kept, read.counts.quarantined) == (8_819, 0)
    times = read.table["time"].to_pylist()
    assert (max(times) - min(times)).total_seconds() == pytest.approx(3_436, abs=1)
    gaps = idle_gaps(read.table)
    assert gaps["gaps"] == 8_818
    assert 0 < float(gaps["median"] or 0) < float(gaps["longest"] or 0)


def test_unknown_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("TIMESTAMP\n2024-01-01\n")
    with pytest.raises(ProjectError, match="azure"):
        read_requests(list_files(["log.csv"], tmp_path), fields={"layout": "azur"})


def test_rates_divide_by_how_often_an_hour_was_seen() -> None:
    week = 7 * 24 * 3600
    # 00:50 on two Mondays, and 02:10 on the second: hours 0 and 2 are seen twice each.
    profile = hour_of_week(requests(log(3_000, week + 3_000, week + 7_800))).to_pylist()
    assert len(profile) == 168
    assert profile[0] == {"hour": 0, "requests": 2, "observed": 2, "rate": 1.0}
    assert profile[2] == {"hour": 2, "requests": 1, "observed": 2, "rate": 0.5}
    assert profile[100] == {"hour": 100, "requests": 0, "observed": 1, "rate": 0.0}


def test_hours_never_observed_have_no_rate() -> None:
    profile = hour_of_week(requests(log(3_000, 4_200))).to_pylist()
    assert [h["hour"] for h in profile if h["observed"]] == [0, 1]
    assert profile[1]["requests"] == 1
    assert profile[2]["rate"] is None


def test_pings_are_no_traffic_and_adapters_have_their_own_gaps() -> None:
    rows = log(0, 100, 400) + log(50, 60, adapter="b") + log(200, 300, ping=True)
    assert idle_gaps(requests(rows)) == {"gaps": 3, "median": 100.0, "p90": 260.0, "p99": 296.0, "longest": 300.0}
    assert sum(h["requests"] for h in hour_of_week(requests(rows)).to_pylist()) == 5


def test_empty_log() -> None:
    assert idle_gaps(requests([])) == {"gaps": 0, "median": None, "p90": None, "p99": None, "longest": None}
    assert all(h["rate"] is None for h in hour_of_week(requests([])).to_pylist())
