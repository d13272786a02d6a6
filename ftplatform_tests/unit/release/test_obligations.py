"""LIC-15: what the licenses ask is looked for in the finished release; what only a person can know is asked of a person."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.errors import ProjectError
from ftplatform.licensing.evidence import read_evidence
from ftplatform.licensing.notices import Confirmations, Notice, credit_lines, license_address, notices, released_name
from ftplatform.licensing.obligations import LICENSE_TEXT_WORDS, obligations_met
from ftplatform.licensing.policy import default_policy, load_policy
from ftplatform.licensing.terms import Kind, SourceTerms
from ftplatform.project.loading import load_project
from ftplatform.project.models import Adapter
from ftplatform.release.card import render_card, render_notice
from ftplatform.release.records import notice_record, text_name
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import REPOSITORY, edit, small_project
from ftplatform_tests.unit.closure.factories import clean_closure, small_package

POLICY = default_policy()
LONG = " ".join(f"word{number}" for number in range(LICENSE_TEXT_WORDS)).encode()
SOURCE, BASE = "raw/my_tickets", "base_models/llama"


def terms(name: str, license_: str, text: bytes = b"The terms, as read.", kind: Kind = Kind.SOURCE) -> SourceTerms:
    evidence = (read_evidence(f"licenses/{name}.txt", text),)
    return SourceTerms(name=name, kind=kind, declared=license_, concluded=license_, concluded_by="counsel", evidence=evidence)


class World:
    """A rendered release of some terms; `change` edits what a reader would see before it is judged."""

    def __init__(self, tmp_path: Path) -> None:
        closure, _ = clean_closure(small_package(tmp_path))
        self.closure = json.loads(closure.document)

    def judge(
        self,
        found: list[SourceTerms],
        uses: list[str],
        confirmations: Confirmations | None = None,
        *,
        adapter: str = "support",
        texts: Mapping[str, bytes] | None = None,
        change: Any = None,
    ) -> Verdict:
        shipped = {e.path: b"The terms, as read." for t in found for e in t.evidence} if texts is None else texts
        owed = notices(found, uses, POLICY, texts=shipped, confirmations=confirmations)
        names = {path: text_name(path, data) for path, data in shipped.items()}
        name = released_name(adapter, owed)
        card = render_card(
            name=name,
            description="",
            closure=self.closure,
            closure_digest="c",
            checks=[],
            ledger=[],
            notices=[notice_record(notice, names) for notice in owed],
        )
        files = {names[path]: data for path, data in shipped.items()}
        if change is not None:
            card, files = change(card, files)
        return obligations_met(owed, release=name, card=card, files=files, policy=POLICY, confirmations=confirmations)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def missing(verdict: Verdict) -> set[tuple[str, str]]:
    return {(str(row["obligation"]), str(row["owed_to"])) for row in verdict.evidence}


# ---- attribution --------------------------------------------------------------------------------------------------------------


def test_a_credited_source_is_attributed(world: World) -> None:
    verdict = world.judge([terms(SOURCE, "CC-BY-4.0")], ["commercial_model"], {"attribution": "Jane Doe & others <jane@x.org>"})
    assert verdict.decision is Decision.PASS, verdict.summary
    assert verdict.details["obligations"] == {SOURCE: ["attribution"]}


@given(text=st.text(min_size=1, max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_people_are_called_they_are_found_on_the_card(world: World, text: str) -> None:
    verdict = world.judge([terms(SOURCE, "CC-BY-4.0")], ["commercial_model"], {"attribution": text})
    assert verdict.decision is (Decision.PASS if text.strip() else Decision.FAIL)


def test_naming_the_source_is_not_naming_its_creators(world: World) -> None:
    """ADV: the obvious check looks for the source, or the word attribution, in the notice. Both are there; no creator is."""
    found = [terms(SOURCE, "CC-BY-4.0")]
    (owed,) = notices(found, ["commercial_model"], POLICY)
    notice = render_notice("support", [notice_record(owed, {})])
    assert "my\\_tickets" in notice
    assert "attribution" in notice
    verdict = world.judge(found, ["commercial_model"])
    assert verdict.decision is Decision.FAIL
    assert missing(verdict) == {("attribution", SOURCE)}
    assert "the model card does not say who created it" in verdict.summary
    assert "'obligations' of the adapter" in verdict.remedy


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("Jane Doe", "who created it"),
        (r"CC-BY-4\.0", "its license"),
        (r"\(https://spdx\.org[^)]*\)", "where the license is found"),
        (r"- Changed: .*", "what was changed"),
        (r"### raw/my\\_tickets", "does not name it"),
    ],
)
def test_whatever_is_taken_off_the_card_is_missed(world: World, pattern: str, says: str) -> None:
    def without(card: str, files: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
        cut, times = re.subn(pattern, "", card)
        assert times, "what is to be taken off was there"
        return cut, {}

    verdict = world.judge([terms(SOURCE, "CC-BY-4.0")], ["commercial_model"], {"attribution": "Jane Doe"}, change=without)
    assert verdict.decision is Decision.FAIL
    assert says in verdict.summary


def test_credit_in_the_section_of_another_source_does_not_count(world: World) -> None:
    """ADV: searching the whole card finds the name, given to somebody else's data."""
    found = [terms("raw/a", "CC-BY-4.0"), terms("raw/b", "CC-BY-4.0")]
    verdict = world.judge(found, ["commercial_model"], {"attribution": {"raw/a": "Jane Doe"}})
    assert missing(verdict) == {("attribution", "raw/b")}
    both = {"attribution": {"raw/a": "Jane Doe", "raw/b": "ACME"}}
    assert world.judge(found, ["commercial_model"], both).decision is Decision.PASS


def test_creators_are_read_from_real_license_files(shared_data: Path) -> None:
    def read(file: str) -> tuple[str, ...]:
        return credit_lines((shared_data / file).read_bytes())

    assert read("abcd/LICENSE") == ("Copyright (c) 2021 ASAPP Research",)
    assert read("gsm8k/LICENSE") == ("Copyright (c) 2021 OpenAI",)
    assert read("dolly_slice/LICENSE.txt") == ("Copyright (c) 2023 Salesforce, Inc",)
    # The legal code of Creative Commons speaks of creators and copyright on every page and names nobody.
    for file in ("banking77/LICENSE", "xstest/LICENSE", "sgd_sample/LICENSE.txt", "clinc150/LICENSE"):
        assert "creators" in (text := (shared_data / file).read_text().casefold()) or "author" in text
        assert read(file) == (), file


@pytest.mark.parametrize(
    ("text", "credits"),
    [
        ('The docs are under CC BY. Credit line: "Tarnwell help center".', ("Tarnwell help center",)),
        ("Creators: Ann, Bob\r\nlicense: cc-by-4.0", ("Ann, Bob",)),
        ("# © 2019-2021 The Corpus Project", ("© 2019-2021 The Corpus Project",)),
        ("Copyright 2020 Kim", ("Copyright 2020 Kim",)),
        ("   (c) You must retain, in the Source form of any Derivative Works", ()),
        ("Copyright [yyyy] [name of copyright owner]", ()),
        ("Copyright (C) 2007 Free Software Foundation, Inc. <https://fsf.org/>", ()),
        ("The copyright notice and this permission notice shall be included", ()),
    ],
)
def test_credit_lines(text: str, credits: tuple[str, ...]) -> None:
    assert credit_lines(text.encode()) == credits


def test_the_bundled_project_credits_its_help_center() -> None:
    text = (REPOSITORY / "examples" / "support" / "licenses" / "help_center.txt").read_bytes()
    assert credit_lines(text) == ("Tarnwell help center",)


def test_a_hostile_license_file_is_read_in_time() -> None:
    started = time.perf_counter()
    for text in ("copyright (c)" + " " * 2_000_000, "author:" * 300_000, "creators" * 250_000, "\n" * 2_000_000):
        assert len(credit_lines(text.encode())) <= 1
    assert time.perf_counter() - started < 10


def test_a_scan_names_nobody() -> None:
    assert credit_lines(b"%PDF-1.7\nCopyright (c) 2021 X") == credit_lines(b"\x00Copyright (c) 2021 X") == ()


def test_addresses_of_licenses() -> None:
    assert license_address("CC-BY-SA-4.0") == "https://spdx.org/licenses/CC-BY-SA-4.0.html"
    assert license_address("LicenseRef-scancode-llama-3.1-license-2024") == (
        "https://scancode-licensedb.aboutcode.org/llama-3.1-license-2024.html"
    )
    assert license_address("LicenseRef-Tarnwell-Own") is None


# ---- license text, Llama ----------------------------------------------------------------------------------------------------------


def test_the_license_text_has_to_be_in_the_release(world: World) -> None:
    found = [terms(SOURCE, "MIT")]
    path = f"licenses/{SOURCE}.txt"
    uses = ["redistribute_weights"]
    assert world.judge(found, uses, texts={path: LONG}).decision is Decision.PASS
    assert "is not in the release" in world.judge(found, uses, texts={}).summary
    dropped = world.judge(found, uses, texts={path: LONG}, change=lambda card, files: (card, {}))
    assert "is not in the release" in dropped.summary, "the card points to a file that is not there"
    # ADV: a file is there, and it only names the license.
    pointer = world.judge(found, uses, texts={path: b"SPDX-License-Identifier: MIT\n"})
    assert "names the license and is not its text" in pointer.summary
    said = {"license_notice": "The letter is the whole license; counsel has read it."}
    assert world.judge(found, uses, said, texts={path: b"You may."}).decision is Decision.PASS


LLAMA_SAID = {
    "acceptable_use": "Our terms of service, section 7, pass the policy on.",
    "monthly_users_below_700_million": "Counsel confirmed it on 2026-01-10.",
}


def llama(world: World, adapter: str, said: Confirmations = LLAMA_SAID, change: Any = None) -> Verdict:
    found = [terms(BASE, "llama3.1", LONG, Kind.BASE_MODEL)]
    uses = ["train", "commercial_model", "redistribute_weights"]
    texts = {f"licenses/{BASE}.txt": LONG}
    return world.judge(found, uses, said, adapter=adapter, texts=texts, change=change)


def test_a_llama_is_named_so_and_says_so(world: World) -> None:
    assert llama(world, "llama-support").decision is Decision.PASS
    assert missing(llama(world, "support")) == {("llama_name_prefix", BASE)}
    assert missing(llama(world, "my-llama")) == {("llama_name_prefix", BASE)}, "at the beginning, not somewhere"
    silent = llama(world, "llama-support", change=lambda card, files: (card.replace("Built with Llama", ""), files))
    assert missing(silent) == {("built_with_llama", BASE)}
    assert missing(llama(world, "llama-support", said={})) == {("acceptable_use", BASE), ("monthly_users_below_700_million", BASE)}


def test_the_public_name_is_spelled_as_the_license_spells_it() -> None:
    owed = notices([terms(BASE, "llama3.1", kind=Kind.BASE_MODEL)], ["redistribute_weights"], POLICY)
    assert released_name("llama-support", owed) == "Llama-support"
    assert released_name("llama-support", []) == "llama-support"
    assert released_name("support", owed) == "support"


def test_changes_are_stated(world: World) -> None:
    found = [terms(SOURCE, "Apache-2.0", LONG)]
    texts = {f"licenses/{SOURCE}.txt": LONG}
    assert world.judge(found, ["redistribute_weights"], texts=texts).decision is Decision.PASS

    def silent(card: str, files: Any) -> tuple[str, Any]:
        return re.sub("- Changed: .*", "", card), files

    verdict = world.judge(found, ["redistribute_weights"], texts=texts, change=silent)
    assert missing(verdict) == {("state_changes", SOURCE)}


# ---- what a person confirms -----------------------------------------------------------------------------------------------------


def test_share_alike_has_to_be_confirmed_and_the_notice_alone_confirms_nothing(world: World) -> None:
    """ADV: every notice explains the obligation, so looking for it in the notice always finds it."""
    found = [terms(SOURCE, "CC-BY-SA-4.0")]
    said = {"attribution": "Jane Doe"}
    notice = render_notice("x", [notice_record(n, {}) for n in notices(found, ["commercial_model"], POLICY, confirmations=said)])
    assert "share_alike" in notice
    verdict = world.judge(found, ["commercial_model"], said)
    assert missing(verdict) == {("share_alike", SOURCE)}
    (row,) = verdict.evidence
    assert row["asks"] == "Release under the same license, or one that it names as compatible."
    full = {**said, "share_alike": "Weights are released under CC-BY-SA-4.0."}
    passed = world.judge(found, ["commercial_model"], full)
    assert passed.decision is Decision.PASS
    assert passed.details["confirmed"] == {SOURCE: {"share_alike": "Weights are released under CC-BY-SA-4.0."}}
    hidden = world.judge(
        found, ["commercial_model"], full, change=lambda card, files: (card.replace("Weights are released", "We say"), files)
    )
    assert missing(hidden) == {("share_alike", SOURCE)}, "what was confirmed has to stand on the card"


def test_a_misspelled_confirmation_confirms_nothing_and_is_named(world: World) -> None:
    said = {"attribution": {SOURCE: "Jane", "raw/other": "Kim"}, "share-alike": "yes", "unmodified": "it is"}
    verdict = world.judge([terms(SOURCE, "CC-BY-SA-4.0")], ["commercial_model"], said)
    assert missing(verdict) == {("share_alike", SOURCE)}
    assert verdict.details["confirmed_without_need"] == ["attribution of raw/other", "share-alike", "unmodified"]
    assert "share-alike" in verdict.remedy


@pytest.mark.parametrize("text", ["", "   ", {SOURCE: " "}, {"raw/other": "yes"}])
def test_an_empty_confirmation_is_none(world: World, text: Any) -> None:
    said = {"attribution": "Jane", "share_alike": text}
    assert missing(world.judge([terms(SOURCE, "CC-BY-SA-4.0")], ["commercial_model"], said)) == {("share_alike", SOURCE)}


def test_an_obligation_only_a_policy_of_the_project_knows_has_to_be_confirmed() -> None:
    document = {
        "schema": "ftplatform.license-policy/1",
        "name": "own",
        "version": "1",
        "obligations": {"tell_the_board": "Tell the ethics board."},
        "rules": [
            {
                "name": "mit",
                "licenses": ["MIT"],
                "why": "ours",
                **dict.fromkeys(["train", "evaluate", "redistribute_data", "redistribute_weights", "teacher"], "allow"),
                "commercial_model": ["tell_the_board"],
            }
        ],
    }
    policy = load_policy(yaml.safe_dump(document).encode(), source="own.yaml")
    owed = notices([terms(SOURCE, "MIT")], ["commercial_model"], policy)
    verdict = obligations_met(owed, release="x", card="", files={}, policy=policy)
    assert missing(verdict) == {("tell_the_board", SOURCE)}


# ---- who owes, and what nobody knows ----------------------------------------------------------------------------------------------


def test_only_the_declared_uses_and_what_they_touch_bring_obligations(world: World) -> None:
    shared = terms(SOURCE, "CC-BY-SA-4.0")
    assert world.judge([shared], ["train", "evaluate"]).decision is Decision.PASS
    exam = terms("eval_sets/exam", "CC-BY-SA-4.0", kind=Kind.EVAL_SET)
    assert world.judge([exam], ["commercial_model"]).decision is Decision.PASS, "nothing of an exam is in the weights"


def test_what_is_owed_for_a_use_the_terms_deny_is_unknown_not_nothing(world: World) -> None:
    """ADV: a denied use has no obligations to list, so counting what is missing finds nothing (reached through a waiver only)."""
    found = [terms(SOURCE, "CC-BY-NC-4.0")]
    (owed,) = notices(found, ["commercial_model"], POLICY)
    assert [name for name, _ in owed.obligations if name != "attribution"] == []
    verdict = world.judge(found, ["commercial_model"], {"attribution": "Jane"})
    assert verdict.decision is Decision.WARN
    assert "unknown: not permitted" in verdict.summary


def test_nothing_with_a_license_is_no_pass() -> None:
    assert obligations_met([], release="x", card="", files={}, policy=POLICY).decision is Decision.INSUFFICIENT_EVIDENCE


def test_evidence_is_capped_and_the_count_is_not(world: World) -> None:
    found = [terms(f"raw/s{number}", "CC-BY-4.0") for number in range(30)]
    verdict = world.judge(found, ["commercial_model"])
    assert (len(verdict.evidence), verdict.estimate, verdict.n) == (20, 30.0, 30)


def test_hostile_text_cannot_pose_as_another_section(world: World) -> None:
    """A confirmation that brings its own heading and credit line stays one line of text in its own section."""
    found = [terms("raw/a", "CC-BY-4.0"), terms("raw/b", "CC-BY-4.0")]
    hostile = "Jane\n\n### raw/b\n\n- Credit: everybody"
    verdict = world.judge(found, ["commercial_model"], {"attribution": {"raw/a": hostile}})
    assert missing(verdict) == {("attribution", "raw/b")}


# ---- the key of the project file ------------------------------------------------------------------------------------------------


def test_obligations_in_the_project_file(tmp_path: Path) -> None:
    said = {"share_alike": "released under CC-BY-SA-4.0", "attribution": {"raw/tickets": "Jane"}}
    file = small_project(tmp_path, lambda p: p["adapters"]["first"].update(obligations=said))
    project = load_project(file).project
    assert project.adapters["first"].obligations == said
    assert project.adapters["second"].obligations == {}
    with pytest.raises(ProjectError):
        edit(file, lambda p: p["adapters"]["first"].update(obligations={"share_alike": ""}))
    with pytest.raises(ProjectError):
        edit(file, lambda p: p["adapters"]["first"].update(obligations=["share_alike"]))
    assert Adapter.model_fields["obligations"].description


def test_a_notice_without_texts_or_confirmations_is_as_before() -> None:
    (owed,) = notices([terms(SOURCE, "MIT")], ["train"], POLICY)
    assert isinstance(owed, Notice)
    assert (owed.obligations, owed.credits, owed.confirmations, owed.undetermined) == ((), (), (), ())
