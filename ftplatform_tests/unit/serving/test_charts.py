"""The two pictures: well formed, the same for the same data, and they show what they say."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from ftplatform.serving.charts import cold_by_day, gap_plot, heat_map, shade, slow_by_gap
from ftplatform.serving.cold_start import expected_cold_starts
from ftplatform.serving.idle import touches
from ftplatform.serving.idle_threshold import declared, fit_threshold
from ftplatform_tests.unit.serving.simulated import arrivals, served, table

CALM = np.where(np.isin(np.arange(24), (2, 3, 4, 5)), 0.05, 1.5)
SVG = "{http://www.w3.org/2000/svg}"


def test_the_heat_map_has_a_cell_for_every_hour() -> None:
    found = expected_cold_starts(table(arrivals(np.random.default_rng(0), 7, CALM)), declared(300.0))
    assert found is not None
    svg = heat_map(found.hours)
    root = ET.fromstring(svg)
    assert len(root.findall(f"{SVG}rect")) == 1 + 168 + 7
    assert "Mon-Sun 02-06" in (root.findtext(f"{SVG}desc") or "")
    assert svg == heat_map(found.hours)
    days = cold_by_day(found.hours)
    assert [len(day) for day in days] == [24] * 7
    assert min(share for day in days for share in day[2:6] if share is not None) > 0.3
    empty = expected_cold_starts(table(np.array([0.0, 10.0])), declared(300.0))
    assert empty is not None
    ET.fromstring(heat_map(empty.hours))


def test_the_gap_plot_shows_every_slow_request_and_the_threshold() -> None:
    rng = np.random.default_rng(1)
    log = touches(served(rng, arrivals(rng, 3, CALM)))
    fit = fit_threshold(log)
    root = ET.fromstring(gap_plot(log.idle, log.first_token, fit.slow, fit.threshold))
    assert len(root.findall(f"{SVG}polygon")) == fit.slow.sum()
    assert "fitted threshold" in "".join(text.text or "" for text in root.iter(f"{SVG}text"))
    nothing = ET.fromstring(gap_plot(np.array([np.nan]), np.array([1.0]), np.array([False]), None))
    assert "No data" in "".join(text.text or "" for text in nothing.iter(f"{SVG}text"))


def test_gap_classes_count_every_known_gap_once() -> None:
    rng = np.random.default_rng(2)
    log = touches(served(rng, arrivals(rng, 3, CALM)))
    classes = slow_by_gap(log, fit_threshold(log).slow)
    assert sum(c.requests for c in classes) == np.isfinite(log.idle).sum()
    assert [c.slow for c in classes if c.high <= 100] == [0] * sum(c.high <= 100 for c in classes)
    assert sum(c.slow for c in classes) == fit_threshold(log).slow.sum()
    assert slow_by_gap(touches(table(np.zeros(0))), np.zeros(0, bool)) == []


def test_shades_rise_with_the_probability() -> None:
    assert [shade(p) for p in (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 1.0)] == [0, 1, 2, 3, 4, 5, 5]
