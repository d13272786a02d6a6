"""The removal page in a real browser: it filters and sorts, and a hostile row runs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from ftplatform.dedup.near import NearDedup, near_duplicates
from ftplatform.dedup.removal_page import removal_page
from ftplatform_tests import real_data
from ftplatform_tests.tables import row, table

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> where is my parcel please tell me"


@pytest.fixture
def page(shared_data: Path, tmp_path: Path) -> Iterator[Page]:
    """The page of real removals and of two hostile rows, open in Chromium."""
    hostile = [
        row(HOSTILE, "On its way.", slices=["<b>hostile</b>"]),
        row("so " + HOSTILE, "On its way.", slices=["<b>hostile</b>"]),
    ]
    rows = pa.concat_tables([real_data.banking77(shared_data, "train").slice(0, 2_000), table(hostile)])
    removed = near_duplicates(rows, settings=NearDedup(threshold=0.5, floor=1, balance_q=None)).removed
    path = tmp_path / "removals.html"
    path.write_text(removal_page(removed, title="Removed from splits/support", max_pairs=200), "utf-8")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "install chromium: make test does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        asked: list[str] = []
        said: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(path.as_uri())
        yield tab
        assert asked == [path.as_uri()]  # nothing was loaded
        assert said == []  # no error, and nothing the policy had to refuse
        browser.close()


def test_a_reader_filters_sorts_and_is_safe(page: Page) -> None:
    pairs = page.locator("article")
    total = pairs.count()
    assert total > 20
    assert page.title() == "Removed from splits/support"
    expect(page.locator("#count")).to_have_text(f"{total} pairs shown")
    expect(page.locator("article:visible del").first).to_have_css("text-decoration-line", "line-through")

    page.select_option("#slice", label="<b>hostile</b> (1)")
    expect(page.locator("article:visible")).to_have_count(1)
    expect(page.locator("#count")).to_have_text("1 pairs shown")
    assert "<script>" in page.locator("article:visible").inner_text()
    page.select_option("#slice", "")
    page.select_option("#reason", "near_duplicate_of_train")
    expect(page.locator("article:visible")).to_have_count(total)

    def similarities() -> list[float]:
        return [float(s) for s in pairs.evaluate_all("all => all.map(a => a.dataset.similarity)")]

    assert similarities() == sorted(similarities())
    page.select_option("#order", "-1")
    assert similarities() == sorted(similarities(), reverse=True)


def test_it_reads_in_the_dark(page: Page) -> None:
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(13, 17, 23)")
