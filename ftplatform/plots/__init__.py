"""Small SVG charts for check results and reports: no script, no link, no external font, the same bytes for the same data."""

from __future__ import annotations

from ftplatform.plots.bar_chart import bars
from ftplatform.plots.embed import data_uri, markdown_image
from ftplatform.plots.forest_plot import forest
from ftplatform.plots.histogram_chart import histogram
from ftplatform.plots.line_chart import line

__all__ = ["bars", "data_uri", "forest", "histogram", "line", "markdown_image"]
