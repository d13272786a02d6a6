"""From declared, concluded and evidence to status and rights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftplatform.licensing.evidence import missing_evidence, read_evidence
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.rights import ALL_ALLOWED, ALL_UNKNOWN, Level, Use
from ftplatform.licensing.states import State
from ftplatform.licensing.terms import Kind, SourceTerms, assess, assess_all, conflict_loosens
from ftplatform_tests.unit.licensing.factories import known

POLICY = default_policy()


def evidence(text: str, path: str = "LICENSE"):
    return (read_evidence(path, text.encode()),)


def test_a_conclusion_with_evidence_is_known() -> None:
    found = assess(known("a", "CC-BY-4.0"), POLICY)
    assert (found.status, found.known, found.problems) == (State.ACTIVE, True, ())
    assert found.rights[Use.COMMERCIAL_MODEL].obligations == ("attribution",)


def test_a_tag_alone_is_unknown_however_permissive() -> None:
    found = assess(SourceTerms(name="a", declared="MIT"), POLICY)
    assert (found.status, found.known) == (State.UNKNOWN, False)
    assert {found.rights[use].level for use in Use} == {Level.UNKNOWN}
    assert "tag is not evidence" in found.problems[0]


def test_what_a_tag_forbids_is_believed() -> None:
    found = assess(SourceTerms(name="a", declared="cc-by-nc-4.0"), POLICY)
    assert found.rights[Use.COMMERCIAL_MODEL].level is Level.DENY
    assert found.rights[Use.TRAIN].level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        (SourceTerms(name="a"), "no license is declared or concluded"),
        (SourceTerms(name="a", concluded="MIT"), "without evidence"),
        (SourceTerms(name="a", concluded="MIT", evidence=evidence(" ")), "without evidence; LICENSE is empty"),
        (SourceTerms(name="a", concluded="MIT", evidence=(missing_evidence("L", "is gone"),)), "L is gone"),
        (SourceTerms(name="a", concluded="Apache 2.0", evidence=evidence("text")), "did you mean Apache-2.0"),
        (SourceTerms(name="a", declared="other", evidence=evidence("text")), "only a declared tag"),
    ],
)
def test_what_is_missing_is_named(terms: SourceTerms, problem: str) -> None:
    found = assess(terms, POLICY)
    assert not found.known
    assert found.rights == ALL_UNKNOWN
    assert problem in found.problems[0]


def test_declared_and_concluded_disagree_so_both_bind() -> None:
    found = assess(replace(known("a", "CC-BY-SA-3.0"), declared="Apache-2.0"), POLICY)
    assert (found.status, found.known) == (State.DISPUTED, True)
    assert {"share_alike", "attribution", "state_changes"} <= set(found.rights[Use.REDISTRIBUTE_DATA].obligations)
    assert not conflict_loosens(found, POLICY)

    looser = assess(replace(known("a", "CC-BY-4.0"), declared="cc-by-nc-4.0"), POLICY)
    assert looser.rights[Use.COMMERCIAL_MODEL].level is Level.DENY
    assert conflict_loosens(looser, POLICY)


def test_an_unreadable_tag_beside_a_conclusion_is_no_dispute() -> None:
    assert assess(replace(known("a", "MIT"), declared="other"), POLICY).status is State.ACTIVE


@pytest.mark.parametrize(
    "readme",
    [
        "Great data! For non-commercial research purposes.",
        "license: cc-by-nc-4.0",
        "Our code is Apache-2.0. The data is CC BY-NC-SA 4.0.",
        "You may not use it for commercial\n  purposes",
    ],
)
def test_evidence_that_contradicts_the_conclusion_blocks_everything(readme: str) -> None:
    """ADV: the tag and the conclusion say Apache-2.0, the README says otherwise."""
    terms = SourceTerms(name="a", declared="apache-2.0", concluded="Apache-2.0", evidence=evidence(readme, "README.md"))
    assert POLICY.rights(assess(terms, POLICY).concluded)[Use.COMMERCIAL_MODEL].usable  # trusting tag and conclusion errs
    found = assess(terms, POLICY)
    assert (found.status, found.known) == (State.DISPUTED, False)
    assert "README.md" in found.problems[0]
    assert found.rights[Use.COMMERCIAL_MODEL].level is Level.DENY
    assert not any(found.rights[use].usable for use in Use)


def test_evidence_that_agrees_with_a_restrictive_conclusion_is_fine() -> None:
    terms = SourceTerms(
        name="a", concluded="CC-BY-NC-4.0", evidence=evidence("Attribution-NonCommercial 4.0 International. Non-commercial.")
    )
    found = assess(terms, POLICY)
    assert found.known
    assert found.rights[Use.TRAIN].usable
    assert not found.rights[Use.COMMERCIAL_MODEL].usable


def test_both_texts_of_a_dual_license_are_weighed_already() -> None:
    gpl = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"
    assert assess(SourceTerms(name="a", concluded="MIT OR GPL-3.0-or-later", evidence=evidence(gpl)), POLICY).known
    assert not assess(SourceTerms(name="a", concluded="MIT", evidence=evidence(gpl)), POLICY).known


def test_a_milder_statement_adds_its_obligations_without_blocking() -> None:
    terms = SourceTerms(name="a", concluded="CC-BY-SA-4.0", evidence=evidence("The code is licensed under Apache-2.0"))
    found = assess(terms, POLICY)
    assert found.known
    assert "state_changes" in found.rights[Use.REDISTRIBUTE_DATA].obligations


def test_generated_data_has_no_license_of_its_own() -> None:
    found = assess(SourceTerms(name="s", kind=Kind.SYNTHETIC, derived_from=("teacher",)), POLICY)
    assert (found.known, found.rights) == (True, ALL_ALLOWED)
    orphan = assess(SourceTerms(name="s", kind=Kind.SYNTHETIC), POLICY)
    assert (orphan.known, orphan.rights) == (False, ALL_UNKNOWN)


def test_digest_changes_with_the_facts_and_not_with_the_layout_of_evidence() -> None:
    terms = known("a", "MIT", text="MIT License\n\nCopyright (c) 2020 A\n\nPermission is granted.")
    same = known("a", "MIT", text="MIT LICENSE\nCopyright (c) 2024 A\nPermission\nis granted.\n")
    assert terms.evidence[0].sha256 != same.evidence[0].sha256
    assert terms.digest == same.digest
    changes = [
        replace(terms, declared="cc-by-nc-4.0"),
        replace(terms, concluded="CC-BY-4.0"),
        replace(terms, concluded_by="somebody else"),
        replace(terms, kind=Kind.TEACHER),
        replace(terms, name="b"),
        replace(terms, derived_from=("x",)),
        replace(terms, evidence=()),
        replace(terms, evidence=evidence("MIT License. Permission is not granted.", "licenses/a.txt")),
    ]
    assert len({terms.digest, *(t.digest for t in changes)}) == len(changes) + 1


def test_one_name_cannot_mean_two_things() -> None:
    with pytest.raises(ValueError, match="'a'"):
        assess_all([known("a", "MIT"), known("a", "ISC")], POLICY)
