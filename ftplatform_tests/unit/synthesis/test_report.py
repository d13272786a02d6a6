"""The realism report in its three forms."""

from __future__ import annotations

import json

import pytest

from ftplatform.synthesis.calibration import calibrate_surface
from ftplatform.synthesis.remedies.resample import mix
from ftplatform.synthesis.remedies.style import condition_style
from ftplatform.synthesis.report import AS_WRITTEN, RealismReport, realism_report
from ftplatform.synthesis.report_page import realism_page
from ftplatform_tests.tables import asked
from ftplatform_tests.unit.synthesis.toy import clean, sample


@pytest.fixture(scope="module")
def report() -> RealismReport:
    remedies = {
        "style": lambda candidate, learn: condition_style(candidate, learn, 1),
        "mix": lambda candidate, learn: mix(candidate, learn, 0.5, 1),
    }
    reference = sample(2, 1300)
    return realism_report(
        sample(1, 900, clean), reference, remedies, name="<b>set</b>", calibration=calibrate_surface(reference), permutations=40
    )


def test_every_remedy_lowers_the_auc(report: RealismReport) -> None:
    written, *after = report.steps
    assert written.name == AS_WRITTEN
    assert written.verdict.ci_low is not None
    for step in after:
        assert step.verdict.ci_high is not None
        assert step.verdict.ci_high < written.verdict.ci_low


def test_remedies_do_not_see_what_they_are_measured_on() -> None:
    """ADV: rows mixed in from the very sample they are compared with look alike by construction."""
    reference, seen = sample(3, 1300), []

    def spy(candidate, learn):
        seen.append(set(learn["row_id"].to_pylist()))
        return candidate

    report = realism_report(sample(4, 600, clean), reference, {"spy": spy}, permutations=40)
    assert report.learned_from + report.measured_on == 1300
    assert len(seen[0]) < len(set(reference["row_id"].to_pylist()))


def test_record_and_text(report: RealismReport) -> None:
    record = report.to_record()
    assert json.loads(json.dumps(record)) == record
    assert [step["name"] for step in record["steps"]] == [AS_WRITTEN, "style", "mix"]
    assert record["calibration"]["splits"]
    lines = report.to_text().splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("as written")
    assert "fail" in lines[1]
    assert len(report.digest) == 64


def test_the_page_is_one_file_that_runs_nothing(report: RealismReport) -> None:
    page = realism_page(report)
    assert page == realism_page(report)
    assert "<script" not in page
    assert "&lt;b&gt;set&lt;/b&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 2
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_hostile_and_personal_text_is_escaped_and_masked() -> None:
    attack = "<script>alert(1)</script> mail me at jo@example.org"
    page = realism_page(realism_report(asked([attack] * 600), sample(5, 1200), {}, permutations=20))
    assert "<script" not in page
    assert "example.org" not in page


def test_too_few_rows_say_so() -> None:
    report = realism_report(sample(6, 20, clean), sample(7, 1200), {})
    assert "insufficient_evidence" in report.to_text()
    assert "insufficient_evidence" in realism_page(report)
