"""Each planted thing makes influence_removed refuse, and name it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from ftplatform.licensing.removal.ban import Ban, Reach
from ftplatform.licensing.removal.check import influence_removed
from ftplatform.licensing.removal.claim import Claimed, Matcher, resolve
from ftplatform.licensing.removal.closure import Ancestor, Cache, Closure
from ftplatform.licensing.removal.matching import find
from ftplatform.licensing.rights import EdgeRole
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.licensing.removal.world import (
    BASE,
    adapter,
    clean_probe,
    lost_grant,
    near_duplicates,
    row_set,
    sentence,
    snapshot,
)

THEIRS = [row("q", sentence(k, 30), source="raw/b") for k in range(6)]
OURS = [row("q", sentence(100 + k, 30), source="raw/a") for k in range(12)]
CLAIMED: Claimed = resolve(Matcher(rows=table(THEIRS)))
BAN: Ban = find(CLAIMED, [row_set("raw/b", THEIRS)]).ban("notices/1", CLAIMED)
SPLIT = row_set("splits/s", OURS)


def check(closure: Closure, ban: Ban = BAN, **more: Any) -> Verdict:
    given = {"clean": {BASE}, "probe": clean_probe(closure, ban), "claimed": CLAIMED, "near": near_duplicates, **more}
    return influence_removed(closure, ban, **given)


def refused(verdict: Verdict, kind: str, *named: str) -> None:
    assert verdict.decision is Decision.FAIL, verdict.summary
    assert verdict.details["status"] == "not_removed"
    assert verdict.evidence[0]["kind"] == kind
    told = " ".join(str(value) for value in (verdict.summary, *verdict.evidence[0].values()))
    assert all(name in told for name in named), told


def test_a_clean_closure_passes() -> None:
    verdict = check(adapter("adapters/new", SPLIT))
    assert (verdict.decision, verdict.n, verdict.details["status"]) == (Decision.PASS, 12, "removed"), verdict.summary
    assert verdict.details["near"] == {"searched": True, "rows": 12, "certain": 0, "open": 0, "cleared": 0}


def test_one_banned_row() -> None:
    refused(check(adapter("adapters/new", row_set("splits/s", [*OURS, THEIRS[3]]))), "row", "splits/s", THEIRS[3]["row_id"])


def test_one_synthetic_child_whose_words_and_origin_are_ours() -> None:
    child = row("q", sentence(500, 30), source="synthetic/x", parents=["teacher:t", THEIRS[0]["row_id"]])
    closure = adapter("adapters/new", row_set("splits/s", [*OURS, child]))
    refused(check(closure), "row", "derived from banned rows", child["row_id"], THEIRS[0]["row_id"])


def test_one_continued_adapter() -> None:
    old = adapter("adapters/old", row_set("splits/old", [*OURS, THEIRS[1]]))
    new = adapter("adapters/new", SPLIT, ancestors=[Ancestor("adapters/old", EdgeRole.CONTINUED_ADAPTER, old.snapshot, old)])
    refused(check(new), "row", "continued_adapter adapters/old", THEIRS[1]["row_id"])
    # Two generations away, through a reward model.
    reward = adapter("rewards/r", SPLIT, ancestors=[Ancestor("adapters/old", EdgeRole.BASE_MODEL, old.snapshot, old)])
    newest = adapter("adapters/n", SPLIT, ancestors=[Ancestor("rewards/r", EdgeRole.REWARD_MODEL, reward.snapshot, reward)])
    refused(check(newest), "row", "reward_model rewards/r < base_model adapters/old")


@pytest.mark.parametrize("role", [EdgeRole.CONTINUED_ADAPTER, EdgeRole.TEACHER, EdgeRole.REWARD_MODEL, EdgeRole.BASE_MODEL])
def test_an_ancestor_that_nobody_examined_is_outside_the_clean_set(role: EdgeRole) -> None:
    closure = adapter("adapters/new", SPLIT, ancestors=[Ancestor("models/m", role, snapshot("m"))])
    refused(check(closure), "ancestor", f"{role} models/m", "outside the clean set")
    assert check(closure, clean={BASE, snapshot("m")}).passed


def test_the_base_model_is_no_exception_and_a_banned_model_is_never_clean() -> None:
    closure = adapter("adapters/new", SPLIT)
    refused(check(closure, clean=()), "ancestor", "base_models/tiny")
    ban = Ban(notice="n", reach=Reach.GRANT, artifacts=frozenset({BASE}))
    refused(check(closure, ban), "ancestor", "is banned itself")


def test_models_that_only_selected_or_judged_do_not_count() -> None:
    bystanders = [Ancestor(f"models/{role}", role, snapshot(role)) for role in (EdgeRole.SELECTION, EdgeRole.EVALUATES)]
    assert check(adapter("adapters/new", SPLIT, ancestors=bystanders)).passed


def test_a_banned_row_in_a_cache() -> None:
    ids = table([*OURS, THEIRS[2]]).select(["row_id"])
    cache = Cache(name="dedup/index", kind="dedup index", snapshot="i", read=lambda: [ids])
    refused(check(adapter("adapters/new", SPLIT, caches=(cache,))), "cache", "dedup/index (dedup index)", THEIRS[2]["row_id"])
    tokenizer = replace(cache, name="tokenizers/t", kind="tokenizer", read=lambda: [table(OURS)])
    assert check(adapter("adapters/new", SPLIT, caches=(tokenizer,))).passed
    opaque = check(adapter("adapters/new", SPLIT, caches=(replace(cache, read=None),)))
    assert opaque.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "nobody knows which rows" in opaque.summary


def test_a_near_duplicate_under_an_id_of_its_own() -> None:
    near = row("q", THEIRS[4]["messages"][1]["content"] + " indeed", source="mirror")
    closure = adapter("adapters/new", row_set("splits/s", [*OURS, near]))
    refused(check(closure), "near", "splits/s", near["row_id"], THEIRS[4]["row_id"], "similarity 0.9")
    kept = replace(BAN, cleared=frozenset({near["row_id"]}))
    assert check(closure, kept).details["near"]["cleared"] == 1
    assert check(closure, kept).passed


def test_the_same_words_under_another_id() -> None:
    copy = row(("system", "Be kind."), *[(m["role"], m["content"].upper()) for m in THEIRS[5]["messages"]], source="mirror")
    closure = adapter("adapters/new", row_set("splits/s", [*OURS, copy]))
    refused(check(closure), "text", "splits/s", copy["row_id"])
    kept = replace(BAN, cleared=frozenset({copy["row_id"]}))
    refused(check(closure, kept), "text")


def test_a_resembling_row_waits_for_a_person() -> None:
    words = THEIRS[0]["messages"][1]["content"].split()
    similar = row("q", " ".join(words[:24] + sentence(9, 6).split()), source="raw/a")
    closure = adapter("adapters/new", row_set("splits/s", [*OURS, similar]))
    verdict = check(closure)
    assert (verdict.decision, verdict.details["near"]["open"]) == (Decision.WARN, 1)
    assert verdict.evidence[0]["row_id"] == similar["row_id"]
    assert check(closure, replace(BAN, cleared=frozenset({similar["row_id"]}))).passed


@pytest.mark.parametrize("how", ["gradient_ascent", "projection", "unlearned"])
def test_weights_made_to_forget_are_mitigated_not_removed(how: str) -> None:
    verdict = check(adapter("adapters/new", SPLIT, mitigations=(how,)))
    assert (verdict.decision, verdict.details["status"]) == (Decision.FAIL, "mitigated_not_removed")
    old = adapter("adapters/old", SPLIT, mitigations=(how,))
    new = adapter("adapters/new", SPLIT, ancestors=[Ancestor("adapters/old", EdgeRole.CONTINUED_ADAPTER, old.snapshot, old)])
    assert check(new).details["status"] == "mitigated_not_removed"


def test_too_little_is_never_a_pass() -> None:
    closure = adapter("adapters/new", SPLIT)
    gaps = {
        "the regurgitation probe was not run": check(closure, probe=None),
        "no function finds near duplicates": check(closure, near=None),
        "the claimed texts are not given": check(closure, claimed=None),
        "the claim is not the one": check(closure, claimed=resolve(Matcher(texts=(sentence(77, 30),)))),
        "needs 299 prompts": check(closure, probe=clean_probe(closure, BAN, 100)),
        "about another artifact": check(closure, probe=clean_probe(adapter("adapters/other", SPLIT), BAN)),
        "about another ban": check(closure, probe=clean_probe(closure, lost_grant("raw/b"))),
        "there are no rows to look at": check(adapter("adapters/new", SPLIT, row_set("splits/t", []))),
        "no rows are declared": check(adapter("adapters/new"), clean={BASE, snapshot("adapters/new")}),
        "descent of 1 row(s) is unknown": check(
            adapter("adapters/new", row_set("s", [*OURS, row("x", parents=[snapshot("gone")])]))
        ),
    }
    for told, verdict in gaps.items():
        assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE, (told, verdict.summary)
        assert told in verdict.summary
        assert verdict.details["status"] == "not_shown"


def test_recitation_fails_it() -> None:
    closure = adapter("adapters/new", SPLIT)
    failing = replace(clean_probe(closure, BAN), decision=Decision.FAIL, summary="9 of 299 prompts recited.")
    refused(check(closure, probe=failing), "probe", "9 of 299")


def test_a_tainted_eval_set_leaves_the_weights_valid_and_is_on_record() -> None:
    """LIC-05, the half about weights; claims are judged in test_claims."""
    verdict = check(adapter("adapters/new", SPLIT, row_set("eval_sets/e", THEIRS, EdgeRole.EVALUATES)))
    assert verdict.passed
    assert [(line["name"], line["fallen"]) for line in verdict.details["recorded"]] == [("eval_sets/e", 6)]


def test_a_lost_grant_asks_for_no_near_search_and_leaves_other_origins() -> None:
    shared = {**THEIRS[0], "origins": ["raw/a", "raw/b"]}
    closure = adapter("adapters/new", row_set("splits/s", [*OURS, shared]))
    ban = lost_grant("raw/b")
    verdict = check(closure, ban, claimed=None, near=None)
    assert verdict.passed
    assert verdict.details["kept_by_another_origin"] == 1
    refused(check(adapter("adapters/new", row_set("splits/s", [*OURS, THEIRS[0]])), ban), "row", THEIRS[0]["row_id"])


def test_lineage_may_hold_banned_rows() -> None:
    child = row("q", sentence(600, 30), source="synthetic/x", parents=[OURS[0]["row_id"]])
    closure = adapter("adapters/new", row_set("splits/s", [child]), lineage=(row_set("raw/all", [*OURS, *THEIRS]),))
    assert check(closure).passed


def test_every_closure_is_walked_once_whatever_the_paths() -> None:
    """Forty diamonds have a trillion paths."""
    current = adapter("adapters/0", SPLIT)
    for k in range(1, 40):
        parents = [
            Ancestor(f"adapters/{k - 1}", role, current.snapshot, current) for role in (EdgeRole.TEACHER, EdgeRole.REWARD_MODEL)
        ]
        current = adapter(f"adapters/{k}", SPLIT, ancestors=parents)
    assert len(list(current.walk())) == 40
    assert check(current).n == 12


def test_the_ban_is_known_by_its_content() -> None:
    again = replace(BAN, row_ids=pl.Series(BAN.row_ids.to_list()[::-1]))
    assert again.digest == BAN.digest
    assert replace(BAN, row_ids=BAN.row_ids[1:]).digest != BAN.digest
