"""The real Dagster UI in a real browser: what a person sees of a project with a failing check and hostile rows."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

from ftplatform.defs import running
from ftplatform.defs.instance import open_instance
from ftplatform.defs.keys import Family
from ftplatform_tests.projects import REPOSITORY, dialogues, plan_of, small_project, write_jsonl

CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "[click me](javascript:document.title='owned')",
]


def hostile_project(root):
    """Every family has an asset; a check fails on rows that try to run code in the reader's browser."""

    def change(project):
        license_ = project["sources"]["tickets"]["license"]
        project["sources"]["hostile"] = {"path": "data/hostile.jsonl", "license": license_}
        project["sources"]["tickets"]["license"] = {"declared": "MIT"}  # a tag alone: refused
        project["datasets"]["one"]["sources"] = ["tickets", "hostile"]
        project["synthetic"] = {"made": {"path": "data/chats.jsonl", "teacher": {"id": "teacher", "license": license_}}}
        project["feedback"] = {"thumbs": {"path": "data/feedback.jsonl", "license": license_}}
        project["rewards"] = {"thumbs": {"path": "data/rewards.jsonl"}}
        project["endpoints"] = {"api": {"path": "data/requests.jsonl.gz"}}
        brief = {"id": "brief", "text": "It is brief.", "rule": {"kind": "max_words", "value": "9"}}
        project["rubrics"] = {"short": {"purpose": "eval", "author": "kim@example.com", "judge": "rules", "criteria": [brief]}}

    file = small_project(root, change)
    bundled = file.parents[0]
    examples = REPOSITORY / "examples" / "support" / "data"
    for source, target in (
        ("feedback_events.jsonl", "feedback.jsonl"),
        ("rewards.jsonl", "rewards.jsonl"),
        ("requests.jsonl.gz", "requests.jsonl.gz"),
    ):
        shutil.copyfile(examples / source, bundled / "data" / target)
    question = dialogues(40, seed=3)[0]["messages"][0]["content"]
    rows = [
        {
            "messages": [{"role": "user", "content": f"{text} {i}"}, {"role": "assistant", "content": f"{text} answered {i}"}],
            "slices": [text],
            "group": text + str(i),
        }
        for i, text in enumerate(HOSTILE)
    ]
    # The leaked item carries hostile text as its answer, so that it must turn up in the evidence of contamination_exact.
    rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": HOSTILE[0] + HOSTILE[2]}]})
    write_jsonl(root / "data" / "hostile.jsonl", rows)
    return file


@pytest.fixture(scope="module")
def webserver(tmp_path_factory):
    root = tmp_path_factory.mktemp("ui")
    file = hostile_project(root)
    plan = plan_of(file)
    before = os.environ.pop("DAGSTER_HOME", None)
    with open_instance(plan.root) as instance:
        # The license of tickets is unknown, which stops its descendants in one run; each stage is asked for by itself.
        for selection in (
            'key:"raw/*" or key:"synthetic/*" or key:"feedback/*" or key:"eval_sets/*" or key:"license_ledger"',
            "corpora/one",
            "splits/one",
            "reward_ledgers/thumbs",
            "serving/api",
        ):
            running.materialize(plan, instance, selection)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "DAGSTER_HOME": str(root / ".ftplatform" / "dagster"), "FTPLATFORM_PROJECT": str(file)}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dagster_webserver",
            "-m",
            "ftplatform.definitions",
            "-d",
            str(root),
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
        ],
        env=environment,
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    base = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{base}/server_info", timeout=5).read()
            break
        except OSError:
            assert process.poll() is None, "the webserver ended"
            assert time.monotonic() < deadline, "the webserver did not come up"
            time.sleep(0.5)
    yield base
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
    os.environ.pop("DAGSTER_HOME", None)
    if before is not None:
        os.environ["DAGSTER_HOME"] = before


@pytest.fixture
def page(webserver):
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "install chromium: make test does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=CHROMIUM_ARGUMENTS)
        page = browser.new_context(viewport={"width": 1900, "height": 1400}).new_page()
        page.set_default_timeout(60_000)
        outside, dialogs = [], []
        page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((webserver, "data:", "blob:")) else None)
        page.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
        yield page
        assert outside == [], "the UI talks to loopback only"
        assert dialogs == []
        browser.close()


def test_the_lineage_page_shows_all_groups(page, webserver, tmp_path):
    page.goto(f"{webserver}/asset-groups")
    for family in Family:
        expect(page.get_by_text(str(family), exact=True).first).to_be_visible(timeout=60_000)
    page.screenshot(path=str(tmp_path / "lineage.png"))
    assert (tmp_path / "lineage.png").stat().st_size > 20_000


def test_a_failing_check_shows_plot_evidence_and_remedy_and_hostile_text_is_inert(page, webserver, tmp_path):
    page.goto(f"{webserver}/assets/splits/one?view=checks&checkDetail=contamination_exact")
    expect(page.get_by_text("contamination_exact").first).to_be_visible()
    expect(page.get_by_text("Failed").first).to_be_visible()
    expect(page.get_by_text("remedy", exact=True).first).to_be_visible()
    expect(page.get_by_text("evidence", exact=True).first).to_be_visible()
    expect(page.get_by_text("plot", exact=True).first).to_be_visible()
    page.screenshot(path=str(tmp_path / "check.png"), full_page=True)

    buttons = page.get_by_text("Show table", exact=False)
    if buttons.count():
        buttons.first.click()
    expect(page.get_by_text("<script>document.title='owned'</script>", exact=False).first).to_be_visible()
    assert page.title() != "owned"
    assert page.locator("a[href^='javascript:']").count() == 0
    assert page.locator("img[onerror]").count() == 0


def test_hostile_rows_in_a_preview_are_inert(page, webserver):
    page.goto(f"{webserver}/assets/raw/hostile?view=overview")
    expect(page.get_by_text("hostile").first).to_be_visible()
    page.wait_for_timeout(2_000)
    assert page.title() != "owned"
    assert page.locator("a[href^='javascript:']").count() == 0
    assert page.locator("img[onerror]").count() == 0


def test_the_plot_is_an_image_in_the_page(page, webserver):
    page.goto(f"{webserver}/assets/raw/tickets?view=checks&checkDetail=license_known")
    expect(page.get_by_text("Failed").first).to_be_visible()
    show = page.get_by_text("[Show Markdown]", exact=False)
    expect(show.first).to_be_visible()
    show.first.click()
    image = page.locator("img[src^='data:image/svg+xml']")
    expect(image.first).to_be_visible()
    assert image.first.evaluate("i => i.naturalWidth") > 0
