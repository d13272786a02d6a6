"""Request logs: reading public and own formats, hour-of-week traffic, idle gaps."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from ftplatform.errors import ProjectError
from ftplatform.rows.sources import list_files
from ftplatform.serving.idle import idle_gaps
from ftplatform.serving.request_log import REQUEST_SCHEMA, read_requests
from ftplatform.serving.traffic import hour_of_week
from ftplatform_tests.projects import write_jsonl

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


def test_fast_and_slow_columns_agree(tmp_path: Path) -> None:
    """A batch of one kind is converted by column, a mixed one value by value: the same records come out."""
    moments = [
        "2024-01-01T00:00:00.1234567Z",
        "2024-01-01 00:00:00.123456",
        "2024-01-01T01:00:00.123456+01:00",
        "2023-12-31T18:30:00.123456-05:30",
    ]
    plain: list[Mapping[str, Any]] = [
        {"time": moment, "total": 1.5, "output_tokens": 7, "is_ping": True, "adapter": "a"} for moment in moments
    ]
    write_jsonl(tmp_path / "plain.jsonl", plain)
    # One odd value in each column sends all of the batch down the other path.
    odd = {"time": 1_704_067_200.123456, "total": "1.5", "output_tokens": "7", "is_ping": "yes", "adapter": 7}
    write_jsonl(tmp_path / "mixed.jsonl", [*plain, odd])
    fast, slow = (read_requests(list_files([name], tmp_path)) for name in ("plain.jsonl", "mixed.jsonl"))
    assert slow.counts.quarantined == 0
    assert fast.table.equals(slow.table.slice(0, 4))
    assert len(set(slow.table["time"].to_pylist())) == 1
    assert slow.table.slice(4).to_pylist()[0]["adapter"] == "7"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"time": 0}, "invalid_timestamp"),
        ({"time": "9999-01-01"}, "invalid_timestamp"),
        ({"time": 1e300}, "invalid_timestamp"),
        ({"time": True}, "invalid_timestamp"),
        ({"time": "2024-01-01", "total": True}, "wrong_type"),
        ({"time": "2024-01-01", "total": "inf"}, "wrong_type"),
        ({"time": "2024-01-01", "total": 1e9}, "number_out_of_range"),
        ({"time": "2024-01-01", "output_tokens": 1.5}, "wrong_type"),
        ({"time": "2024-01-01", "is_ping": "maybe"}, "wrong_type"),
        ({"time": "2024-01-01", "adapter": ["a"]}, "wrong_type"),
    ],
)
def test_hostile_values_are_quarantined_alone(tmp_path: Path, record: dict, reason: str) -> None:
    write_jsonl(tmp_path / "log.jsonl", [{"time": "2024-01-01"}, record, {"time": "2024-01-02T00:00:00Z", "total": 2}])
    read = read_requests(list_files(["log.jsonl"], tmp_path))
    assert (read.counts.kept, read.counts.by_reason) == (2, {reason: 1})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_other_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"time": ["2024-01-01T00:00:00Z", "2024-01-01T00:00:05Z"], "total": [1.5, None], "is_ping": [False, True]})
    (frame.write_csv if suffix == "csv" else frame.write_parquet)(tmp_path / f"log.{suffix}")
    read = read_requests(list_files([f"log.{suffix}"], tmp_path))
    assert read.table["total"].to_pylist() == [1.5, None]
    assert read.table["is_ping"].to_pylist() == [False, True]


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


def test_rates_divide_by_how_long_an_hour_was_seen() -> None:
    week = 7 * 24 * 3600
    # 00:50 on two Mondays, and 02:10 on the second: of hour 0 ten minutes and a whole one were seen, of hour 2 one and ten minutes.
    profile = hour_of_week(requests(log(3_000, week + 3_000, week + 7_800))).to_pylist()
    assert len(profile) == 168
    first = profile[0]
    assert (first["hour"], first["requests"], first["observed"]) == (0, 2, 2)
    assert first["exposure"] == pytest.approx(7 / 6)
    assert first["rate"] == pytest.approx(2 / (7 / 6))
    # Garwood's bounds of a count of two, from tables: .2422 and 7.2247.
    assert (first["low"], first["high"]) == (pytest.approx(0.2422 / (7 / 6), rel=1e-3), pytest.approx(7.2247 / (7 / 6), rel=1e-4))
    assert profile[2]["rate"] == pytest.approx(1 / (7 / 6))
    assert (profile[100]["requests"], profile[100]["rate"], profile[100]["low"]) == (0, 0.0, 0.0)
    assert profile[100]["high"] == pytest.approx(3.6889, rel=1e-4)


def test_hours_never_observed_have_no_rate() -> None:
    profile = hour_of_week(requests(log(3_000, 4_200))).to_pylist()
    assert [h["hour"] for h in profile if h["observed"]] == [0, 1]
    assert profile[1]["requests"] == 1
    assert profile[2]["rate"] is None


def test_hours_are_those_of_the_time_zone() -> None:
    """Monday 00:30 UTC is still Sunday in New York (19:30), and already 05:30 in Mumbai's half-hour zone is 06:00."""
    for zone, hour in (("UTC", 0), ("America/New_York", 6 * 24 + 19), ("Asia/Kolkata", 6)):
        profile = hour_of_week(requests(log(1_800, 1_900)), timezone=zone).to_pylist()
        assert [h["hour"] for h in profile if h["requests"]] == [hour]


def test_pings_are_no_traffic_and_adapters_have_their_own_gaps() -> None:
    rows = log(0, 100, 400) + log(50, 60, adapter="b") + log(200, 300, ping=True)
    assert idle_gaps(requests(rows)) == {"gaps": 3, "median": 100.0, "p90": 260.0, "p99": 296.0, "longest": 300.0}
    assert sum(h["requests"] for h in hour_of_week(requests(rows)).to_pylist()) == 5


def test_empty_log() -> None:
    assert idle_gaps(requests([])) == {"gaps": 0, "median": None, "p90": None, "p99": None, "longest": None}
    assert all(h["rate"] is None for h in hour_of_week(requests([])).to_pylist())
