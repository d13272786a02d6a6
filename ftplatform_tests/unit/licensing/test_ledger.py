"""The ledger table and the notices made from the same terms."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ftplatform.licensing.evidence import read_evidence
from ftplatform.licensing.ledger import LEDGER_SCHEMA, ledger_digest, ledger_table, rights_column
from ftplatform.licensing.notices import notices
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.rights import Use
from ftplatform.licensing.terms import Kind, SourceTerms
from ftplatform_tests.unit.licensing.factories import known

POLICY = default_policy()
TERMS = [
    known("tickets", "CC-BY-4.0"),
    SourceTerms(name="scraped", declared="Apache 2.0"),
    known("base", "llama3.1", kind=Kind.BASE_MODEL),
    known("writer", "llama3.1", kind=Kind.TEACHER),
    SourceTerms(name="syn", kind=Kind.SYNTHETIC, derived_from=("writer", "tickets")),
]


def test_one_row_per_thing_with_everything_that_decided() -> None:
    table = ledger_table(TERMS, POLICY)
    assert table.schema == LEDGER_SCHEMA
    assert table["source"].to_pylist() == ["base", "scraped", "tickets", "syn", "writer"]
    scraped = table.to_pylist()[1]
    assert (scraped["declared_raw"], scraped["declared"], scraped["status"], scraped["known"]) == (
        "Apache 2.0",
        None,
        "unknown",
        False,
    )
    assert json.loads(scraped["rights"])["train"]["level"] == "unknown"
    tickets = table.to_pylist()[2]
    assert tickets["evidence_sha256"] == [TERMS[0].evidence[0].sha256]
    assert tickets["policy"] == POLICY.digest
    assert rights_column(table)[2] | {} == {
        "source": "tickets",
        "kind": "source",
        "license": "CC-BY-4.0",
        "status": "active",
        "train": "allow",
        "evaluate": "allow",
        "commercial_model": "allow_if",
        "redistribute_data": "allow_if",
        "redistribute_weights": "allow_if",
        "teacher": "allow_if",
    }


def test_digest_ignores_order_and_layout_and_nothing_else() -> None:
    base = ledger_digest(ledger_table(TERMS, POLICY))
    assert ledger_digest(ledger_table(TERMS[::-1], POLICY)) == base
    relaid = replace(TERMS[0], evidence=(read_evidence(TERMS[0].evidence[0].path, b"THE TERMS,\n  as read.\n"),))
    assert ledger_digest(ledger_table([relaid, *TERMS[1:]], POLICY)) == base
    for changed in (replace(TERMS[0], declared="cc-by-nc-4.0"), replace(TERMS[0], concluded="MIT"), replace(TERMS[0], evidence=())):
        assert ledger_digest(ledger_table([changed, *TERMS[1:]], POLICY)) != base


def test_source_and_synthetic_set_may_share_a_name_but_two_facts_may_not() -> None:
    same_name = SourceTerms(name="tickets", kind=Kind.SYNTHETIC, derived_from=("writer",))
    assert ledger_table([*TERMS, same_name], POLICY).num_rows == 6
    with pytest.raises(ValueError, match="tickets"):
        ledger_table([*TERMS, known("tickets", "MIT")], POLICY)


def test_notices_list_what_is_owed_and_to_whom() -> None:
    found = {notice.name: notice for notice in notices(TERMS, [Use.TRAIN, Use.REDISTRIBUTE_WEIGHTS], POLICY)}
    assert set(found) == {"tickets", "scraped", "base", "writer"}
    assert [name for name, _ in found["tickets"].obligations] == ["attribution"]
    assert "llama_name_prefix" in dict(found["writer"].obligations)
    assert all(text and text != name for name, text in found["base"].obligations)
    assert found["tickets"].evidence == ("licenses/tickets.txt",)
