"""LIC-05: an eval set under a ban takes the claims that cite it, and only those."""

from __future__ import annotations

from ftplatform.licensing.removal.claims import Claim, claims_supported
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row
from ftplatform_tests.unit.licensing.factories import row_id
from ftplatform_tests.unit.licensing.removal.world import lost_grant, row_set, sentence, snapshot

BAD = row_set("eval_sets/bad", [row(sentence(1), source="raw/b"), row(sentence(2), source="raw/a")])
GOOD = row_set("eval_sets/good", [row(sentence(3), source="raw/a")])
CITES_BAD = Claim("releases/r1", "accuracy 81 %", (BAD.snapshot,))
CITES_GOOD = Claim("releases/r1", "refuses 99 %", (GOOD.snapshot,))


def test_exactly_the_claims_that_cite_it_are_unsupported() -> None:
    verdict = claims_supported([CITES_BAD, CITES_GOOD], [BAD, GOOD], lost_grant("raw/b"))
    assert verdict.decision is Decision.FAIL
    assert [c["standing"] for c in verdict.details["claims"]] == ["unsupported", "supported"]
    assert "1 of 2 rows of eval_sets/bad fell" in verdict.summary
    assert claims_supported([CITES_GOOD], [BAD, GOOD], lost_grant("raw/b")).passed


def test_what_cannot_be_judged_does_not_pass() -> None:
    orphan = row_set("eval_sets/orphan", [row(sentence(4), source="ours", parents=[row_id(9)])])
    empty = row_set("eval_sets/empty", [])
    cases = [
        ([], "no claims"),
        ([Claim("r", "s", (snapshot("other"),))], "not among the eval sets"),
        ([Claim("r", "s", ())], "cites no eval set"),
        ([Claim("r", "s", (orphan.snapshot,))], "unknown descent"),
        ([Claim("r", "s", (empty.snapshot,))], "has no rows"),
    ]
    for claims, told in cases:
        verdict = claims_supported(claims, [GOOD, orphan, empty], lost_grant("raw/b"))
        assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
        assert told in verdict.summary
