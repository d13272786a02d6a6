"""No log line carries personal data: not of the command line, not of a Dagster run, not in Dagster's database."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ftplatform.rows.masking import mask_logs
from ftplatform_tests.projects import REPOSITORY, edit, small_project

EMAIL, CARD = "jo.planted@example.org", "4111 1111 1111 1111"

#: A project's own reader that says too much, in every way Python has, and may fail on what it read.
READER = f'''
import logging
from dagster import get_dagster_logger
from ftplatform.rows.records import Message, Record
from ftplatform.rows.schema import Role

def read(file):
    logging.getLogger("vendor.reader").warning("reading the mail of %s", "{EMAIL}")
    get_dagster_logger().warning("the card is {CARD}")
    try:
        raise ValueError("no such card: {CARD}")
    except ValueError:
        logging.getLogger("vendor.reader.child").exception("failed on %(who)s", {{"who": "{EMAIL}"}})
    logging.getLogger("vendor.reader").warning("%d", "{EMAIL}")
    for at in range(30):
        yield Record([Message(Role.USER, f"question {{at}}"), Message(Role.ASSISTANT, f"answer {{at}}")], {{}}, at, b"")
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = small_project(tmp_path)
    (tmp_path / "talkative.py").write_text(READER)
    edit(file, lambda project: project["sources"]["tickets"].update(reader="talkative:read"))
    return file


def run(arguments: list[str], project: Path, home: Path) -> str:
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "FTPLATFORM_PROJECT": str(project), "DAGSTER_HOME": str(home), "COLUMNS": "300"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_line(project: Path, tmp_path: Path) -> None:
    shown = run(["-m", "ftplatform.cli", "run", 'key:"raw/tickets"', "--project", str(project)], project, tmp_path / "home")
    assert "reading the mail of [EMAIL]" in shown
    assert "no such card: [CARD]" in shown
    assert "failed on [EMAIL]" in shown
    assert EMAIL not in shown
    assert CARD not in shown


def test_a_dagster_run_and_its_database(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    arguments = ["asset", "materialize", "-m", "ftplatform.definitions", "--select", 'key:"raw/tickets"']
    shown = run(["-m", "dagster", *arguments], project, home)
    assert "the card is [CARD]" in shown
    assert "reading the mail of [EMAIL]" in shown
    with dg.DagsterInstance.from_ref(dg.DagsterInstance.local_temp(str(home)).get_ref()) as instance:
        (record,) = instance.get_run_records()
        logged = [
            event.to_json() if hasattr(event, "to_json") else repr(event) for event in instance.all_logs(record.dagster_run.run_id)
        ]
    assert any("the card is [CARD]" in line for line in logged)
    for text in (shown, *logged):
        assert EMAIL not in text
        assert CARD not in text


def test_without_it_they_would() -> None:
    """ADV: a filter on the root logger looks like it covers all; a child's records never pass through it."""
    code = f"""
import logging, sys
from ftplatform.rows.masking import MaskingFilter, mask_logs
logging.basicConfig(stream=sys.stdout, format="%(message)s")
if sys.argv[1] == "naive":
    logging.getLogger().addFilter(MaskingFilter())
else:
    mask_logs(); mask_logs()
logging.getLogger("some.child").warning("mail %s", "{EMAIL}")
"""
    said = {
        how: subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout
        for how in ("naive", "ours")
    }
    assert EMAIL in said["naive"]
    assert said["ours"] == "mail [EMAIL]\n"


def test_a_record_with_nothing_to_mask_keeps_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some formatters read them: those of web servers, for example."""
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
    mask_logs()
    make = logging.getLogRecordFactory()
    assert make("a", 30, "", 1, "%s of %s", ("one", "two"), None).args == ("one", "two")
    said = make("a", 30, "", 1, "%d of", ("4111 1111 1111 1111",), None)
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.handle(said)
    assert stream.getvalue() == "%d of (its arguments do not fit)\n"
