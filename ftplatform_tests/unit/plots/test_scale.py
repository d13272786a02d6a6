"""Axes and numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftplatform.plots.canvas import clean, fit_text
from ftplatform.plots.scale import fit_scale, format_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (0.05, "0.05"),
        (0.1 + 0.2, "0.3"),
        (0.0123456, "0.0123"),
        (0.00034, "0.00034"),
        (0.000012345, "1.23e-5"),
        (1e-300, "1e-300"),
        (-2.5, "-2.5"),
        (12.345, "12.3"),
        (999.6, "1,000"),
        (1000, "1,000"),
        (80_000, "80,000"),
        (1_234_567.8, "1,234,568"),
        (12_345_678, "1.23e7"),
        (math.nan, "n/a"),
        (math.inf, "n/a"),
        (None, "n/a"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert format_number(value) == text


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15), min_size=1, max_size=20))
@example([-228690246776919.0, -231690245831839.0])
def test_an_axis_holds_its_values_between_even_ticks(values):
    scale = fit_scale(values, 0.0, 100.0)
    slack = 1e-6 * (scale.high - scale.low)
    assert scale.low - slack <= min(values) <= max(values) <= scale.high + slack
    assert 2 <= len(scale.ticks) <= 9
    steps = [b - a for a, b in zip(scale.ticks, scale.ticks[1:], strict=False)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)
    assert len(set(scale.tick_labels())) == len(scale.ticks)
    assert all(0 <= scale(v) <= 100 for v in values)


def test_ticks_are_round():
    assert fit_scale([0.003, 0.148], 0, 1, max_ticks=6).ticks == (0.0, 0.05, 0.1, 0.15)
    assert fit_scale([0.003, 0.148], 0, 1, max_ticks=6).tick_labels() == ["0.00", "0.05", "0.10", "0.15"]
    assert fit_scale([-3, 1500], 0, 1, max_ticks=8).tick_labels()[-1] == "1,500"
    assert fit_scale([], 0, 1).ticks[0] == 0.0


def test_an_upside_down_axis_maps_high_to_the_top():
    scale = fit_scale([0.0, 10.0], 200.0, 0.0)
    assert (scale(0.0), scale(10.0), scale(5.0)) == (200.0, 0.0, 100.0)
    assert scale(1e9) == 0.0  # beyond the axis is its end


def test_long_text_is_cut_by_width():
    assert fit_text("short", 200, 12) == "short"
    narrow, wide = fit_text("i" * 200, 200, 12), fit_text("W" * 200, 200, 12)
    assert narrow.endswith("…")
    assert len(narrow) > 2 * len(wide)
    assert len(fit_text("拒" * 200, 200, 12)) <= 200 / 12


def test_clean_keeps_one_line_of_legal_characters():
    assert clean(" a\tb\r\nc ") == "a b c"
    assert clean("\x00x\ud800\u202e") == "\ufffdx\ufffd\ufffd"
    assert clean("abcdef", 4) == "abc…"
