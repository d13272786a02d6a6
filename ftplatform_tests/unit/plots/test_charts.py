"""The four charts: well-formed, safe whatever the labels say, complete, small, and equal for equal data."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.plots import bars, forest, histogram, line

SVG = "{http://www.w3.org/2000/svg}"
# What our charts are made of; a script, link, image or foreignObject is none of it.
ELEMENTS = {"svg", "title", "desc", "rect", "text", "line", "path", "circle", "polygon"}
GEOMETRY = {"x", "y", "rx", "x1", "y1", "x2", "y2", "cx", "cy", "r", "d", "points", "width", "height", "viewBox", "transform"}
PAINT = {"fill", "fill-opacity", "stroke", "stroke-width", "stroke-linejoin", "stroke-dasharray"}
WORDS = {"role", "aria-labelledby", "id", "font-family", "font-size", "font-weight", "text-anchor"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"/><image href="javascript:alert(1)"/>',
    "' onload='alert(1)",
    "</text></svg><svg onload=alert(1)>",
    "]]><!--&amp;&#x0;",
    "\x00\x0b\ud800\ufffe\u202edlrow",
    "拒绝" * 40,
    "",
]


def parse(svg: str) -> ET.Element:
    """The document, after the promises that hold for every chart."""
    root = ET.fromstring(svg.encode("utf-8"))
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in ELEMENTS
        assert set(element.attrib) <= GEOMETRY | PAINT | WORDS
        assert not any(
            word in value for key, value in element.attrib.items() if key in GEOMETRY for word in ("nan", "inf", "e+", "e-")
        )
    assert root.tag == f"{SVG}svg"
    assert [child.tag for child in root[:3]] == [f"{SVG}title", f"{SVG}desc", f"{SVG}rect"]
    # A light background of its own: the dark mode of the page around it must not swallow dark text.
    _, _, width, height = (float(v) for v in root.attrib["viewBox"].split())
    assert root[2].attrib["fill"] == "#ffffff"
    assert float(root[2].attrib["width"]) >= width - 1
    assert float(root[2].attrib["height"]) >= height - 1
    assert root.attrib["aria-labelledby"].split() == [root[0].attrib["id"], root[1].attrib["id"]]
    for element in root.iter(f"{SVG}text"):
        assert -1 <= float(element.attrib["x"]) <= width
        assert 0 <= float(element.attrib["y"]) <= height
    return root


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def count(root: ET.Element, tag: str) -> int:
    return len(root.findall(f".//{SVG}{tag}"))


FOREST_ROWS = [("violence", 0.012, -0.004, 0.041), ("self-harm", 0.08, 0.03, 0.15), ("overall", 0.021, -0.005, 0.039)]


def test_forest_shows_every_row_and_the_limit():
    root = parse(
        forest(FOREST_ROWS, 0.05, title="Loss by category", x_label="loss", threshold_label="margin", highlight={"self-harm"})
    )
    shown = texts(root)
    assert {"violence", "self-harm", "overall", "margin 0.05", "loss", "Loss by category", "0.08 [0.03, 0.15]"} <= set(shown)
    assert (count(root, "circle"), count(root, "polygon")) == (2, 1)  # the marked row is a diamond, not only another color
    bold = [e.text for e in root.iter(f"{SVG}text") if "font-weight" in e.attrib]
    assert bold == ["Loss by category", "self-harm"]
    description = root[1].text or ""
    assert "margin 0.05" in description
    assert "self-harm: 0.08 [0.03, 0.15]" in description


def test_forest_places_estimates_on_the_axis():
    root = parse(forest([("a", 0.0, -1.0, 1.0), ("b", 0.5, 0.0, 1.0)]))
    a, b = (float(c.attrib["cx"]) for c in root.iter(f"{SVG}circle"))
    whiskers = [e for e in root.iter(f"{SVG}line") if e.attrib["stroke-width"] == "2" and e.attrib["y1"] == e.attrib["y2"]]
    left, right = float(whiskers[0].attrib["x1"]), float(whiskers[0].attrib["x2"])
    assert a == pytest.approx((left + right) / 2, abs=0.02)
    assert b == pytest.approx(left + 0.75 * (right - left), abs=0.02)


@pytest.mark.parametrize("open_bound", [None, math.inf, -math.inf])
def test_forest_draws_open_bounds_as_arrows(open_bound):
    root = parse(forest([("one-sided", 0.02, open_bound, 0.06)]))
    assert count(root, "polygon") == 1
    assert "0.02 [-∞, 0.06]" in texts(root)


def test_forest_without_an_estimate_says_so():
    root = parse(forest([("broken", math.nan, 0.1, 0.2)]))
    assert "n/a [0.1, 0.2]" in texts(root)
    assert count(root, "circle") == 0


def test_bars_are_as_long_as_their_values():
    root = parse(bars([("length", 2.0), ("slang", -1.0), ("none", 0.0)], 0.8, x_label="Cohen's d", highlight=["length"]))
    drawn = root.findall(f".//{SVG}rect")[1:]
    widths = [float(r.attrib["width"]) for r in drawn]
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-3)
    assert float(drawn[1].attrib["x"]) < float(drawn[0].attrib["x"])  # negative values grow to the left
    assert drawn[0].attrib["fill"] != drawn[1].attrib["fill"]
    assert {"length", "2", "-1", "limit 0.8", "Cohen's d"} <= set(texts(root))


def test_line_draws_series_in_order_of_x():
    root = parse(line({"reward": [(2, 3.0), (1, 1.0), (3, 9.0)], "task": [(1, 5.0), (2, 4.0), (3, 1.0)]}, 2, y_label="score"))
    paths = root.findall(f".//{SVG}path")
    assert len(paths) == 2
    xs = [float(p.split()[0].lstrip("M")) for p in paths[0].attrib["d"].replace("L", ",").split(",")]
    assert xs == sorted(xs)
    assert paths[0].attrib["stroke"] != paths[1].attrib["stroke"]
    assert "stroke-dasharray" in paths[1].attrib
    assert {"reward", "task", "limit 2", "score"} <= set(texts(root))


def test_line_keeps_spikes_when_it_thins():
    points = [(float(i), 1.0) for i in range(100_000)]
    points[54_321] = (54_321.0, 100.0)
    svg = line({"loss": points})
    path = parse(svg).find(f".//{SVG}path")
    assert path is not None
    heights = {p.split()[1] for p in path.attrib["d"].lstrip("M").split("L")}
    assert len(heights) == 2
    assert len(svg) < 30_000


def test_line_leaves_out_points_that_are_not_finite():
    root = parse(line({"loss": [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)], "gone": [(0, math.nan)]}))
    assert count(root, "circle") == 2
    assert "gone" not in texts(root)


def heights(svg: str) -> list[list[float]]:
    """Distinct heights above the base line of each outline of a histogram, in order."""
    outlines = []
    for path in parse(svg).findall(f".//{SVG}path"):
        ys = [float(p.split()[1]) for p in path.attrib["d"].lstrip("M").split("L")]
        outlines.append([ys[0] - y for y in ys])
    return outlines


def test_histogram_compares_shares_not_counts():
    few, many = heights(histogram({"few": [1, 1, 2, 3, 4, 4], "many": [1, 1, 2, 3, 4, 4] * 50}))
    assert few == many
    assert max(few) > 0


def test_histogram_counts_outliers_in_the_end_bin_and_says_so():
    values = np.random.default_rng(0).normal(10, 2, size=1000).tolist()
    calm, wild = histogram({"words": values}), histogram({"words": [*values, 1e6]})
    assert any("values outside" in t for t in texts(parse(wild)))
    assert max(heights(wild)[0]) == pytest.approx(max(heights(calm)[0]), rel=0.2)  # one outlier flattens nothing
    assert "words (n = 1,001)" in texts(parse(wild))


def test_histogram_of_one_value():
    assert max(heights(histogram({"constant": [3.0] * 10}))[0]) > 0


def chart_with(label: str) -> list[str]:
    return [
        forest([(label, 0.1, 0.0, 0.2)], 0.1, title=label, x_label=label, threshold_label=label, highlight=[label]),
        bars([(label, 0.1)], 0.1, title=label, x_label=label, threshold_label=label, highlight=[label]),
        line({label: [(0, 1), (1, 2)], "other": [(0, 2)]}, 1, title=label, x_label=label, y_label=label, threshold_label=label),
        histogram({label: [1.0, 2.0, 3.0]}, 2, title=label, x_label=label, threshold_label=label),
    ]


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_stay_text(label):
    for svg in chart_with(label):
        parse(svg)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60))
def test_any_text_is_a_label(label):
    for svg in chart_with(label):
        parse(svg)


def test_labels_survive_escaping():
    assert "<script>alert(1)</script>" in texts(parse(forest([("<script>alert(1)</script>", 0.1, 0.0, 0.2)])))
    assert "R&D \"x\" 'y'" in texts(parse(bars([("R&D \"x\" 'y'", 1.0)])))


anything = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(anything, anything, anything), min_size=1, max_size=6), st.none() | anything)
def test_any_numbers_make_a_chart(rows, threshold):
    parse(forest([(f"r{i}", *row) for i, row in enumerate(rows)], threshold))
    parse(bars([(f"r{i}", row[0]) for i, row in enumerate(rows)], threshold))
    parse(line({"a": [row[:2] for row in rows], "b": [row[1:] for row in rows]}, threshold))
    parse(histogram({"a": [v for row in rows for v in row]}, threshold))


EMPTY: list[Callable[[], str]] = [
    lambda: forest([]),
    lambda: bars([]),
    lambda: line({}),
    lambda: line({"a": []}),
    lambda: line({"a": [(0, math.nan)]}),
    lambda: histogram({}),
    lambda: histogram({"a": []}),
    lambda: histogram({"a": [math.inf]}),
]


@pytest.mark.parametrize("draw", EMPTY)
def test_nothing_to_show_is_said(draw):
    assert "No data" in texts(parse(draw()))


def test_charts_stay_small_and_count_what_they_leave_out():
    name = "a slice with a rather long name & <odd> characters, number"
    many = [
        (forest([(f"{name} {i}", i / 7, i / 9, i / 5) for i in range(500)], 3.0), "and 460 more rows"),
        (bars([(f"{name} {i}", i / 7) for i in range(500)], 3.0), "and 460 more rows"),
        (line({f"{name} {i}": [(x / 3, math.sin(x + i)) for x in range(5000)] for i in range(9)}), "and 3 more series"),
    ]
    for svg, note in many:
        assert note in texts(parse(svg))
        assert len(svg.encode()) < 30_000
    rng = np.random.default_rng(0)
    crowded = histogram({f"{name} {i}": rng.normal(i, 1, 20_000).tolist() for i in range(7)})
    assert any("3 more samples" in t for t in texts(parse(crowded)))
    assert len(crowded.encode()) < 30_000


def test_equal_data_is_equal_bytes_and_ids_do_not_collide():
    first, again = forest(FOREST_ROWS, 0.05), forest(list(FOREST_ROWS), 0.05)
    other = forest(FOREST_ROWS, 0.06)
    assert first == again
    assert parse(first)[0].attrib["id"] != parse(other)[0].attrib["id"]  # both may stand on one page
