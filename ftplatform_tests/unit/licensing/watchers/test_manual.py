"""Notices by letter."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.canonical import sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.licensing.states import State
from ftplatform.licensing.watchers.manual import MAX_BYTES, read_notice
from ftplatform_tests.unit.licensing.factories import row_id

LETTER = b"%PDF-1.7 please remove our articles"
FORM = f"""\
schema: ftplatform.notice/1
id: acme-2026-11
kind: takedown
received: 2026-11-20
deadline: 2026-11-27T12:00:00+01:00
claimant: Acme Press
letter: acme.pdf
letter_sha256: {sha256_hex(LETTER)}
recorded_by: counsel
matcher:
  sources: [raw/news]
  uris: ["https://example.com/articles"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "acme.pdf").write_bytes(LETTER)
    return tmp_path


def form(folder: Path, text: str = FORM) -> Path:
    path = folder / "acme.yaml"
    path.write_text(text)
    return path


def test_notice_is_read_and_becomes_an_observation(folder: Path, now: datetime) -> None:
    notice = read_notice(form(folder))
    assert notice.deadline == datetime(2026, 11, 27, 11, tzinfo=UTC)
    assert notice.valid_from == notice.received == datetime(2026, 11, 20, tzinfo=UTC)
    (seen,) = notice.observations(now)
    assert (seen.source, seen.state, seen.notice, seen.rows) == ("raw/news", State.TAKEDOWN, "acme-2026-11", ())
    assert (seen.valid_from, seen.observed_at) == (notice.received, now)
    assert seen.exhibits[0].sha256 == sha256_hex(LETTER)
    mirror = notice.observations(now, {"raw/mirror": [row_id(2), row_id(1)]})
    assert {o.source: o.rows for o in mirror} == {"raw/news": (), "raw/mirror": tuple(sorted([row_id(1), row_id(2)]))}


def test_withdrawal_needs_rows(folder: Path, now: datetime) -> None:
    text = FORM.replace("kind: takedown", "kind: withdrawal")
    with pytest.raises(InputDataError, match="names no rows of raw/news"):
        read_notice(form(folder, text)).observations(now)
    listed = read_notice(form(folder, text + f"  row_ids: [{row_id(1)}]\n"))
    assert [(o.state, o.rows) for o in listed.observations(now)] == [(State.WITHDRAWN_ROWS, (row_id(1),))]


@pytest.mark.parametrize("kind", ["retraction", "counter_notice"])
def test_answers_lift_the_notice_they_name_and_no_other(folder: Path, now: datetime, kind: str) -> None:
    text = FORM.replace("kind: takedown", f"kind: {kind}")
    with pytest.raises(InputDataError, match="which notice"):
        read_notice(form(folder, text))
    with pytest.raises(InputDataError, match="which notice"):
        read_notice(form(folder, FORM + "refers_to: acme-2026-10\n"))
    (seen,) = read_notice(form(folder, text + "refers_to: acme-2026-10\n")).observations(now)
    assert (seen.state, seen.notice, seen.detail["id"]) == (State.REINSTATED, "acme-2026-10", "acme-2026-11")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema: ftplatform.notice/1", "schema: other/1", "acme.yaml:1: schema"),
        ("id: acme-2026-11", "id: ../etc", "acme.yaml:2: id"),
        ("kind: takedown", "kind: take_down", "acme.yaml:3: kind"),
        ("received: 2026-11-20", "received: yesterday", "acme.yaml:4: received"),
        ("received: 2026-11-20", "received: 2026-11-20T10:00:00", "no time zone"),
        ("deadline: 2026-11-27T12:00:00+01:00", "deadline: 2026-11-01", "before the letter"),
        ("claimant: Acme Press", "claimant: [a]", "not text"),
        ("claimant: Acme Press", "claimant: ", "not text"),
        ("claimant: Acme Press", 'claimant: "a\\u202eb"', "invisible"),
        ("claimant: Acme Press", "claim: x", "unknown key 'claim'"),
        ("claimant: Acme Press", "kind: withdrawal", "appears twice"),
        ("claimant: Acme Press", "claimant: &a x", "anchors"),
        ("claimant: Acme Press", "claimant: !!python/object/apply:os.system [x]", "tags"),
        ("claimant: Acme Press", "claimant: {a: {b: {c: {d: {e: f}}}}}", "nesting"),
        ("recorded_by: counsel\n", "", "lacks recorded_by"),
        ("letter: acme.pdf", "letter: ../acme.pdf", "no file name"),
        ("letter: acme.pdf", "letter: /etc/passwd", "no file name"),
        ("letter: acme.pdf", "letter: other.pdf", "cannot be read"),
        ("letter: acme.pdf", "letter: link.pdf", "no file name"),
        (sha256_hex(LETTER), "0" * 64, "not the hash"),
        (sha256_hex(LETTER), "abc", "no SHA-256"),
        ("sources: [raw/news]", "sources: raw/news", "not a list"),
        ("sources: [raw/news]", "source: [raw/news]", "unknown key 'source'"),
        ("sources: [raw/news]", "row_ids: [abc]", "no row id"),
        ('  sources: [raw/news]\n  uris: ["https://example.com/articles"]', "  sources: []", "names nothing"),
        ("schema:", "\tschema:", "not YAML"),
    ],
)
def test_bad_forms_are_refused_with_the_place(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "link.pdf").symlink_to(folder / "acme.pdf")
    assert old in FORM
    with pytest.raises(InputDataError) as caught:
        read_notice(form(folder, FORM.replace(old, new)))
    assert message in str(caught.value)
    assert str(folder) not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a: *b", b"# x\n" + b"x" * MAX_BYTES, b"[" * 5000, b"- a", b"a\n---\nb"])
def test_hostile_files_are_refused(folder: Path, data: bytes) -> None:
    path = folder / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(InputDataError):
        read_notice(path)
    with pytest.raises(InputDataError):
        read_notice(folder / "missing.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputDataError):
        read_notice(path)
