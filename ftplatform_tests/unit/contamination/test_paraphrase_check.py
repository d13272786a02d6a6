"""`contamination_paraphrase` on made-up exercises: what it decides, what it abstains from, and what people may say about it."""

from __future__ import annotations

import datetime
import random
import re
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.contamination.paraphrase import (
    REVIEW_SCHEMA,
    InvalidReview,
    ParaphraseRule,
    contamination_paraphrase,
    paraphrase_pairs,
)
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def exercise(seed: int, numbers: bool = True) -> str:
    """A question of 14 rare words and up to three numbers, with the words every exercise has."""
    rng = random.Random(seed)
    said = ["".join(rng.choices(LETTERS, k=6)) for _ in range(14)]
    figures = [str(rng.randrange(2, 200)) for _ in range(3)] if numbers else ["some", "many", "few"]
    clauses = [
        f"the {said[0]} {said[1]} has {figures[0]} {said[2]} {said[3]} {said[4]}",
        f"and buys {figures[1]} {said[5]} {said[6]} {said[7]} at {figures[2]} {said[8]} {said[9]}",
        f"how much {said[10]} {said[11]} does the {said[12]} {said[13]} have",
    ]
    return ", ".join(clauses) + "?"


def rephrased(text: str) -> str:
    """Clauses in another order, and every fifth word another one."""
    clauses = [clause.split() for clause in text.rstrip("?").split(", ")]
    words = [word for clause in (clauses[2], clauses[0], clauses[1]) for word in clause]
    return " ".join(word[::-1] + "x" if k % 5 == 1 and word.isalpha() else word for k, word in enumerate(words))


def items(n: int = 120, numbers: bool = True, **columns: Any) -> list[dict[str, Any]]:
    return [row(exercise(seed, numbers), f"worked out, #### {seed}", **columns) for seed in range(n)]


def fresh(n: int = 300, numbers: bool = True) -> list[dict[str, Any]]:
    return [row(exercise(10_000 + seed, numbers), f"worked out, #### {10_000 + seed}") for seed in range(n)]


def text(of: dict[str, Any]) -> str:
    return of["messages"][0]["content"]


def review(item: dict[str, Any], of: dict[str, Any], verdict: str, by: str = "ana", at: datetime.datetime = NOON) -> dict[str, Any]:
    return {"eval_row_id": item["row_id"], "train_row_id": of["row_id"], "verdict": verdict, "by": by, "at": at}


def check(train: list[dict[str, Any]], evals: list[dict[str, Any]], *reviews: dict[str, Any], **rule: Any):
    said = pa.Table.from_pylist(list(reviews), schema=REVIEW_SCHEMA) if reviews else None
    return contamination_paraphrase(table(train), {"sums": table(evals)}, ParaphraseRule(**rule), reviewed=said)


def eight_grams(of: str) -> set[tuple[str, ...]]:
    said = re.findall(r"\w+", of.lower())
    return {tuple(said[k : k + 8]) for k in range(len(said) - 7)}


def test_rephrased_items_are_found_and_confirmed_by_their_numbers() -> None:
    own = items()
    copies = [row(rephrased(text(item)), surface="synthetic") for item in own[:12]]
    verdict = check([*fresh(), *copies], own)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == pytest.approx(12 / 120)
    assert verdict.n == 120
    assert {e["train_row_id"] for e in verdict.evidence} == {copy["row_id"] for copy in copies}
    assert {(e["by"], e["door"], e["status"]) for e in verdict.evidence} == {("numbers", "synthetic seed", "confirmed")}
    assert verdict.details["by_door"] == {"synthetic seed": 12}
    assert verdict.tier == "TF-IDF"
    assert verdict.plot is not None
    assert verdict.plot.startswith("<svg")
    # No eight words in a row are the same: a rule of n-grams finds none of them.
    assert not any(eight_grams(text(item)) & eight_grams(text(copy)) for item, copy in zip(own, copies, strict=False))


def test_fresh_exercises_of_the_same_kind_pass() -> None:
    verdict = check(fresh(), items())
    assert verdict.decision is Decision.PASS
    assert verdict.evidence == ()
    assert "cross-lingual tier not run" in verdict.summary
    assert verdict.details["cross_lingual"] == "cross-lingual tier not run"
    assert verdict.details["non_latin_share"] == {"evals": 0.0, "train": 0.0}


def test_a_paraphrase_inside_a_long_conversation_is_found() -> None:
    own = items()
    talk = row("hello there", "hi", rephrased(text(own[3])), "let me see", "thanks a lot", "bye")
    (hit,) = check([*fresh(), talk], own).evidence
    assert (hit["eval_row_id"], hit["train_row_id"]) == (own[3]["row_id"], talk["row_id"])


def test_system_prompts_are_not_compared() -> None:
    own = items()
    assert check([*fresh(), row(("system", rephrased(text(own[3]))), ("user", "go on"))], own).decision is Decision.PASS


def test_without_any_signal_a_suspect_waits_for_a_person() -> None:
    own = items(numbers=False)
    copy = row(rephrased(text(own[5])), "no number here")
    train = [*fresh(numbers=False), copy]
    verdict = check(train, own)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert [(e["eval_row_id"], e["train_row_id"], e["status"]) for e in verdict.evidence] == [
        (own[5]["row_id"], copy["row_id"], "open")
    ]
    cleared = check(train, own, review(own[5], copy, "different"))
    assert cleared.decision is Decision.PASS
    assert cleared.details["pairs"] == {"confirmed": 0, "open": 0, "cleared": 1}
    assert check(train, own, review(own[5], copy, "paraphrase")).decision is Decision.FAIL
    # A verdict on another pair says nothing about this one.
    assert check(train, own, review(own[4], copy, "different")).decision is Decision.INSUFFICIENT_EVIDENCE


def test_the_same_telling_answer_confirms_and_a_common_one_does_not() -> None:
    own = [row(exercise(seed, numbers=False), f"#### {900 + seed if seed else 7}" if seed % 2 else "yes") for seed in range(120)]
    telling, common = row(rephrased(text(own[5])), "so it is 905.00"), row(rephrased(text(own[6])), "Yes!")
    verdict = check([*fresh(numbers=False), telling], own)
    assert (verdict.decision, verdict.evidence[0]["by"]) == (Decision.FAIL, "answer")
    assert check([*fresh(numbers=False), common], own).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_person_overrules_a_signal_and_the_latest_word_counts() -> None:
    own = items()
    copy = row(rephrased(text(own[0])))
    train = [*fresh(), copy]
    assert check(train, own, review(own[0], copy, "different")).decision is Decision.PASS
    later = NOON + datetime.timedelta(days=1)
    both = [review(own[0], copy, "different"), review(own[0], copy, "paraphrase", "bo", later)]
    verdict = check(train, own, *both)
    assert (verdict.decision, verdict.evidence[0]["by"]) == (Decision.FAIL, "bo")
    at_once = [review(own[0], copy, "paraphrase"), review(own[0], copy, "different", "bo")]
    assert check(train, own, *at_once).decision is Decision.FAIL


def test_a_person_may_know_of_a_paraphrase_that_no_search_finds() -> None:
    own = items()
    foreign = row("Вопрос тот же, слова другие")
    train = [*fresh(), foreign]
    assert check(train, own).decision is Decision.PASS
    verdict = check(train, own, review(own[0], foreign, "paraphrase"))
    assert verdict.decision is Decision.FAIL
    (hit,) = verdict.evidence
    assert (hit["eval_row_id"], hit["train_row_id"], hit["by"], hit["similarity"]) == (
        own[0]["row_id"],
        foreign["row_id"],
        "ana",
        None,
    )
    # The row is gone, and with it the finding.
    assert check(fresh(), own, review(own[0], foreign, "paraphrase")).decision is Decision.PASS


def test_another_answer_and_other_numbers_clear_a_suspect() -> None:
    own = [row(exercise(seed), f"#### {900 + seed}") for seed in range(120)]
    variant = re.sub(r"\d+", lambda found: str(int(found.group()) + 1), rephrased(text(own[0])))
    loose: dict[str, Any] = {"quantile": 0.96, "number_weight_lexical": 0.0}
    known = row(variant, "#### 7")
    assert check([*fresh(), known], own, **loose).decision is Decision.PASS
    listed = paraphrase_pairs(table([*fresh(), known]), {"sums": table(own)}, ParaphraseRule(**loose)).to_pylist()
    (pair,) = [pair for pair in listed if pair["train_row_id"] == known["row_id"]]
    assert (pair["eval_row_id"], pair["status"], pair["by"]) == (own[0]["row_id"], "cleared", "other numbers and answer")
    # Two sentences that differ do not contradict each other.
    assert check([*fresh(), row(variant, "it is on its way")], own, **loose).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_review_holds_for_every_row_of_the_same_text() -> None:
    own = items()
    copy = rephrased(text(own[0]))
    train = [*fresh(), row(copy, "first answer"), row(copy.upper(), "second answer")]
    assert check(train, own).decision is Decision.FAIL
    assert check(train, own, review(own[0], train[-1], "different")).decision is Decision.PASS


def test_few_items_are_no_ground_for_a_threshold() -> None:
    verdict = check(fresh(), items(30))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "Too few items" in verdict.summary
    # All rows of one family are one item as far as ordinary similarity is concerned.
    assert check(fresh(), items(120, group="one")).decision is Decision.INSUFFICIENT_EVIDENCE
    # A person's word needs no threshold.
    copy = row(rephrased(exercise(3)))
    small = items(30)
    assert check([*fresh(), copy], small, review(small[3], copy, "paraphrase")).decision is Decision.FAIL


def test_eval_items_that_repeat_each_other_need_families() -> None:
    bases = [exercise(seed) for seed in range(60)]
    twins = [row(form) for base in bases for form in (base, base.replace("the ", "that "))]
    blind = check(fresh(), twins)
    assert blind.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "so alike" in blind.summary
    told = [row(text(twin), group=str(k // 2)) for k, twin in enumerate(twins)]
    assert check(fresh(), told).decision is Decision.PASS
    # A threshold taken over all pairs, families or not, would have let a rephrased item through in silence.
    copy = row(rephrased(bases[0]))
    assert check([*fresh(), copy], twins).decision is not Decision.FAIL
    assert check([*fresh(), copy], told).decision is Decision.FAIL


def test_nothing_is_never_a_pass() -> None:
    assert check([], items()).decision is Decision.INSUFFICIENT_EVIDENCE
    assert check(fresh(), []).decision is Decision.INSUFFICIENT_EVIDENCE
    assert contamination_paraphrase(table(fresh()), {}).decision is Decision.INSUFFICIENT_EVIDENCE
    wordless = [row(("assistant", f"answer {k}")) for k in range(12)]
    mostly = check(fresh(), [*items(), *wordless])
    assert mostly.decision is Decision.INSUFFICIENT_EVIDENCE
    assert mostly.details["uncheckable_share"] == pytest.approx(12 / 132)
    assert check(fresh(), wordless).decision is Decision.INSUFFICIENT_EVIDENCE
    assert check([row(("system", "only a prompt"))], items()).decision is Decision.INSUFFICIENT_EVIDENCE


def test_evidence_is_masked_and_limited_and_the_full_list_is_a_table() -> None:
    own = items()
    copies = [row(rephrased(text(item)) + " write to jo@example.org") for item in own[:40]]
    verdict = check([*fresh(), *copies], own)
    assert len(verdict.evidence) == 20
    assert "jo@example.org" not in str(verdict.to_record())
    pairs = paraphrase_pairs(table([*fresh(), *copies]), {"sums": table(own)})
    named = list(zip(pairs["eval_row_id"].to_pylist(), pairs["train_row_id"].to_pylist(), strict=True))
    assert {(item["row_id"], copy["row_id"]) for item, copy in zip(own, copies, strict=False)} <= set(named)
    assert len(set(named)) == pairs.num_rows >= 40


def test_other_scripts_are_counted() -> None:
    verdict = check([*fresh(10), row("где мой возврат денег за посылку")], items())
    assert 0 < verdict.details["non_latin_share"]["train"] < 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [({"verdict": "maybe"}, "'maybe' by 'ana'"), ({"by": " "}, "by ' '")],
)
def test_unusable_reviews_are_refused(change: dict[str, Any], message: str) -> None:
    own = items()
    with pytest.raises(InvalidReview, match=message) as caught:
        check(fresh(5), own, {**review(own[0], own[1], "different"), **change})
    assert own[0]["row_id"] in str(caught.value)
    assert caught.value.remedy


def test_a_review_without_a_person_is_refused() -> None:
    columns = pa.Table.from_pylist([], schema=REVIEW_SCHEMA).drop_columns(["by"])
    with pytest.raises(InvalidReview, match="no column 'by'"):
        contamination_paraphrase(table(fresh(5)), {"sums": table(items())}, reviewed=columns)


@pytest.mark.parametrize("rule", [{"candidates": 0}, {"quantile": 1.0}, {"min_items": 1}])
def test_unusable_rules_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(InputDataError):
        ParaphraseRule(**rule)


def test_equal_input_gives_equal_output() -> None:
    own = items()
    train = [*fresh(), *(row(rephrased(text(item))) for item in own[:5])]
    first, second = check(train, own), check(train, own)
    assert first == second
    assert first.config_hash == second.config_hash
    assert first.config_hash != check(train, own, quantile=0.99).config_hash
