"""The certificate: only from a pass on this closure, verifiable, and honest about its limits."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from markdown_it import MarkdownIt

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.removal.certificate import Certificate, CertificateRefused, Replay, certify, render, verify
from ftplatform.licensing.removal.check import influence_removed
from ftplatform.licensing.removal.closure import Cache, Closure
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.licensing.removal.world import BASE, adapter, clean_probe, lost_grant, row_set, sentence

BAN = lost_grant("raw/b")
ROWS = [row(sentence(k), source="raw/a") for k in range(9)]
CACHE = Cache(name="dedup/index", kind="dedup index", snapshot="i", read=lambda: [table(ROWS)])
CLOSURE = adapter("adapters/new", row_set("splits/s", ROWS), caches=(CACHE,))
AT = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
POLICY = sha256_hex(b"policy")


def judged(closure: Closure) -> Verdict:
    return influence_removed(closure, BAN, clean={BASE}, probe=clean_probe(closure, BAN))


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judged(CLOSURE)


@pytest.fixture(scope="module")
def certificate(verdict: Verdict) -> Certificate:
    return certify(verdict, CLOSURE, BAN, policy=POLICY, at=AT)


def test_it_says_what_was_proved_and_what_was_not(certificate: Certificate) -> None:
    document = certificate.document
    assert document["counts"]["rows"] == 9
    assert document["counts"]["fallen"] == 0
    assert [cache["rows"] for cache in document["counts"]["caches"]] == [9]
    assert document["levels"]["L1"]["reached"]
    assert document["levels"]["L2"] == {"reached": False, "why": "the closure was not replayed"}
    assert document["probe"]["n"] == 299
    assert document["probe"]["ci_high"] < 0.01
    assert document["issued_at"] == "2026-11-22T08:30:00.000000Z"
    assert any("pre-train" in sentence for sentence in document["not_proved"])
    assert verify(certificate, CLOSURE, BAN) == ()


def test_it_survives_the_way_through_bytes(certificate: Certificate) -> None:
    again = Certificate.from_bytes(certificate.to_bytes())
    assert again.digest == certificate.digest
    assert verify(again, CLOSURE, BAN) == ()


def test_level_two_needs_these_weights_from_this_closure(verdict: Verdict) -> None:
    assert CLOSURE.weights is not None
    good = Replay(CLOSURE.digest, CLOSURE.weights, sha256_hex(b"record"))

    def level(closure: Closure, replay: Replay) -> tuple[bool, str]:
        said = certify(judged(closure) if closure is not CLOSURE else verdict, closure, BAN, policy=POLICY, at=AT, replay=replay)
        return said.document["levels"]["L2"]["reached"], said.document["levels"]["L2"]["why"]

    assert level(CLOSURE, good) == (True, "replaying the closure gave these weights bit by bit")
    assert level(CLOSURE, replace(good, weights=sha256_hex(b"x"))) == (False, "the replay gave other weights")
    assert level(CLOSURE, replace(good, closure=sha256_hex(b"x"))) == (False, "another closure was replayed")
    silent = replace(CLOSURE, weights=None)
    assert level(silent, replace(good, closure=silent.digest))[0] is False


def test_no_certificate_without_a_pass(verdict: Verdict) -> None:
    planted = adapter("adapters/new", row_set("splits/s", [*ROWS, row("theirs", source="raw/b")]))
    for closure, judgement, told in [
        (planted, judged(planted), "says fail"),
        (CLOSURE, influence_removed(CLOSURE, BAN, clean={BASE}), "says insufficient_evidence"),
        (CLOSURE, replace(verdict, decision=Decision.WARN), "says warn"),
        (CLOSURE, clean_probe(CLOSURE, BAN), "another check"),
        (CLOSURE, replace(verdict, check_version="0"), "version 0"),
        (replace(CLOSURE, snapshot=sha256_hex(b"later")), verdict, "stale: it judged another closure"),
        (planted, verdict, "stale: it judged another closure"),
    ]:
        with pytest.raises(CertificateRefused, match=told) as refusal:
            certify(judgement, closure, BAN, policy=POLICY, at=AT)
        assert refusal.value.remedy
    with pytest.raises(CertificateRefused, match="judged another ban"):
        certify(verdict, CLOSURE, lost_grant("raw/b", "raw/c"), policy=POLICY, at=AT)


def test_verify_names_what_differs(certificate: Certificate) -> None:
    def fields(document: dict, closure: Closure = CLOSURE, ban=BAN) -> set[str]:
        return {difference.field for difference in verify(Certificate(document), closure, ban)}

    document = json.loads(certificate.to_bytes())
    assert fields({**document, "issued_at": "2020-01-01T00:00:00.000000Z"}) == {"digest"}
    assert fields({**document, "counts": {**document["counts"], "rows": 10}}) == {"digest", "counts/rows"}
    assert fields(document, ban=lost_grant("raw/c")) == {"ban", "notice"}
    assert fields(document, closure=replace(CLOSURE, weights="0")) == {"closure", "artifact"}
    # The same snapshot name, other rows: the digests agree, the rows do not.
    planted = adapter("adapters/new", row_set("splits/s", [*ROWS, row("theirs", source="raw/b")]), caches=(CACHE,))
    assert planted.digest == CLOSURE.digest
    assert fields(document, closure=planted) == {"counts/rows", "counts/fallen", "counts/row_sets", "finding"}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schema":"other"}', b'{"a":1,"a":2}', b"\xff"])
def test_a_document_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(CertificateRefused):
        Certificate.from_bytes(data)


def test_a_document_with_holes_is_refused_or_differs_and_never_crashes(certificate: Certificate) -> None:
    document = json.loads(certificate.to_bytes())
    for key in document:
        for value in (None, [], {}, "x", 2**60):
            data = json.dumps({**document, key: value}).encode()
            try:
                read = Certificate.from_bytes(data)
            except CertificateRefused:
                continue
            assert verify(read, CLOSURE, BAN)
            try:
                render(read)
            except CertificateRefused:
                continue


def test_markdown_is_for_people_and_inert(certificate: Certificate) -> None:
    page = render(certificate)
    assert "9 rows, of which 0 are banned" in page
    assert "What this does not prove" in page
    assert "L2** not reached" in page
    assert certificate.digest in page
    assert page.count("<table>") == 0
    hostile = "adapters/<script>x</script> [a](javascript:b) | c"
    document = json.loads(certificate.to_bytes())
    document["artifact"]["name"] = hostile
    rendered = MarkdownIt("commonmark").enable("table").render(render(Certificate(document)))
    assert "<script>" not in rendered
    assert "href" not in rendered
